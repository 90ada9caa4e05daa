//! Which publishes were stored lately: a repeated id is answered with its first place.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::protocol::{Position, RequestId, RoomName, Scope};

/// How long an id is remembered, and so how late a retry may come.
pub(super) const DEDUPE_WINDOW: Duration = Duration::from_secs(300);
/// Ids remembered at once; past it the oldest are forgotten early.
pub(super) const DEDUPE_IDS_MAX: usize = 100_000;

/// A publish that can be repeated: its id, and within what the id is compared.
pub(super) type Key = (RoomName, Scope, RequestId);

/// Where a publish was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomPosition {
    /// The room.
    pub room: RoomName,
    /// The place in its stream.
    pub position: Position,
}

/// The ids of the window, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    places: HashMap<Key, RoomPosition>,
    order: VecDeque<(Instant, Key)>,
}

impl Recent {
    pub(super) fn find(&self, key: &Key) -> Option<&RoomPosition> {
        self.places.get(key)
    }

    pub(super) fn remember(&mut self, key: Key, place: RoomPosition, now: Instant) {
        if self.places.insert(key.clone(), place).is_none() {
            self.order.push_back((now, key));
        }
        if self.order.len() > DEDUPE_IDS_MAX {
            self.forget_oldest();
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while self
            .order
            .front()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) > DEDUPE_WINDOW)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.places.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Epoch;

    fn key(n: usize) -> Key {
        let scope = Scope::session("a session of its own").unwrap();
        let id = RequestId::parse(&n.to_string()).unwrap();
        (RoomName::lobby(), scope, id)
    }

    #[test]
    fn ids_are_remembered_for_the_window_and_up_to_the_bound() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let place = |offset| RoomPosition {
            room: RoomName::lobby(),
            position: Position {
                epoch: Epoch::random(),
                offset,
            },
        };
        for n in 0..=DEDUPE_IDS_MAX {
            recent.remember(
                key(n),
                place(n as u64),
                start + Duration::from_secs(n as u64 / 1000),
            );
        }
        assert_eq!(recent.find(&key(0)), None);
        assert_eq!(recent.find(&key(1)).unwrap().position.offset, 1);
        recent.expire(start + DEDUPE_WINDOW + Duration::from_secs(50));
        assert_eq!(recent.find(&key(49_999)), None);
        assert!(recent.find(&key(50_000)).is_some());
    }
}
