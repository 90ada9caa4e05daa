//! What every connection may reach: settings, counters, and the handles of the two threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::auth::Authority;
use crate::broadcaster::Broadcaster;
use crate::broker::BrokerHandle;
use crate::config::Config;
use crate::limits::Slots;
use crate::metrics::Metrics;
use crate::outbox::OutboxLimits;
use crate::protocol::ClientId;
use crate::shutdown::Shutdown;
use crate::socket::tls;

/// Shared by all connections; holds no state of any one of them.
pub struct App {
    /// The settings.
    pub config: Config,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Stores and orders what is published.
    pub broker: BrokerHandle,
    /// Owns rooms and members.
    pub broadcaster: Broadcaster,
    /// Tells who a client is.
    pub authority: Arc<Authority>,
    /// What TCP connections shake hands with, if they speak TLS.
    pub tls: Option<Arc<tls::Acceptor>>,
    /// Whether the server is going away.
    pub shutdown: Shutdown,
    /// WebSocket sessions that have not ended.
    pub sessions: Slots,
    /// When the server started.
    pub started: Instant,
    /// The random word in the names of this process's clients.
    process: u32,
    clients_named: AtomicU64,
}

impl App {
    /// Puts the parts together.
    pub fn new(
        config: Config,
        metrics: Arc<Metrics>,
        broker: BrokerHandle,
        broadcaster: Broadcaster,
        authority: Arc<Authority>,
        tls: Option<Arc<tls::Acceptor>>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            config,
            metrics,
            broker,
            broadcaster,
            authority,
            tls,
            shutdown,
            sessions: Slots::new(usize::MAX),
            started: Instant::now(),
            process: rand::random(),
            clients_named: AtomicU64::new(0),
        }
    }

    /// A name no other client has.
    pub fn name_client(&self) -> ClientId {
        ClientId::new(
            self.process,
            1 + self.clients_named.fetch_add(1, Ordering::Relaxed),
        )
    }

    /// The bounds of a client's outbox.
    pub fn outbox_limits(&self) -> OutboxLimits {
        let limits = &self.config.limits;
        OutboxLimits {
            bytes: limits.outbox_bytes,
            slow_timeout: limits.slow_timeout,
        }
    }
}
