//! The WebSocket side: the opening handshake and one client's session.

mod access;
mod echo;
mod handshake;
mod requests;
mod session;
mod transport;

use tiny_http::ResponseBox;

use crate::app::App;
use crate::http::{Request, WebSocketKind};
use crate::protocol::ClientId;
use crate::socket::{Peer, Socket};

pub(crate) use handshake::AcceptedHandshake;

/// What of a connection a session starts from.
pub(crate) struct Upgraded {
    /// The client's name.
    pub(crate) client: ClientId,
    /// Who it is by its address.
    pub(crate) peer: Peer,
    /// The socket, in blocking mode, its handshake answered.
    pub(crate) socket: Socket,
    /// Bytes that followed the request's head.
    pub(crate) rest: Vec<u8>,
}

/// Judges a request that asks for a WebSocket; `Err` is the answer to one that is refused.
pub(crate) fn accept(
    request: &Request,
    kind: WebSocketKind,
    app: &App,
) -> Result<Box<AcceptedHandshake>, ResponseBox> {
    handshake::accept(request, kind, app).map(Box::new)
}

/// Runs one client's conversation, on this thread, until the connection has ended.
#[expect(
    clippy::boxed_local,
    reason = "unboxed it would deepen the caller's stack"
)]
pub(crate) fn serve(accepted: Box<AcceptedHandshake>, upgraded: Upgraded, app: &App) {
    match *accepted {
        AcceptedHandshake::Session {
            entry,
            scope,
            place: _held,
            ..
        } => session::serve(upgraded, entry, scope, app),
        AcceptedHandshake::Echo { place: _held, .. } => echo::serve(upgraded, app),
    }
}
