//! `/echo`: sends every message back through the same transport and outbox, for conformance suites.

use std::sync::Arc;

use crate::app::App;
use crate::outbox::Wire;
use crate::protocol::Frames;
use crate::session::new_outbox;

use super::transport::{End, Incoming, Transport, Upgraded};

/// Not inlined, so that its frame does not deepen the stack of a session.
#[inline(never)]
pub(super) fn serve(upgraded: Upgraded, app: &App) {
    let Upgraded {
        client,
        socket,
        rest,
        ..
    } = upgraded;
    let outbox = new_outbox(client, socket, Wire::WebSocket, app);
    let Ok(mut transport) = Transport::new(rest, Arc::clone(&outbox), app) else {
        return;
    };
    let end = loop {
        match transport.next() {
            Incoming::Text(text) => outbox.push(&Frames::text(text.as_bytes())),
            Incoming::Binary(bytes) => outbox.push(&Frames::binary(&bytes)),
            Incoming::Control | Incoming::Alarm => {}
            Incoming::End(end) => break end,
        }
    };
    if let End::Failed(code) = end {
        outbox.close(code);
    }
    if end != End::Gone {
        transport.linger();
    }
    outbox.abort();
}
