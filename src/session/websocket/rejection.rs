//! The rejection of a page: its handshake succeeds, and a Close frame says why. A page can read a Close frame, but
//! neither the status nor the body of a refused handshake.

use std::sync::Arc;

use crate::app::App;
use crate::protocol::{CloseCode, Frames};

use super::transport::{End, OpenedWebSocket, Transport};

/// The end of a page's connection.
pub(super) struct Rejection {
    pub(super) code: CloseCode,
    /// For the page's author.
    pub(super) reason: String,
}

/// Not inlined, so that its frame does not deepen the stack of a session.
#[inline(never)]
pub(super) fn serve(opened: OpenedWebSocket, rejection: &Rejection, app: &App) {
    let OpenedWebSocket { peer, outbox, rest } = opened;
    let Rejection { code, reason } = rejection;
    let Ok(transport) = Transport::new(rest, Arc::clone(&outbox), app) else {
        return;
    };
    let (number, usual_reason) = (code.number(), code.reason());
    let client = outbox.client();
    log::debug!("{client} {peer} rejected: {number} {usual_reason}");
    outbox.push(&Frames::close_because(*code, reason));
    transport.linger(End::ClosedByServer);
    outbox.abort();
}
