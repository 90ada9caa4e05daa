//! The opening handshake (RFC 6455 §4.2), checked header by header. Each refusal names the header.

use tiny_http::{Method, ResponseBox};
use tungstenite::handshake::derive_accept_key;

use crate::app::App;
use crate::auth::{AuthError, is_origin};
use crate::http::{self, BodyLength, Head, Request, WebSocketKind, WithHeader, error};
use crate::limits::{AddressLimitError, AddressPermit};
use crate::protocol::{CloseCode, ErrorCode, Refusal, Scope, cut};

use super::rejection::Rejection;
use super::rooms::{RequestedRoom, SessionStart, requested_rooms, reserve_rooms};
use super::{parameters, subprotocol};

/// Characters of a key before its padding: 16 bytes in base64 (RFC 6455 §4.1).
const KEY_CHARS: usize = 22;
/// Longest origin in the reason of a close, in bytes.
const ORIGIN_BYTES_MAX: usize = 80;
/// Longest path in the reason of a close, in bytes.
const PATH_BYTES_MAX: usize = 60;

/// A handshake that succeeded; its response was not sent yet.
pub(crate) struct AcceptedHandshake {
    response: String,
    pub(super) conversation: Conversation,
    /// Held until the connection ends.
    pub(super) address_permit: Option<AddressPermit>,
}

/// The conversation after the handshake.
pub(super) enum Conversation {
    Session {
        start: SessionStart,
        /// The scope of publish ids that the client chose.
        scope: Option<Scope>,
    },
    Echo,
    /// The client is a page that is closed at once.
    Rejected(Box<Rejection>),
}

impl AcceptedHandshake {
    /// The 101 that completes the handshake.
    pub(crate) fn response(&self) -> &str {
        &self.response
    }
}

/// The reason to refuse a handshake.
enum HandshakeError {
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

pub(super) fn accept(
    request: &Request,
    kind: WebSocketKind,
    app: &App,
) -> Result<AcceptedHandshake, ResponseBox> {
    check(request, kind, app).map_err(|why| {
        app.metrics.handshakes_refused.add(1);
        why.into_response()
    })
}

fn check(
    request: &Request,
    kind: WebSocketKind,
    app: &App,
) -> Result<AcceptedHandshake, HandshakeError> {
    let response = response_to(&request.head)?;
    let (conversation, address_permit) = match converse(request, kind, app) {
        Err(why) if request.head.is_handshake_of_page() => {
            let rejection = Box::new(why.rejection(&request.head)?);
            app.metrics.handshakes_refused.add(1);
            (Conversation::Rejected(rejection), None)
        }
        other => other?,
    };
    Ok(AcceptedHandshake {
        response,
        conversation,
        address_permit,
    })
}

/// Returns the 101, if the headers are right.
///
/// Not inlined, like the functions that write the reason of a refusal: their frames are off the stack before the client
/// is identified, and an idle client never touches what they took.
#[inline(never)]
fn response_to(head: &Head) -> Result<String, HandshakeError> {
    let accept_key = check_headers(head)?;
    let mut response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept_key}\r\n"
    );
    if let Some(chosen) = subprotocol::choose(head).map_err(HandshakeError::Malformed)? {
        response.extend(["Sec-WebSocket-Protocol: ", chosen, "\r\n"]);
    }
    response.push_str("\r\n");
    Ok(response)
}

fn converse(
    request: &Request,
    kind: WebSocketKind,
    app: &App,
) -> Result<(Conversation, Option<AddressPermit>), HandshakeError> {
    let address_permit = app
        .admission
        .open_stream(request.peer)
        .map_err(HandshakeError::Address)?;
    let origins = request.head.headers.lines("Origin");
    if !app.admission.allows_origins(origins) {
        return Err(HandshakeError::Origin);
    }
    let conversation = match kind {
        WebSocketKind::Echo => Conversation::Echo,
        WebSocketKind::Missing => return Err(HandshakeError::Path),
        WebSocketKind::Session => {
            parameters::check(&request.head).map_err(HandshakeError::Query)?;
            let scope = request.session().map_err(HandshakeError::Query)?;
            let rooms = requested_rooms(request, app).map_err(HandshakeError::Query)?;
            let start = start(request, rooms, app)?;
            Conversation::Session { start, scope }
        }
    };
    Ok((conversation, address_permit))
}

fn start(
    request: &Request,
    rooms: Vec<RequestedRoom>,
    app: &App,
) -> Result<SessionStart, HandshakeError> {
    match app.admission.identify(request.head.token(), request.peer) {
        Ok(identity) => {
            let rooms = reserve_rooms(rooms, &identity, request.peer, app)
                .map_err(HandshakeError::Rooms)?;
            Ok(SessionStart::Admitted { identity, rooms })
        }
        Err(AuthError::TokenNeeded) => Ok(SessionStart::AwaitsToken { rooms }),
        Err(why) => Err(HandshakeError::Token(why)),
    }
}

/// Returns the value of `Sec-WebSocket-Accept`.
#[inline(never)]
fn check_headers(head: &Head) -> Result<String, HandshakeError> {
    let malformed = |rule| Err(HandshakeError::Malformed(rule));
    if head.method != Method::Get {
        return malformed("a WebSocket handshake is a GET");
    }
    if head.minor_version < 1 {
        return malformed("a WebSocket handshake is HTTP/1.1");
    }
    if head.body != BodyLength::None {
        return malformed("a WebSocket handshake has no body");
    }
    if !head.headers.lists("Upgrade", "websocket") {
        return malformed("the Upgrade header must be `websocket`");
    }
    if !head.headers.lists("Connection", "upgrade") {
        return malformed("the Connection header must list `Upgrade`");
    }
    if head.headers.get("Sec-WebSocket-Version") != Some("13") {
        return Err(HandshakeError::Version);
    }
    let Some(key) = head.headers.get("Sec-WebSocket-Key") else {
        return malformed("Sec-WebSocket-Key must stand once");
    };
    if !is_key(key) {
        return malformed("Sec-WebSocket-Key must be 16 bytes in base64");
    }
    Ok(derive_accept_key(key.as_bytes()))
}

/// Whether a key decodes to 16 bytes. The last four bits say nothing, and the example of RFC 6455 §4.1 sets some.
fn is_key(key: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let digits = key.strip_suffix("==");
    digits.is_some_and(|digits| digits.len() == KEY_CHARS && digits.bytes().all(is_digit))
}

impl HandshakeError {
    /// Returns the close of a page's connection. `Err` for errors that a page cannot have made, and for the rate of
    /// connections: a handshake that succeeds costs more than a refused one.
    #[inline(never)]
    fn rejection(self, head: &Head) -> Result<Rejection, Self> {
        let (code, reason) = match self {
            Self::Origin => {
                let origin = head.headers.get("Origin").filter(|text| is_origin(text));
                let origin = cut(origin.ok_or(self)?, ORIGIN_BYTES_MAX);
                let reason = format!("the origin {origin} is not on --allow-origin");
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
    fn into_response(self) -> ResponseBox {
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
