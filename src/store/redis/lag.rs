//! The lag of the subscription: the time from publishing until the message returns through the subscription.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Measures the lag. The node publishes its clock to itself once a second.
pub(super) struct LagMeter {
    started: Instant,
    lag_micros: AtomicU64,
}

impl LagMeter {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            lag_micros: AtomicU64::new(0),
        }
    }

    /// The message to publish: this node's clock in microseconds.
    pub(super) fn echo(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// Measures the lag of an echo that came back. An empty message only wakes the subscriber.
    pub(super) fn measure(&self, echo: &[u8]) {
        let sent_at = std::str::from_utf8(echo).ok().and_then(|t| t.parse().ok());
        if let Some(sent_at) = sent_at {
            let lag = self.echo().saturating_sub(sent_at);
            self.lag_micros.store(lag, Ordering::Relaxed);
        }
    }

    /// The last lag measured.
    pub(super) fn get(&self) -> Duration {
        Duration::from_micros(self.lag_micros.load(Ordering::Relaxed))
    }
}
