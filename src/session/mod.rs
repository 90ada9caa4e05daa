//! One client's conversation, over WebSocket or Server-Sent Events, and how it resumes.

pub(crate) mod resume;
pub(crate) mod sse;
pub(crate) mod websocket;

use std::sync::Arc;

use crate::app::App;
use crate::outbox::{Outbox, OutboxLimits, Wire};
use crate::protocol::ClientId;
use crate::socket::Socket;

/// Returns the outbox of a new session.
fn new_outbox(client: ClientId, socket: Socket, wire: Wire, app: &App) -> Arc<Outbox> {
    let limits = &app.config.limits;
    let limits = OutboxLimits {
        bytes: limits.outbox_bytes,
        slow_timeout: limits.slow_timeout,
    };
    Outbox::new(client, socket, limits, Arc::clone(&app.metrics), wire)
}
