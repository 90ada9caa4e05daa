//! Closing everyone at shutdown: in random order and spread over time, so that they do not all come
//! back to the next server at once and in the order they came.

use std::time::{Duration, Instant};

use rand::seq::SliceRandom;

use crate::config::LINGER;
use crate::protocol::ClientId;

/// How often a share of the clients is closed.
const STEP: Duration = Duration::from_millis(10);

/// The clients still to be closed.
pub(super) struct Drain {
    left: Vec<ClientId>,
    total: usize,
    started: Instant,
    over: Duration,
    next: Instant,
    /// When those are looked for that were closed and do not close themselves.
    overdue: Instant,
}

impl Drain {
    pub(super) fn new(mut clients: Vec<ClientId>, now: Instant, over: Duration) -> Self {
        clients.shuffle(&mut rand::rng());
        let total = clients.len();
        Self {
            left: clients,
            total,
            started: now,
            over,
            next: now,
            overdue: now + over + LINGER,
        }
    }

    pub(super) fn next_wake(&self) -> Instant {
        if self.left.is_empty() {
            self.overdue
        } else {
            self.next
        }
    }

    /// Whether it is time to look for them, once every [`LINGER`].
    pub(super) fn take_overdue(&mut self, now: Instant) -> bool {
        let due = now >= self.overdue;
        if due {
            self.overdue = now + LINGER;
        }
        due
    }

    /// Those whose turn has come: after half the time, half of them.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<ClientId> {
        self.next = now + STEP;
        let elapsed = now.saturating_duration_since(self.started) + STEP;
        let share = if elapsed >= self.over {
            1.0
        } else {
            elapsed.div_duration_f64(self.over)
        };
        let closed_by_now = (self.total as f64 * share).ceil() as usize;
        self.left.split_off(
            self.total
                .saturating_sub(closed_by_now)
                .min(self.left.len()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_closed_once_and_evenly() {
        let clients: Vec<_> = (0..1000).map(|n| ClientId::new(0, n)).collect();
        let start = Instant::now();
        let mut drain = Drain::new(clients.clone(), start, Duration::from_secs(1));
        let mut closed = drain.take_due(start);
        assert!(closed.len() <= 20, "{}", closed.len());
        closed.extend(drain.take_due(start + Duration::from_millis(490)));
        assert!((490..=510).contains(&closed.len()), "{}", closed.len());
        closed.extend(drain.take_due(start + Duration::from_secs(1)));
        assert!(drain.left.is_empty());
        assert_ne!(closed, clients);
        closed.sort_unstable();
        assert_eq!(closed, clients);
    }
}
