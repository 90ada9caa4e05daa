//! The parts of history that could not be read, until they can be read again or are dropped.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::protocol::RoomName;

/// Rooms that are tracked. Beyond it no room is added until another is readable.
const ROOMS_MAX: usize = 1000;

/// Offsets of a room between which some messages cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) first: u64,
    pub(super) last: u64,
    /// True if the file is damaged, rather than out of reach for a moment.
    pub(super) is_damaged: bool,
}

impl Unreadable {
    pub(super) fn at(offset: u64, is_damaged: bool) -> Self {
        Self {
            first: offset,
            last: offset,
            is_damaged,
        }
    }
}

/// The unreadable part of each room.
#[derive(Debug, Default)]
pub(super) struct UnreadableParts(Mutex<Parts>);

#[derive(Debug, Default)]
struct Parts {
    by_room: HashMap<RoomName, Unreadable>,
    /// Counts calls of [`UnreadableParts::next`].
    turn: usize,
}

impl UnreadableParts {
    /// Adds a part. It is joined with the part known before, so one range per room is enough.
    pub(super) fn add(&self, room: &RoomName, part: Unreadable) {
        let parts = &mut self.0.lock().by_room;
        if let Some(known) = parts.get_mut(room) {
            known.first = known.first.min(part.first);
            known.last = known.last.max(part.last);
            known.is_damaged |= part.is_damaged;
        } else if parts.len() < ROOMS_MAX {
            parts.insert(room.clone(), part);
        }
    }

    /// Returns whether a damaged part lies after `since` and not after `until`.
    pub(super) fn are_between(&self, room: &RoomName, since: u64, until: u64) -> bool {
        let parts = &self.0.lock().by_room;
        let part = parts.get(room).filter(|part| part.is_damaged);
        part.is_some_and(|part| part.last > since && part.first <= until)
    }

    /// Returns a part to read again: each one in turn.
    pub(super) fn next(&self) -> Option<(RoomName, Unreadable)> {
        let mut parts = self.0.lock();
        parts.turn = parts.turn.wrapping_add(1);
        let turn = parts.turn % parts.by_room.len().max(1);
        let (room, part) = parts.by_room.iter().nth(turn)?;
        Some((room.clone(), *part))
    }

    /// Records that the messages of a room up to an offset can be read, or are gone.
    pub(super) fn remove_until(&self, room: &RoomName, offset: u64) {
        let parts = &mut self.0.lock().by_room;
        if let Some(part) = parts.get_mut(room) {
            part.first = part.first.max(offset.saturating_add(1));
            if part.first > part.last {
                parts.remove(room);
            }
        }
    }

    pub(super) fn are_none(&self) -> bool {
        self.0.lock().by_room.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_is_known_until_it_is_read_again() {
        let (parts, room) = (UnreadableParts::default(), RoomName::lobby());
        parts.add(&room, Unreadable::at(10, true));
        parts.add(&room, Unreadable::at(20, true));
        assert!(parts.are_between(&room, 0, 10));
        assert!(parts.are_between(&room, 19, 30));
        assert!(!parts.are_between(&room, 0, 9));
        assert!(!parts.are_between(&room, 20, 30));
        parts.remove_until(&room, 10);
        assert_eq!(parts.next().unwrap().1.first, 11);
        parts.remove_until(&room, 20);
        assert!(parts.are_none());
    }

    #[test]
    fn part_that_is_out_of_reach_for_a_moment_is_not_a_gap() {
        let (parts, room) = (UnreadableParts::default(), RoomName::lobby());
        parts.add(&room, Unreadable::at(10, false));
        assert!(!parts.are_between(&room, 0, 10));
        assert!(!parts.are_none());
    }
}
