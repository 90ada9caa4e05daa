//! Webhooks: report to a backend which rooms are occupied and which users are connected.
//!
//! The broadcaster only records that a room or user became present or absent. One thread sends the
//! requests, one at a time. A request that fails is repeated with the current state, so that a receiver that was down
//! ends with the right state. With several nodes, one node reports the state of all.

mod body;
mod ledger;
mod prepared;
mod secret;
mod sender;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::broadcaster::Broadcaster;
use crate::metrics::Metrics;
use crate::rooms::PresenceChanges;
use crate::store::Store;
use crate::threads;

pub(crate) use self::prepared::PreparedWebhooks;

use self::sender::WebhookSender;

/// The thread that sends webhooks.
pub(crate) struct Webhooks {
    changes: Arc<PresenceChanges>,
    thread: JoinHandle<()>,
}

impl Webhooks {
    /// Starts the thread.
    pub(crate) fn start(
        prepared: PreparedWebhooks,
        broadcaster: Broadcaster,
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let changes = prepared.changes();
        let sender = WebhookSender::new(prepared, broadcaster, store, metrics, Instant::now());
        let thread = threads::spawn_service("webhooks", move || sender.run())?;
        Ok(Self { changes, thread })
    }

    /// Ends the thread after its current request. The clients that a shutdown closes are not reported as absent: they
    /// reconnect, to this server or to another node.
    pub(crate) fn stop(&self) {
        self.changes.close();
    }

    /// Waits until the thread has ended, until the deadline at most.
    pub(crate) fn wait_until_stopped(&self, deadline: Instant) {
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}
