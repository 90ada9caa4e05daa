//! Deduplication: remembers which publishes were stored recently, so that a retry gets the first position.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::protocol::{Position, RequestId, RoomName, Scope};

/// How long an id is remembered: the latest time at which a retry is recognized.
pub(super) const DEDUPE_WINDOW: Duration = Duration::from_secs(300);
/// Maximum number of remembered ids. Beyond it the oldest are forgotten early.
pub(super) const DEDUPE_IDS_MAX: usize = 100_000;

/// The identity of a publish: retries have the same room, scope and id.
pub(super) type DedupeKey = (RoomName, Scope, RequestId);

/// The publishes stored within the window.
#[derive(Debug, Default)]
pub(super) struct RecentPublishes {
    positions: HashMap<DedupeKey, Position>,
    /// Keys by the time they were stored, oldest first.
    order: VecDeque<(Instant, DedupeKey)>,
}

impl RecentPublishes {
    /// Returns the position at which a publish was stored before.
    pub(super) fn find(&self, key: &DedupeKey) -> Option<Position> {
        self.positions.get(key).copied()
    }

    /// Remembers where a publish was stored.
    pub(super) fn remember(&mut self, key: DedupeKey, position: Position, now: Instant) {
        if self.positions.insert(key.clone(), position).is_none() {
            self.order.push_back((now, key));
        }
        if self.order.len() > DEDUPE_IDS_MAX {
            self.forget_oldest();
        }
    }

    /// Forgets publishes older than the window.
    pub(super) fn expire(&mut self, now: Instant) {
        let is_expired = |at: Instant| now.saturating_duration_since(at) > DEDUPE_WINDOW;
        while self.order.front().is_some_and(|(at, _)| is_expired(*at)) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.positions.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Epoch;

    fn key(n: usize) -> DedupeKey {
        let scope = Scope::session("a session of its own").unwrap();
        let id = RequestId::parse(&n.to_string()).unwrap();
        (RoomName::lobby(), scope, id)
    }

    #[test]
    fn ids_are_remembered_for_the_window_and_up_to_the_limit() {
        let (mut recent, start) = (RecentPublishes::default(), Instant::now());
        let epoch = Epoch::random();
        for n in 0..=DEDUPE_IDS_MAX {
            let position = Position {
                epoch,
                offset: n as u64,
            };
            let stored_at = start + Duration::from_secs(n as u64 / 1000);
            recent.remember(key(n), position, stored_at);
        }
        assert_eq!(recent.find(&key(0)), None);
        assert_eq!(recent.find(&key(1)).unwrap().offset, 1);
        recent.expire(start + DEDUPE_WINDOW + Duration::from_secs(50));
        assert_eq!(recent.find(&key(49_999)), None);
        assert!(recent.find(&key(50_000)).is_some());
    }
}
