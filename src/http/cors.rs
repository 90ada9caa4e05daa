//! Cross-origin requests (the Fetch standard's CORS protocol), by the same list as the WebSocket handshake.

use tiny_http::{Response, ResponseBox};

use crate::auth::AllowedOrigins;

use super::response::WithHeader;
use super::wire::Head;

/// Seconds for which a browser may cache a preflight's response.
const PREFLIGHT_MAX_AGE: &str = "86400";

/// The response to a preflight or any other OPTIONS request; `allow` lists the path's methods.
pub(super) fn preflight(head: &Head, allow: &str) -> ResponseBox {
    let response = Response::empty(204).boxed().with("Allow", allow);
    if head.headers.get("Access-Control-Request-Method").is_none() {
        return response;
    }
    response
        .with("Access-Control-Allow-Methods", allow)
        .with(
            "Access-Control-Allow-Headers",
            "Authorization, Content-Type, Last-Event-ID",
        )
        .with("Access-Control-Max-Age", PREFLIGHT_MAX_AGE)
}

/// Adds the headers that let the listed origins read a response. `head` is `None` if the request could not be
/// parsed.
pub(super) fn apply(
    response: ResponseBox,
    head: Option<&Head>,
    allowed: &AllowedOrigins,
) -> ResponseBox {
    match allowed {
        AllowedOrigins::Any => response.with("Access-Control-Allow-Origin", "*"),
        AllowedOrigins::Listed(_) => {
            let response = response.with("Vary", "Origin");
            match head.and_then(|head| head.headers.get("Origin")) {
                Some(origin) if allowed.allows(Some(origin)) => {
                    response.with("Access-Control-Allow-Origin", origin)
                }
                _ => response,
            }
        }
    }
}
