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

use std::sync::Arc;

use tiny_http::ResponseBox;

use crate::app::App;
use crate::http::{Request, WebSocketKind};
use crate::outbox::{Outbox, Wire};
use crate::protocol::Frames;

use super::new_outbox;

use handshake::Conversation;
use transport::OpenedWebSocket;

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
        response,
        conversation,
        address_permit: _held,
    } = *accepted;
    let Upgraded {
        client,
        peer,
        socket,
        rest,
    } = upgraded;
    let outbox = new_outbox(client, socket, Wire::WebSocket, app);
    send_response(response, &outbox, &conversation);
    let opened = OpenedWebSocket { peer, outbox, rest };
    match conversation {
        Conversation::Session { start, scope } => session::serve(opened, start, scope, app),
        Conversation::Echo => echo::serve(opened, app),
        Conversation::Rejected(rejection) => rejection::serve(opened, &rejection, app),
    }
}

/// Completes the handshake. If a frame follows at once, both go with one system call, and the client wakes once.
#[inline(never)]
fn send_response(response: String, outbox: &Arc<Outbox>, conversation: &Conversation) {
    if conversation.starts_with_frame() {
        outbox.hold_back(response.into());
    } else {
        outbox.push(&Frames::encoded(response.as_bytes()));
    }
}
