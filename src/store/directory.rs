//! Which rooms have a numbering: the part of every broker that joins need, so that they wait for no
//! store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::protocol::{Epoch, Position, RoomName};
use crate::rooms::RoomNumbering;

use super::StoreError;

/// The rooms, at most so many. A room stays for as long as anyone holds its stream, and for a time
/// after that, so that who comes back later finds the numbering it knew.
#[derive(Debug)]
pub(super) struct Directory {
    rooms_max: usize,
    /// How long a room that nobody uses is kept, unless its place is needed.
    keep: Duration,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    rooms: HashMap<RoomName, Entry>,
    /// The epoch of rooms opened from now on. Forgetting a room that had offsets draws a new one, so
    /// that no offset is ever used twice within an epoch.
    epoch: Epoch,
    /// Whether a room was refused since idle ones were last looked for.
    crowded: bool,
}

#[derive(Debug)]
struct Entry {
    stream: Arc<RoomNumbering>,
    idle_since: Option<Instant>,
}

impl Entry {
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.stream) > 1
    }

    fn has_offsets(&self) -> bool {
        self.stream.position().offset > 0
    }
}

impl Directory {
    /// The rooms that a store knows, with the last offset of each. They are kept even if they are more
    /// than `rooms_max`: their offsets are in use.
    pub(super) fn new(
        rooms_max: usize,
        keep: Duration,
        epoch: Epoch,
        known: impl IntoIterator<Item = (RoomName, Position)>,
    ) -> Self {
        let rooms = known.into_iter().map(|(name, Position { epoch, offset })| {
            let stream = Arc::new(RoomNumbering::new(name.clone(), epoch, offset));
            let idle_since = None;
            (name, Entry { stream, idle_since })
        });
        let table = Table {
            rooms: rooms.collect(),
            epoch,
            crowded: false,
        };
        Self {
            rooms_max,
            keep,
            table: Mutex::new(table),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The numbering of a room, begun now if the room is new.
    pub(super) fn open(&self, name: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        let mut table = self.lock();
        if let Some(entry) = table.rooms.get(name) {
            return Ok(Arc::clone(&entry.stream));
        }
        if table.rooms.len() >= self.rooms_max {
            // A room without offsets takes nothing with it.
            table
                .rooms
                .retain(|_, entry| entry.is_held() || entry.has_offsets());
        }
        if table.rooms.len() >= self.rooms_max {
            table.crowded = true;
            return Err(StoreError::TooManyRooms);
        }
        let stream = Arc::new(RoomNumbering::new(name.clone(), table.epoch, 0));
        let entry = Entry {
            stream: Arc::clone(&stream),
            idle_since: None,
        };
        table.rooms.insert(name.clone(), entry);
        Ok(stream)
    }

    /// The numbering of a room that is known.
    pub(super) fn find(&self, name: &RoomName) -> Option<Arc<RoomNumbering>> {
        let table = self.lock();
        let entry = table.rooms.get(name)?;
        Some(Arc::clone(&entry.stream))
    }

    pub(super) fn len(&self) -> usize {
        self.lock().rooms.len()
    }

    /// Rooms that may be forgotten now: nobody holds them, they have no history, and either that has
    /// been so for long enough or their place is needed.
    pub(super) fn idle(
        &self,
        now: Instant,
        has_history: impl Fn(&RoomName) -> bool,
    ) -> Vec<RoomName> {
        let mut table = self.lock();
        let keep = match std::mem::take(&mut table.crowded) {
            true => Duration::ZERO,
            false => self.keep,
        };
        let mut idle = Vec::new();
        for (name, entry) in &mut table.rooms {
            if entry.is_held() || has_history(name) {
                entry.idle_since = None;
            } else if now.saturating_duration_since(*entry.idle_since.get_or_insert(now)) >= keep {
                idle.push(name.clone());
            }
        }
        idle
    }

    /// Forgets those of the rooms that are still idle; later ones are numbered within `next`. To be
    /// called with what [`idle`](Self::idle) said, on the thread that publishes.
    pub(super) fn forget(&self, rooms: &[RoomName], next: Epoch) {
        let mut table = self.lock();
        for name in rooms {
            if table.rooms.get(name).is_some_and(|entry| !entry.is_held()) {
                table.rooms.remove(name);
            }
        }
        table.epoch = next;
    }

    /// Whether any of these rooms has given out offsets.
    pub(super) fn any_numbered(&self, rooms: &[RoomName]) -> bool {
        let table = self.lock();
        rooms
            .iter()
            .any(|name| table.rooms.get(name).is_some_and(Entry::has_offsets))
    }

    /// The epoch of rooms that are new.
    pub(super) fn epoch(&self) -> Epoch {
        self.lock().epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(60);

    fn name(text: &str) -> RoomName {
        RoomName::parse(text).unwrap()
    }

    fn directory(rooms_max: usize) -> Directory {
        let position = Position {
            epoch: Epoch::random(),
            offset: 7,
        };
        Directory::new(
            rooms_max,
            KEEP,
            Epoch::random(),
            [(name("known"), position)],
        )
    }

    #[test]
    fn a_room_is_kept_while_it_is_held_and_for_a_time_after() {
        let (directory, start) = (directory(10), Instant::now());
        let held = directory.open(&name("known")).unwrap();
        assert!(directory.idle(start, |_| false).is_empty());
        assert!(directory.idle(start + 2 * KEEP, |_| false).is_empty());
        drop(held);
        assert!(directory.idle(start + 2 * KEEP, |_| false).is_empty());
        assert!(directory.idle(start + 4 * KEEP, |_| true).is_empty());
        assert!(directory.idle(start + 4 * KEEP, |_| false).is_empty());
        assert_eq!(directory.idle(start + 5 * KEEP, |_| false), [name("known")]);
    }

    #[test]
    fn a_full_directory_gives_up_idle_rooms_under_a_new_epoch() {
        let (directory, now) = (directory(1), Instant::now());
        let (old, new) = (directory.epoch(), Epoch::random());
        assert!(directory.open(&name("new")).is_err());
        let idle = directory.idle(now, |_| false);
        assert!(directory.any_numbered(&idle));
        directory.forget(&idle, new);
        let stream = directory.open(&name("new")).unwrap();
        assert_eq!(stream.epoch(), new);
        assert_ne!(stream.epoch(), old);
    }
}
