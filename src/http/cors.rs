//! Cross-origin requests (the Fetch standard's CORS protocol), by the same list as the WebSocket
//! handshake.

use tiny_http::{Response, ResponseBox};

use crate::auth::AllowedOrigins;

use super::Request;
use super::answer::WithHeader;

/// How long a browser may remember a preflight's answer, in seconds.
const PREFLIGHT_MAX_AGE: &str = "86400";

/// The answer to a preflight or any other OPTIONS request.
pub(super) fn preflight(request: &Request, allow: &str) -> ResponseBox {
    let response = Response::empty(204).boxed().with("Allow", allow);
    if request.header("Access-Control-Request-Method").is_none() {
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

/// Says on an answer who may read it; `None` stands for a request that was not understood.
pub(super) fn apply(
    response: ResponseBox,
    request: Option<&Request>,
    allowed: &AllowedOrigins,
) -> ResponseBox {
    match allowed {
        AllowedOrigins::Any => response.with("Access-Control-Allow-Origin", "*"),
        AllowedOrigins::Listed(_) => {
            let response = response.with("Vary", "Origin");
            match request.and_then(|request| request.header("Origin")) {
                Some(origin) if allowed.allows(Some(origin)) => {
                    response.with("Access-Control-Allow-Origin", origin)
                }
                _ => response,
            }
        }
    }
}
