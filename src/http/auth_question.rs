//! The question to the backend of the connect hook about the client of a request.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::app::App;
use crate::auth_hook::AuthQuestion;
use crate::protocol::RoomName;

use super::cookie::OPAQUE_ORIGIN;
use super::request::Request;
use super::wire::Head;

/// The characters of a path that are encoded.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b':')
    .remove(b'@');

/// Returns the question about a request's client, which has this token if it has one.
///
/// A page of any web site can make a browser send a request with the cookies of this server's host. Therefore
/// credentials that a browser adds by itself are passed on only for pages of this host, or of origins that
/// `--allow-origin` lists by name.
pub(crate) fn auth_question(request: &Request, token: Option<&str>, app: &App) -> AuthQuestion {
    let head = &request.head;
    let is_trusted = has_trusted_origin(head, app);
    let authorization = head.headers.get("Authorization").map(str::to_owned);
    let is_bearer = |value: &String| {
        let scheme = value.split(' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case("bearer")
    };
    let authorization = authorization.filter(|value| is_trusted || is_bearer(value));
    let cookies: Vec<&str> = head.headers.lines("Cookie").collect();
    if !is_trusted && !cookies.is_empty() {
        app.admission.ignore_cookie(head.headers.get("Origin"));
    }
    AuthQuestion {
        cookie: (is_trusted && !cookies.is_empty()).then(|| cookies.join("; ")),
        // Browsers cannot send the header with a WebSocket handshake, so a token may be elsewhere.
        authorization: authorization.or_else(|| Some(format!("Bearer {}", token?))),
        origin: head.headers.get("Origin").map(str::to_owned),
        address: request.peer.ip(),
        method: head.method.to_string(),
        path: path(head),
        rooms: rooms(request),
    }
}

/// Returns the path, encoded again.
fn path(head: &Head) -> String {
    let encoded = |segment: &String| utf8_percent_encode(segment, IN_PATH).to_string();
    let segments: Vec<String> = head.segments.iter().map(encoded).collect();
    format!("/{}", segments.join("/"))
}

/// Returns whether no page of another site can have made the request. A browser names the origin of every WebSocket and of
/// every request whose response another site's page could read.
fn has_trusted_origin(head: &Head, app: &App) -> bool {
    let headers = &head.headers;
    let host = headers.get("Host").unwrap_or_default();
    let mut origins = headers.lines("Origin").peekable();
    if origins.peek().is_none() {
        let is_own = |site: &str| matches!(site, "same-origin" | "none");
        return headers.lines("Sec-Fetch-Site").all(is_own);
    }
    let config = app.config.get();
    origins.all(|origin| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        let is_own = authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host));
        is_own || (origin != OPAQUE_ORIGIN && config.allow_origin.lists(origin))
    })
}

/// Returns the rooms that the path and the query name.
fn rooms(request: &Request) -> Vec<RoomName> {
    let segments = &request.head.segments;
    let is_of_room = segments.first().is_some_and(|first| first == "rooms");
    let of_path = is_of_room.then(|| request.room().ok()).flatten();
    let of_query = request.rooms().filter_map(Result::ok);
    of_path.into_iter().chain(of_query).collect()
}
