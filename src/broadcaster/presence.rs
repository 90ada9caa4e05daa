//! The schedule of presence updates: at most one update per room and interval, so that changes are coalesced.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use crate::protocol::RoomName;

use super::room::LocalRoom;

/// The minimum time between two presence updates of a room.
pub(super) const PRESENCE_INTERVAL: Duration = Duration::from_secs(1);

/// The due and recent presence updates. Holds a room only while an update is due or was sent within the last
/// interval. A room in `updates` has exactly one entry in `due_times`.
#[derive(Default)]
pub(super) struct PresenceSchedule {
    updates: HashMap<RoomName, PresenceUpdate>,
    due_times: BinaryHeap<Reverse<(Instant, RoomName)>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PresenceUpdate {
    /// The members changed, and the change was not sent to the watchers yet.
    Due,
    /// The watchers were sent an update within the last interval, and nothing changed after it.
    Sent,
}

impl PresenceSchedule {
    /// Records that a room's members changed. The first change is due at `now`, later ones at the end of the interval.
    pub(super) fn changed(&mut self, room: &LocalRoom, now: Instant) {
        if !room.has_watchers() {
            return;
        }
        let name = room.name();
        let previous = self.updates.insert(name.clone(), PresenceUpdate::Due);
        if previous.is_none() {
            self.due_times.push(Reverse((now, name.clone())));
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due_times.peek().map(|Reverse((at, _))| *at)
    }

    /// Returns the rooms whose watchers are to be sent an update now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<RoomName> {
        let mut due = Vec::new();
        while self.next_due().is_some_and(|at| at <= now) {
            let Some(Reverse((_, name))) = self.due_times.pop() else {
                break;
            };
            match self.updates.get_mut(&name) {
                Some(update @ PresenceUpdate::Due) => {
                    *update = PresenceUpdate::Sent;
                    let interval_end = now + PRESENCE_INTERVAL;
                    self.due_times.push(Reverse((interval_end, name.clone())));
                    due.push(name);
                }
                Some(PresenceUpdate::Sent) | None => {
                    self.updates.remove(&name);
                }
            }
        }
        due
    }
}
