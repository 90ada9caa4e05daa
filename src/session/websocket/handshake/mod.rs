//! The opening handshake (RFC 6455 §4.2), checked header by header. Each refusal names the header.

mod error;
mod parameters;
mod subprotocol;

use std::sync::Arc;

use tiny_http::{Method, ResponseBox};
use tungstenite::handshake::derive_accept_key;

use crate::app::App;
use crate::auth::{AuthError, is_own_page};
use crate::http::{self, BodyLength, Head, Request, WebSocketKind};
use crate::limits::AddressPermit;
use crate::protocol::Scope;

use self::error::HandshakeError;
use super::rejection::Rejection;
use super::rooms::{RequestedRoom, SessionStart, requested_rooms, reserve_rooms};

/// Characters of a key before its padding: 16 bytes in base64 (RFC 6455 §4.1).
const KEY_CHARS: usize = 22;

/// A handshake that succeeded; its response was not sent yet.
pub(crate) struct AcceptedHandshake {
    /// The 101 that completes the handshake.
    pub(super) response: String,
    pub(super) conversation: Conversation,
    /// Held until the connection ends.
    pub(super) address_permit: Option<AddressPermit>,
}

impl AcceptedHandshake {
    /// Returns the user of the client's token, if it has sent one already.
    pub(crate) fn user(&self) -> Option<Arc<str>> {
        match &self.conversation {
            Conversation::Session {
                start: SessionStart::Admitted { identity, .. },
                ..
            } => identity.user.clone(),
            _ => None,
        }
    }
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

impl Conversation {
    /// Returns whether the server sends a frame as soon as the conversation starts.
    pub(super) fn starts_with_frame(&self) -> bool {
        match self {
            Self::Session { start, .. } => start.is_welcomed_at_once(),
            Self::Rejected(_) => true,
            Self::Echo => false,
        }
    }
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
        Err(why) if request.head.is_refused_by_close() => {
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
/// Not inlined, like the functions that format a refusal, so that their frames are off the stack before the client is
/// identified. An idle client then never touches that part of the stack.
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
    let host = request.head.headers.get("Host").unwrap_or_default();
    let origins = request.head.headers.lines("Origin");
    let origins = origins.filter(|origin| !is_own_page(origin, host));
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
    let token = http::token(request, app);
    let question = || http::auth_question(request, token, app);
    match app.admission.identify(token, request.peer, question) {
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
        return malformed("Sec-WebSocket-Key must be present once");
    };
    if !is_key(key) {
        return malformed("Sec-WebSocket-Key must be 16 bytes in base64");
    }
    Ok(derive_accept_key(key.as_bytes()))
}

/// Returns whether a key decodes to 16 bytes. The last four bits say nothing, and the example of RFC 6455 §4.1 sets
/// some.
fn is_key(key: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let digits = key.strip_suffix("==");
    digits.is_some_and(|digits| digits.len() == KEY_CHARS && digits.bytes().all(is_digit))
}
