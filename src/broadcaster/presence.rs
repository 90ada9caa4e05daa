//! When a room's watchers are next told who is there: changes are coalesced, at most one update a
//! room and interval.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Instant;

use crate::config::PRESENCE_INTERVAL;
use crate::protocol::RoomName;

use super::room::Room;

/// Holds a room only while an update is due or was sent within the interval.
#[derive(Default)]
pub(super) struct PresenceSchedule {
    rooms: HashMap<RoomName, Update>,
    wakes: BinaryHeap<Reverse<(Instant, RoomName)>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Update {
    Due,
    Sent,
}

impl PresenceSchedule {
    /// Notes that a room's membership changed. The first change goes out at the next tick, those
    /// that follow at the end of the interval.
    pub(super) fn changed(&mut self, room: &Room, now: Instant) {
        if !room.has_watchers() {
            return;
        }
        let name = room.name();
        match self.rooms.insert(name.clone(), Update::Due) {
            None => self.wakes.push(Reverse((now, name.clone()))),
            // A wake for this room is in the heap already.
            Some(Update::Due | Update::Sent) => {}
        }
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.wakes.peek().map(|Reverse((at, _))| *at)
    }

    /// Rooms whose watchers are to be told now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<RoomName> {
        let mut due = Vec::new();
        while self.next_wake().is_some_and(|at| at <= now) {
            let Some(Reverse((_, name))) = self.wakes.pop() else {
                break;
            };
            match self.rooms.get_mut(&name) {
                Some(update @ Update::Due) => {
                    *update = Update::Sent;
                    self.wakes
                        .push(Reverse((now + PRESENCE_INTERVAL, name.clone())));
                    due.push(name);
                }
                Some(Update::Sent) | None => {
                    self.rooms.remove(&name);
                }
            }
        }
        due
    }
}
