//! The opening handshake (RFC 6455 §4.2), checked header by header. Each refusal names the header.

use data_encoding::BASE64;
use tiny_http::{Method, ResponseBox};
use tungstenite::handshake::derive_accept_key;

use crate::app::App;
use crate::auth::AuthError;
use crate::http::{self, BodyLength, Head, Request, WebSocketKind, WithHeader, error};
use crate::limits::{AddressLimitError, AddressPermit};
use crate::protocol::{CloseCode, ErrorCode, Refusal, Scope};

use super::rooms::{RequestedRoom, SessionStart, requested_rooms, reserve_rooms};

/// A key is 16 bytes in base64 (RFC 6455 §4.1).
const KEY_BYTES: usize = 16;

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
    let accept_key = check_headers(&request.head)?;
    let origins = request.head.headers.lines("Origin");
    if !app.admission.allows_origins(origins) {
        return Err(HandshakeError::Origin);
    }
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept_key}\r\n\r\n"
    );
    let address_permit = app
        .admission
        .open_stream(request.peer)
        .map_err(HandshakeError::Address);
    if kind == WebSocketKind::Echo {
        return Ok(AcceptedHandshake {
            response,
            conversation: Conversation::Echo,
            address_permit: address_permit?,
        });
    }
    let scope = request.session().map_err(HandshakeError::Query)?;
    let rooms = requested_rooms(request, app).map_err(HandshakeError::Query)?;
    let started = address_permit.and_then(|permit| Ok((start(request, rooms, app)?, permit)));
    let (start, address_permit) = match started {
        Err(why) if is_page(&request.head) => (SessionStart::Rejected(why.close_code()?), None),
        other => other?,
    };
    Ok(AcceptedHandshake {
        response,
        conversation: Conversation::Session { start, scope },
        address_permit,
    })
}

/// Only browsers send an Origin, and they always do (RFC 6455 §4.1).
fn is_page(head: &Head) -> bool {
    head.headers.contains("Origin")
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
    match BASE64.decode(key.as_bytes()) {
        Ok(bytes) if bytes.len() == KEY_BYTES => Ok(derive_accept_key(key.as_bytes())),
        _ => malformed("Sec-WebSocket-Key must be 16 bytes in base64"),
    }
}

impl HandshakeError {
    /// The code with which a page is closed after a handshake that succeeds only for that: a page cannot read the
    /// status of a refused handshake, but it can read a Close frame.
    ///
    /// `Err` for errors that a page's user cannot fix, and for the rate of connections: a handshake that succeeds
    /// costs more than a refused one.
    fn close_code(self) -> Result<CloseCode, Self> {
        match self {
            Self::Token(why) => Ok(why.close_code()),
            Self::Rooms(refusal) if refusal.code == ErrorCode::Forbidden => {
                Ok(CloseCode::Forbidden)
            }
            Self::Rooms(refusal) if refusal.code == ErrorCode::RoomFull => Ok(CloseCode::RoomFull),
            Self::Rooms(refusal) if refusal.code == ErrorCode::RateLimited => {
                Ok(CloseCode::RateLimited)
            }
            Self::Address(AddressLimitError::Connections) => Ok(CloseCode::TooManyConnections),
            other => Err(other),
        }
    }

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
