//! Which handler answers which path and method: the table of the README, in code.

use tiny_http::{Method, ResponseBox};

use crate::app::App;

use super::access::{Requirement, admit};
use super::answer::WithHeader;
use super::{Request, api, assets, clients, cors, error, messages};

type Handler = fn(&Request, &App) -> ResponseBox;

struct Route {
    /// `{}` stands for any one segment.
    pattern: &'static [&'static str],
    /// GET answers HEAD too.
    method: Method,
    needs: Requirement,
    handler: Handler,
}

const ROUTES: &[Route] = &[
    Route {
        pattern: &[""],
        method: Method::Get,
        needs: Requirement::Nothing,
        handler: assets::page,
    },
    Route {
        pattern: &["assets", "{}"],
        method: Method::Get,
        needs: Requirement::Nothing,
        handler: assets::asset,
    },
    Route {
        pattern: &["assets", "{}", "{}"],
        method: Method::Get,
        needs: Requirement::Nothing,
        handler: assets::asset,
    },
    Route {
        pattern: &["health"],
        method: Method::Get,
        needs: Requirement::Nothing,
        handler: api::health,
    },
    Route {
        pattern: &["stats"],
        method: Method::Get,
        needs: Requirement::Identity,
        handler: api::stats,
    },
    Route {
        pattern: &["metrics"],
        method: Method::Get,
        needs: Requirement::Identity,
        handler: api::metrics,
    },
    Route {
        pattern: &["rooms"],
        method: Method::Get,
        needs: Requirement::Identity,
        handler: api::rooms,
    },
    Route {
        pattern: &["rooms", "{}"],
        method: Method::Get,
        needs: Requirement::Identity,
        handler: api::room,
    },
    Route {
        pattern: &["rooms", "{}", "messages"],
        method: Method::Get,
        needs: Requirement::Identity,
        handler: messages::list,
    },
    Route {
        pattern: &["rooms", "{}", "messages"],
        method: Method::Post,
        needs: Requirement::Identity,
        handler: messages::publish,
    },
    Route {
        // A GET without a body is streamed before it comes here.
        pattern: &["rooms", "{}", "events"],
        method: Method::Get,
        needs: Requirement::Identity,
        handler: messages::events_head,
    },
    Route {
        pattern: &["clients"],
        method: Method::Get,
        needs: Requirement::Admin,
        handler: clients::list,
    },
    Route {
        pattern: &["clients", "{}"],
        method: Method::Delete,
        needs: Requirement::Admin,
        handler: clients::close_client,
    },
    Route {
        pattern: &["users", "{}", "clients"],
        method: Method::Delete,
        needs: Requirement::Admin,
        handler: clients::close_user,
    },
    Route {
        pattern: &["ws"],
        method: Method::Get,
        needs: Requirement::Nothing,
        handler: api::upgrade_required,
    },
    Route {
        pattern: &["echo"],
        method: Method::Get,
        needs: Requirement::Nothing,
        handler: api::upgrade_required,
    },
];

impl Route {
    fn matches(&self, request: &Request) -> bool {
        let (pattern, path) = (self.pattern, &request.segments);
        pattern.len() == path.len() && pattern.iter().zip(path).all(|(p, s)| *p == "{}" || p == s)
    }

    fn answers(&self, method: &Method) -> bool {
        self.method == *method || (self.method == Method::Get && *method == Method::Head)
    }
}

/// Whether the request asks for a WebSocket on a path that has one: the handshake judges it then.
pub fn is_websocket(request: &Request, app: &App) -> bool {
    let path = request.segments.as_slice();
    let has_websocket = path == ["ws"] || (path == ["echo"] && app.config.echo);
    let asks = request.header_lines("Upgrade").next().is_some()
        || request.header_lists("Connection", "upgrade")
        || request.header_lines("Sec-WebSocket-Key").next().is_some();
    has_websocket && asks
}

/// Answers a request that is not a WebSocket's.
pub fn handle(request: &mut Request, app: &App) -> ResponseBox {
    app.metrics.http_requests.add(1);
    let hidden = |route: &&Route| route.pattern != ["echo"] || app.config.echo;
    let routes: Vec<&Route> = ROUTES
        .iter()
        .filter(hidden)
        .filter(|route| route.matches(request))
        .collect();
    let server_wide = request.method == Method::Options && request.segments == ["*"];
    if routes.is_empty() && !server_wide {
        return error(
            404,
            "not_found",
            "nothing here; the page is at /, the socket at /ws",
        );
    }
    if let Some(route) = routes.iter().find(|route| route.answers(&request.method)) {
        return match admit(request, route.needs, app) {
            Ok(()) => (route.handler)(request, app),
            Err(response) => response,
        };
    }
    let allow = allow(&routes);
    if request.method == Method::Options {
        return cors::preflight(request, &allow);
    }
    let message = format!("this path answers {allow}");
    error(405, "method_not_allowed", &message).with("Allow", &allow)
}

/// No two routes share both pattern and method, so no method is listed twice.
fn allow(routes: &[&Route]) -> String {
    let methods = routes.iter().map(|route| match route.method {
        Method::Get => "GET, HEAD",
        ref other => other.as_str(),
    });
    methods.chain(["OPTIONS"]).collect::<Vec<_>>().join(", ")
}
