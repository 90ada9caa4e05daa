//! A session over a WebSocket: the handshake, the transport, and the client's requests.

mod authentication;
mod echo;
mod handshake;
mod read_half;
mod rejection;
mod requests;
mod rooms;
mod session;
mod token_timer;
mod transport;

use tiny_http::ResponseBox;

use crate::app::App;
use crate::http::{Request, WebSocketKind};

use handshake::Conversation;

pub(crate) use handshake::AcceptedHandshake;
pub(crate) use transport::Upgraded;

/// Checks a handshake; `Err` is the response to one that is refused.
pub(crate) fn accept(
    request: &Request,
    kind: WebSocketKind,
    app: &App,
) -> Result<Box<AcceptedHandshake>, ResponseBox> {
    handshake::accept(request, kind, app).map(Box::new)
}

/// Runs the conversation on this thread until the connection has ended.
#[expect(
    clippy::boxed_local,
    reason = "unboxed it would deepen the caller's stack"
)]
#[inline(never)]
pub(crate) fn serve(accepted: Box<AcceptedHandshake>, upgraded: Upgraded, app: &App) {
    let AcceptedHandshake {
        conversation,
        address_permit: _held,
        ..
    } = *accepted;
    match conversation {
        Conversation::Session { start, scope } => session::serve(upgraded, start, scope, app),
        Conversation::Echo => echo::serve(upgraded, app),
        Conversation::Rejected(rejection) => rejection::serve(upgraded, &rejection, app),
    }
}
