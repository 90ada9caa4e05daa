//! The figures of one measurement.

use std::time::Duration;

use super::client::Reasons;
use super::latencies::Latencies;

/// The figures of one measurement.
#[derive(Clone, Debug)]
pub(crate) struct LoadFigures {
    pub(crate) clients: usize,
    pub(crate) rooms: usize,
    pub(crate) payload_bytes: usize,
    /// Messages that were sent to the server, refused ones included.
    pub(crate) published: u64,
    /// From the first message to the last.
    pub(crate) published_for: Duration,
    /// Error codes of the messages that the server refused.
    pub(crate) refusals: Reasons,
    /// Messages that reached a client.
    pub(crate) deliveries: u64,
    /// From the first message to the last delivery.
    pub(crate) delivered_for: Duration,
    /// Deliveries that did not arrive, or not before the measurement ended.
    pub(crate) lost: u64,
    /// Deliveries that arrived more than once.
    pub(crate) doubled: u64,
    /// Reasons of the connections that the server closed.
    pub(crate) closed: Reasons,
    pub(crate) latencies: Latencies,
    /// The share of one core that this program used, from 0 to 1 or a little more.
    pub(crate) busy: f64,
    /// True if it ended before its time.
    pub(crate) was_stopped: bool,
}

impl LoadFigures {
    pub(crate) fn published_per_second(&self) -> f64 {
        per_second(self.published, self.published_for)
    }

    pub(crate) fn deliveries_per_second(&self) -> f64 {
        per_second(self.deliveries, self.delivered_for)
    }

    /// Returns how many connections the server closed.
    pub(crate) fn closed_clients(&self) -> u64 {
        self.closed.values().sum()
    }

    /// Returns how many messages the server refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refusals.values().sum()
    }
}

pub(super) fn per_second(count: u64, duration: Duration) -> f64 {
    match duration.as_secs_f64() {
        0.0 => 0.0,
        seconds => count as f64 / seconds,
    }
}
