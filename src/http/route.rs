//! The table of all routes: a new path is a new row.

use tiny_http::{Method, ResponseBox};

use crate::app::App;
use crate::config::Limits;

use super::api::{batch, clients, deletion, health, messages, metrics, rooms, stats};
use super::authorize::Requirement::{self, Admin, Identity, PublishToRoom, ReadRoom, ReadRooms};
#[cfg(feature = "docs")]
use super::docs;
use super::request::{Admitted, Request};
use super::response::{WithHeader, error};
use super::wire::Head;
use super::{assets, cors};

use Handler::{EventStream, Private, Public, WebSocket};

/// Bytes of a body that no handler reads. Few clients send a body with a GET, and none needs a large one.
const UNUSED_BODY_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a body with several messages, unless a single one may be larger.
const MESSAGES_BYTES_MAX: usize = 256 * 1024;

/// A row of the table.
pub(crate) struct Route {
    /// A `GET` route also matches `HEAD`.
    method: Method,
    /// The path's segments; `{}` matches any one segment.
    pattern: &'static [&'static str],
    body: BodyLimit,
    pub(crate) handler: Handler,
}

/// The largest body that a route accepts.
#[derive(Clone, Copy)]
enum BodyLimit {
    /// The route has no use for a body; a small one is read and dropped.
    Unused,
    /// The body is a message, with the limit of a WebSocket message.
    Message,
    /// The body is several messages.
    Messages,
}

/// The handler of a route.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    /// A response to any client.
    Public(fn(&Request, &App) -> ResponseBox),
    /// A response to clients that meet the requirement. `Err` is a response too, so that a handler can stop with `?`.
    Private(
        Requirement,
        fn(&Admitted<'_>, &App) -> Result<ResponseBox, ResponseBox>,
    ),
    /// A WebSocket. The handshake authorizes the client itself, because the token may follow the handshake.
    WebSocket(WebSocketKind),
    /// The events of the room in the path, or of those in the query.
    EventStream(Requirement),
}

/// The protocol over a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WebSocketKind {
    /// JSON messages, as the server documents them.
    Session,
    /// Every message is echoed, for conformance suites.
    Echo,
    /// No WebSocket has this path. A page receives a Close frame.
    Missing,
}

const ROUTES: &[Route] = &[
    get(&[""], Public(assets::page)),
    get(&["assets", "{}"], Public(assets::asset)),
    get(&["assets", "{}", "{}"], Public(assets::asset)),
    get(&["assets", "{}", "{}", "{}"], Public(assets::asset)),
    #[cfg(feature = "docs")]
    get(&["docs"], Public(docs::docs)),
    #[cfg(feature = "docs")]
    get(&["docs", "{}"], Public(docs::docs)),
    #[cfg(feature = "docs")]
    get(&["docs", "{}", "{}"], Public(docs::docs)),
    #[cfg(feature = "docs")]
    get(&["openapi.json"], Public(docs::openapi)),
    #[cfg(feature = "docs")]
    get(&["llms.txt"], Public(docs::llms)),
    get(&["health"], Public(health::health)),
    get(&["health", "live"], Public(health::live)),
    get(&["health", "ready"], Public(health::ready)),
    get(&["stats"], Private(Identity, stats::stats)),
    get(&["metrics"], Private(Identity, metrics::metrics)),
    get(&["rooms"], Private(Identity, rooms::list)),
    get(&["rooms", "{}"], Private(ReadRoom, rooms::describe)),
    get(
        &["rooms", "{}", "messages"],
        Private(ReadRoom, messages::list),
    ),
    Route {
        method: Method::Post,
        pattern: &["rooms", "{}", "messages"],
        body: BodyLimit::Message,
        handler: Private(PublishToRoom, messages::publish),
    },
    Route {
        method: Method::Post,
        pattern: &["messages"],
        body: BodyLimit::Messages,
        handler: Private(Identity, batch::publish),
    },
    delete(
        &["rooms", "{}", "messages"],
        Private(Admin, deletion::delete_all),
    ),
    delete(
        &["rooms", "{}", "messages", "{}"],
        Private(Admin, deletion::delete_one),
    ),
    get(&["rooms", "{}", "events"], EventStream(ReadRoom)),
    get(&["events"], EventStream(ReadRooms)),
    get(&["clients"], Private(Admin, clients::list)),
    delete(&["clients", "{}"], Private(Admin, clients::close_client)),
    delete(
        &["users", "{}", "clients"],
        Private(Admin, clients::close_user),
    ),
    Route {
        method: Method::Post,
        pattern: &["users", "{}", "revoke"],
        body: BodyLimit::Unused,
        handler: Private(Admin, clients::revoke_user),
    },
    get(&["ws"], WebSocket(WebSocketKind::Session)),
    get(&["echo"], WebSocket(WebSocketKind::Echo)),
];

const fn get(pattern: &'static [&'static str], handler: Handler) -> Route {
    Route {
        method: Method::Get,
        pattern,
        body: BodyLimit::Unused,
        handler,
    }
}

const fn delete(pattern: &'static [&'static str], handler: Handler) -> Route {
    Route {
        method: Method::Delete,
        pattern,
        body: BodyLimit::Unused,
        handler,
    }
}

impl Route {
    /// The largest body that this route accepts, in bytes.
    pub(crate) fn body_bytes_max(&self, limits: &Limits) -> usize {
        match self.body {
            BodyLimit::Unused => UNUSED_BODY_BYTES_MAX,
            BodyLimit::Message => limits.max_message_bytes,
            BodyLimit::Messages => limits.max_message_bytes.max(MESSAGES_BYTES_MAX),
        }
    }

    fn is_enabled(&self, app: &App) -> bool {
        match self.handler {
            WebSocket(WebSocketKind::Echo) => app.config.get().echo,
            _ => true,
        }
    }

    fn matches_path(&self, path: &[String]) -> bool {
        let pattern = self.pattern;
        pattern.len() == path.len() && pattern.iter().zip(path).all(|(p, s)| *p == "{}" || p == s)
    }

    /// A handshake with a wrong method belongs to its route as well: the handshake rejects it with the reason.
    fn matches_method(&self, head: &Head) -> bool {
        self.method == head.method
            || (self.method == Method::Get && head.method == Method::Head)
            || (matches!(self.handler, WebSocket(_)) && asks_for_upgrade(head))
    }

    /// Returns whether the request starts an event stream; a HEAD request gets only the head of its response.
    pub(crate) fn is_event_stream(&self, head: &Head) -> bool {
        self.stream_requirement(head).is_some()
    }

    /// Returns the rights that an event stream requires, if the request starts one.
    pub(crate) fn stream_requirement(&self, head: &Head) -> Option<Requirement> {
        match self.handler {
            EventStream(requirement) if head.method == Method::Get => Some(requirement),
            _ => None,
        }
    }
}

/// Returns whether the request is a WebSocket handshake, well-formed or not.
pub(crate) fn asks_for_upgrade(head: &Head) -> bool {
    head.headers.contains("Upgrade")
        || head.headers.lists("Connection", "upgrade")
        || head.headers.contains("Sec-WebSocket-Key")
}

/// Finds the route of a request. `Err` is the response to a request without a route: 404, 405, or the response to
/// OPTIONS.
///
/// Not inlined, so that its frame is off the stack before a session starts.
#[inline(never)]
pub(crate) fn find(head: &Head, app: &App) -> Result<&'static Route, ResponseBox> {
    let mut routes: Vec<&Route> = Vec::new();
    for path in spellings(&head.segments) {
        let matching = |route: &&Route| route.matches_path(path) && route.is_enabled(app);
        let matching: Vec<&Route> = ROUTES.iter().filter(matching).collect();
        if let Some(route) = matching.iter().find(|route| route.matches_method(head)) {
            return Ok(route);
        }
        if routes.is_empty() {
            routes = matching;
        }
    }
    let is_options = head.method == Method::Options;
    let is_server_wide = is_options && head.segments == ["*"];
    if routes.is_empty() && !is_server_wide {
        let message = "no such path; the page is at /, the WebSocket at /ws";
        return Err(error(404, "not_found", message));
    }
    let allow = allow(&routes);
    if is_options {
        return Err(cors::preflight(
            head,
            &allow,
            &app.config.get().allow_origin,
        ));
    }
    let message = format!("this path allows {allow}");
    Err(error(405, "method_not_allowed", &message).with("Allow", &allow))
}

/// Returns whether the request asks for an event stream. A refusal of it is then sent as an event stream.
pub(crate) fn asks_for_events(head: &Head, app: &App) -> bool {
    let is_stream = |route: &Route| route.is_event_stream(head);
    head.accepts_events() && find(head, app).is_ok_and(is_stream)
}

/// Returns the spellings of a path: unchanged, then without a slash at its end, because frameworks and proxies add one.
///
/// `/rooms/` stays the room without a name, which is an error, because a program that leaves out a name must not get
/// the list of rooms. No other spellings exist that a proxy's rule for a path would have to cover.
fn spellings(path: &[String]) -> impl Iterator<Item = &[String]> {
    let shorter = match path {
        [shorter @ .., last] if last.is_empty() => Some(shorter),
        _ => None,
    };
    let shorter = shorter.filter(|path| path.last().is_some_and(|last| !last.is_empty()));
    std::iter::once(path).chain(shorter)
}

/// Lists the methods of a path. No two routes share both pattern and method, so none is listed twice.
fn allow(routes: &[&Route]) -> String {
    let methods = routes.iter().map(|route| match &route.method {
        Method::Get => "GET, HEAD",
        other => other.as_str(),
    });
    methods.chain(["OPTIONS"]).collect::<Vec<_>>().join(", ")
}

/// The response to a WebSocket's path without a handshake.
pub(crate) fn upgrade_required() -> ResponseBox {
    let message = "this is a WebSocket: connect with ws:// or wss://";
    error(426, "upgrade_required", message).with("Sec-WebSocket-Version", "13")
}

#[cfg(all(test, feature = "docs"))]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    const OPENAPI: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/openapi.json"));

    /// Returns the operations of the description: by method, and path with `{}` for each parameter.
    fn described() -> BTreeMap<(String, String), Value> {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let mut operations = BTreeMap::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let segments = path.split('/').map(|segment| match segment {
                parameter if parameter.starts_with('{') => "{}",
                other => other,
            });
            let pattern = segments.collect::<Vec<_>>().join("/");
            for (method, operation) in item.as_object().unwrap() {
                let key = (method.to_uppercase(), pattern.clone());
                assert!(
                    operations.insert(key, operation.clone()).is_none(),
                    "{path}"
                );
            }
        }
        operations
    }

    #[test]
    fn description_has_every_route_with_its_parameters_and_refusals() {
        let mut described = described();
        for route in ROUTES {
            let key = (
                route.method.as_str().to_owned(),
                format!("/{}", route.pattern.join("/")),
            );
            let operation = described.remove(&key).unwrap_or_else(|| panic!("{key:?}"));
            let parameters = operation["parameters"].as_array();
            let in_path = parameters
                .into_iter()
                .flatten()
                .filter(|p| p["in"] == "path");
            let expected = route.pattern.iter().filter(|segment| **segment == "{}");
            assert_eq!(in_path.count(), expected.count(), "{key:?}");
            let has_status = |status: &str| !operation["responses"][status].is_null();
            let needs_rights = match route.handler {
                Public(_) | WebSocket(WebSocketKind::Echo | WebSocketKind::Missing) => None,
                Private(Requirement::Identity, _) => Some(false),
                Private(..) | EventStream(_) | WebSocket(WebSocketKind::Session) => Some(true),
            };
            assert_eq!(has_status("401"), needs_rights.is_some(), "{key:?}");
            assert_eq!(has_status("403"), needs_rights == Some(true), "{key:?}");
            let takes_body = matches!(route.body, BodyLimit::Message | BodyLimit::Messages);
            assert_eq!(!operation["requestBody"].is_null(), takes_body, "{key:?}");
            assert_eq!(has_status("413"), takes_body, "{key:?}");
            assert!(has_status("429"), "{key:?}");
        }
        assert!(
            described.is_empty(),
            "no such routes: {:?}",
            described.keys()
        );
    }
}
