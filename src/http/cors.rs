//! Cross-origin requests (the Fetch standard's CORS protocol), by the same list as the WebSocket handshake.
//!
//! An origin that is not on the list gets no header of the protocol at all.

use tiny_http::{Response, ResponseBox};

use crate::auth::AllowedOrigins;

use super::response::WithHeader;
use super::wire::{Head, is_token};

/// Seconds for which a browser may cache a preflight's response.
const PREFLIGHT_MAX_AGE: &str = "86400";
/// Headers of requests that the server reads. They are listed even if a preflight names only some of them.
const ALLOWED_HEADERS: [&str; 3] = ["Authorization", "Content-Type", "Last-Event-ID"];
/// Most further headers that a page may send.
const REQUESTED_HEADERS_MAX: usize = 50;
/// The headers of responses that a page may read.
const EXPOSED_HEADERS: &str = "Allow, Date, ETag, Retry-After, WWW-Authenticate";

/// The response to a preflight or any other OPTIONS request; `allow` lists the path's methods.
pub(super) fn preflight(head: &Head, allow: &str, allowed: &AllowedOrigins) -> ResponseBox {
    let response = Response::empty(204).boxed().with("Allow", allow);
    let is_preflight = head.headers.contains("Access-Control-Request-Method");
    if !is_preflight {
        return response;
    }
    let response = response
        .with("Vary", "Access-Control-Request-Headers")
        .with("Vary", "Access-Control-Request-Private-Network");
    if allowed_origin(head, allowed).is_none() {
        return response;
    }
    let response = response
        .with("Access-Control-Allow-Methods", allow)
        .with("Access-Control-Allow-Headers", &allowed_headers(head))
        .with("Access-Control-Max-Age", PREFLIGHT_MAX_AGE);
    match head.headers.get("Access-Control-Request-Private-Network") {
        Some("true") => response.with("Access-Control-Allow-Private-Network", "true"),
        _ => response,
    }
}

/// Lists the headers that a page may send: the known headers and those that the page requests, because tracing
/// libraries add headers of their own. A request that is not a list of header names is ignored.
fn allowed_headers(head: &Head) -> String {
    let lines = head.headers.lines("Access-Control-Request-Headers");
    let requested: Vec<&str> = lines
        .flat_map(|line| line.split(','))
        .map(|name| name.trim_matches([' ', '\t']))
        .filter(|name| !name.is_empty())
        .collect();
    let is_valid = requested.len() <= REQUESTED_HEADERS_MAX
        && requested.iter().all(|name| name.bytes().all(is_token));
    let is_known = |name: &&str| {
        let mut known = ALLOWED_HEADERS.iter();
        known.any(|known| known.eq_ignore_ascii_case(name))
    };
    let further = requested
        .into_iter()
        .filter(|name| is_valid && !is_known(name));
    let names = ALLOWED_HEADERS.into_iter().chain(further);
    names.collect::<Vec<_>>().join(", ")
}

/// Adds the headers that let the allowed origins read a response. `head` is `None` if the request could not be parsed.
pub(super) fn apply(
    response: ResponseBox,
    head: Option<&Head>,
    allowed: &AllowedOrigins,
) -> ResponseBox {
    let expose = |response: ResponseBox, origin: &str| {
        response
            .with("Access-Control-Allow-Origin", origin)
            .with("Access-Control-Expose-Headers", EXPOSED_HEADERS)
    };
    match allowed {
        // Without credentials: a browser would refuse them together with `*`.
        AllowedOrigins::Any => expose(response, "*"),
        AllowedOrigins::Listed(_) => {
            let response = response.with("Vary", "Origin");
            match head.and_then(|head| allowed_origin(head, allowed)) {
                Some(origin) => {
                    expose(response, origin).with("Access-Control-Allow-Credentials", "true")
                }
                None => response,
            }
        }
    }
}

/// The request's only origin, if it is allowed.
fn allowed_origin<'a>(head: &'a Head, allowed: &AllowedOrigins) -> Option<&'a str> {
    let origin = head.headers.get("Origin")?;
    allowed.allows(Some(origin)).then_some(origin)
}
