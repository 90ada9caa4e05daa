//! The rejection of a page: its handshake succeeds, and a Close frame says why. A page can read a Close frame, but
//! neither the status nor the body of a refused handshake.

use std::sync::Arc;

use crate::app::App;
use crate::outbox::Wire;
use crate::protocol::{CloseCode, Frames};
use crate::session::new_outbox;

use super::transport::{Transport, Upgraded};

/// The end of a page's connection.
pub(super) struct Rejection {
    pub(super) code: CloseCode,
    /// For the page's author.
    pub(super) reason: String,
}

/// Not inlined, so that its frame does not deepen the stack of a session.
#[inline(never)]
pub(super) fn serve(upgraded: Upgraded, rejection: &Rejection, app: &App) {
    let Upgraded {
        client,
        peer,
        socket,
        rest,
    } = upgraded;
    let Rejection { code, reason } = rejection;
    let outbox = new_outbox(client, socket, Wire::WebSocket, app);
    let Ok(mut transport) = Transport::new(rest, Arc::clone(&outbox), app) else {
        return;
    };
    // Held until the socket is closed, because shutdown waits for it.
    let _permit = app.sessions.take();
    let (number, usual_reason) = (code.number(), code.reason());
    log::debug!("{client} {peer} rejected: {number} {usual_reason}");
    outbox.push(&Frames::close_because(*code, reason));
    transport.linger();
    outbox.abort();
}
