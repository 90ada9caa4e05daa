//! The schedule that closes every client at shutdown: in random order and spread over time, so that the clients do
//! not all reconnect to the next server at once or in the order in which they connected.

use std::time::{Duration, Instant};

use rand::seq::SliceRandom;

use crate::protocol::ClientId;
use crate::socket::LINGER;

/// The time between two steps. Each step closes a share of the clients.
const STEP: Duration = Duration::from_millis(10);

/// The clients that are still to be closed, and the times of the next steps.
pub(super) struct Drain {
    remaining: Vec<ClientId>,
    total: usize,
    started: Instant,
    duration: Duration,
    next_step: Instant,
    /// When to abort clients that were closed but keep their connections open.
    next_abort: Instant,
}

impl Drain {
    pub(super) fn new(mut clients: Vec<ClientId>, now: Instant, duration: Duration) -> Self {
        clients.shuffle(&mut rand::rng());
        let total = clients.len();
        Self {
            remaining: clients,
            total,
            started: now,
            duration,
            next_step: now,
            next_abort: now + duration + LINGER,
        }
    }

    pub(super) fn next_due(&self) -> Instant {
        if self.remaining.is_empty() {
            self.next_abort
        } else {
            self.next_step
        }
    }

    /// Returns whether clients that keep their connections open are to be aborted now. That is due once the drain and
    /// another [`LINGER`] have passed, then once every [`LINGER`].
    pub(super) fn take_abort_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next_abort;
        if due {
            self.next_abort = now + LINGER;
        }
        due
    }

    /// Removes and returns the clients to close now, so that after half the time half of them are closed.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<ClientId> {
        self.next_step = now + STEP;
        let elapsed = now.saturating_duration_since(self.started) + STEP;
        let share = if elapsed >= self.duration {
            1.0
        } else {
            elapsed.div_duration_f64(self.duration)
        };
        let closed_by_now = (self.total as f64 * share).ceil() as usize;
        let kept = self.total.saturating_sub(closed_by_now);
        self.remaining.split_off(kept.min(self.remaining.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drain_closes_every_client_once_and_evenly() {
        let clients: Vec<_> = (0..1000).map(|n| ClientId::new(0, n)).collect();
        let start = Instant::now();
        let mut drain = Drain::new(clients.clone(), start, Duration::from_secs(1));
        let mut closed = drain.take_due(start);
        assert!(closed.len() <= 20, "{}", closed.len());
        closed.extend(drain.take_due(start + Duration::from_millis(490)));
        assert!((490..=510).contains(&closed.len()), "{}", closed.len());
        closed.extend(drain.take_due(start + Duration::from_secs(1)));
        assert!(drain.remaining.is_empty());
        assert_ne!(closed, clients, "clients are closed in random order");
        closed.sort_unstable();
        assert_eq!(closed, clients);
    }
}
