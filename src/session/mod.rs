//! A client's conversation, over WebSocket or Server-Sent Events, and how it resumes.

pub(crate) mod resume;
pub(crate) mod sse;
pub(crate) mod websocket;

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::outbox::{Outbox, OutboxLimits, Wire};
use crate::protocol::ClientId;
use crate::socket::Socket;

/// Time between two comparisons of a token's expiry with the wall clock, which may be set while a session waits.
const TOKEN_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Returns the outbox of a new session.
fn new_outbox(client: ClientId, socket: Socket, wire: Wire, app: &App) -> Arc<Outbox> {
    let config = app.config.get();
    let limits = &config.limits;
    let limits = OutboxLimits {
        bytes: limits.outbox_bytes,
        slow_timeout: limits.slow_timeout,
    };
    Outbox::new(client, socket, limits, Arc::clone(&app.metrics), wire)
}
