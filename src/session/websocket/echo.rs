//! `/echo`: sends every message back through the same transport and outbox, for conformance suites.

use std::sync::Arc;

use crate::app::App;
use crate::protocol::Frames;

use super::transport::{End, Incoming, OpenedWebSocket, Transport};

/// Not inlined, so that its frame does not deepen the stack of a session.
#[inline(never)]
pub(super) fn serve(opened: OpenedWebSocket, app: &App) {
    let OpenedWebSocket { outbox, rest, .. } = opened;
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
        transport.linger(end);
    }
    outbox.abort();
}
