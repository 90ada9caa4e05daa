//! The reasons to refuse a handshake: each as a response, or as the close of a page's connection.

use tiny_http::ResponseBox;

use crate::auth::{AuthError, is_origin};
use crate::http::{self, Head, WithHeader, error};
use crate::limits::AddressLimitError;
use crate::protocol::{CloseCode, ErrorCode, Refusal, cut};

use super::super::rejection::Rejection;

/// Longest origin in the reason of a close, in bytes.
const ORIGIN_BYTES_MAX: usize = 72;
/// Longest path in the reason of a close, in bytes.
const PATH_BYTES_MAX: usize = 60;

/// The reason to refuse a handshake.
pub(super) enum HandshakeError {
    /// 400: the method or a header is wrong.
    Malformed(&'static str),
    /// 426: another version of the WebSocket protocol.
    Version,
    /// 403: the page's origin is not on the list.
    Origin,
    /// 404: the path is not that of a WebSocket.
    Path,
    /// 400: a parameter is wrong.
    Query(Refusal),
    /// 401, or 429 after too many refused tokens.
    Token(AuthError),
    /// 403 if the token does not grant one of the rooms, 503 if a room or the server is full.
    Rooms(Refusal),
    /// 503 or 429: the address has too many connections, or opens them too fast.
    Address(AddressLimitError),
}

impl HandshakeError {
    /// Returns the rejection of a page by a Close frame. `Err` for errors that a page cannot cause, and for the rate of
    /// connections, because a completed handshake costs more than a refused one.
    #[inline(never)]
    pub(super) fn rejection(self, head: &Head) -> Result<Rejection, Self> {
        let (code, reason) = match self {
            Self::Origin => {
                let origin = head.headers.get("Origin").filter(|text| is_origin(text));
                let reason = origin_reason(origin.ok_or(self)?, head.headers.get("Host"));
                (CloseCode::Forbidden, reason)
            }
            Self::Path => {
                let path = cut(&head.segments.join("/"), PATH_BYTES_MAX);
                let reason = format!("there is no WebSocket at /{path}; it is at /ws");
                (CloseCode::NotFound, reason)
            }
            Self::Query(refusal) => (CloseCode::BadRequest, refusal.message.into()),
            Self::Token(why) => (why.close_code(), why.to_string()),
            Self::Rooms(refusal) => {
                let code = match refusal.code {
                    ErrorCode::Forbidden => CloseCode::Forbidden,
                    ErrorCode::RoomFull => CloseCode::RoomFull,
                    ErrorCode::RateLimited => CloseCode::RateLimited,
                    _ => CloseCode::Unavailable,
                };
                (code, refusal.message.into())
            }
            Self::Address(AddressLimitError::Connections) => {
                let code = CloseCode::TooManyConnections;
                (code, code.reason().to_owned())
            }
            other => return Err(other),
        };
        Ok(Rejection { code, reason })
    }

    #[inline(never)]
    pub(super) fn into_response(self) -> ResponseBox {
        match self {
            Self::Malformed(rule) => error(400, "bad_handshake", rule),
            Self::Version => error(426, "websocket_version", "speak WebSocket version 13")
                .with("Sec-WebSocket-Version", "13"),
            Self::Origin => error(
                403,
                "origin_not_allowed",
                "this origin is not on the server's list",
            ),
            Self::Path => error(404, "not_found", "there is no WebSocket here; it is at /ws"),
            Self::Query(refusal) => http::bad_request(&refusal),
            Self::Token(why) => http::unauthorized(&why),
            Self::Rooms(refusal) if refusal.code == ErrorCode::Forbidden => {
                http::forbidden(&refusal)
            }
            Self::Rooms(refusal) => http::unavailable_for(&refusal),
            Self::Address(why) => http::address_limited(why),
        }
    }
}

/// Returns the reason of a close for an origin that `--allow-origin` does not list. The origin of the request's own
/// `Host` must be listed too if the host is a name, see [`is_own_page`](crate::auth::is_own_page).
fn origin_reason(origin: &str, host: Option<&str>) -> String {
    let is_own = host.is_some_and(|host| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    });
    let whose = if is_own { "the server's own" } else { "the" };
    let origin = cut(origin, ORIGIN_BYTES_MAX);
    format!("{whose} origin {origin} is not on --allow-origin")
}
