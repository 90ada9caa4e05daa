//! The rooms of a store, in memory: joins and publishes look numberings up without waiting for the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::protocol::{Epoch, Position, RoomName};
use crate::rooms::RoomNumbering;

use super::error::StoreError;

/// Least time from a search that found no idle rooms to the next search of a full directory. Without it, clients that
/// request rooms of a full server could keep the store busy.
const IDLE_SEARCH_INTERVAL: Duration = Duration::from_millis(10);

/// Part of the rooms of a full directory that one search replaces together, so that searches cost little for each room.
const REPLACED_FRACTION: usize = 1000;
/// Most rooms with history that one search replaces. A directory may have many more rooms than its limit, if the limit
/// was lowered, and to drop all their messages at once would take long.
const REPLACED_MAX: usize = 256;

/// The rooms that have a numbering, up to a limit.
///
/// A room is kept while anyone else holds its numbering, and for some time afterwards, so that a client that
/// reconnects finds its earlier numbering. A new room of a full directory replaces idle rooms: all without history, or
/// else the one whose last message is oldest. One client that creates rooms thus never keeps out all others.
#[derive(Debug)]
pub(super) struct Directory {
    rooms_max: AtomicUsize,
    /// How long an idle room is kept, unless the directory is full.
    keep: Duration,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    rooms: HashMap<RoomName, Entry>,
    /// The epoch of rooms created from now on. Forgetting a room that had offsets draws a new epoch, so that no
    /// offset is used twice within an epoch.
    epoch: Epoch,
    /// True if a room was refused since [`Directory::expired`] ran last.
    refused_room: bool,
    /// When the last search for rooms to forget at once found none.
    found_none_at: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    numbering: Arc<RoomNumbering>,
    idle_since: Option<Instant>,
}

impl Entry {
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.numbering) > 1
    }

    fn has_offsets(&self) -> bool {
        self.numbering.position().offset > 0
    }
}

impl Directory {
    /// Creates a directory of the rooms that a store knows. They are kept even if they exceed `rooms_max`, because
    /// their offsets are in use.
    pub(super) fn new(
        rooms_max: usize,
        keep: Duration,
        epoch: Epoch,
        known: impl IntoIterator<Item = (RoomName, Position)>,
    ) -> Self {
        let rooms = known.into_iter().map(|(name, Position { epoch, offset })| {
            let entry = Entry {
                numbering: Arc::new(RoomNumbering::new(name.clone(), epoch, offset)),
                idle_since: None,
            };
            (name, entry)
        });
        let table = Table {
            rooms: rooms.collect(),
            epoch,
            refused_room: false,
            found_none_at: None,
        };
        Self {
            rooms_max: AtomicUsize::new(rooms_max),
            keep,
            table: Mutex::new(table),
        }
    }

    /// Returns the numbering of a room, creating the room if needed.
    pub(super) fn open(&self, name: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        self.table.lock().open(name, self.rooms_max())
    }

    /// Opens several rooms under one lock.
    pub(super) fn open_all<'a>(
        &self,
        names: impl Iterator<Item = &'a RoomName>,
    ) -> Vec<Result<Arc<RoomNumbering>, StoreError>> {
        let mut table = self.table.lock();
        let rooms_max = self.rooms_max();
        names.map(|name| table.open(name, rooms_max)).collect()
    }

    fn rooms_max(&self) -> usize {
        self.rooms_max.load(Ordering::Relaxed)
    }

    /// Changes the limit. Rooms beyond it are replaced once new rooms are created.
    pub(super) fn set_rooms_max(&self, rooms_max: usize) {
        self.rooms_max.store(rooms_max, Ordering::Relaxed);
    }

    /// Returns the numbering of a known room.
    pub(super) fn find(&self, name: &RoomName) -> Option<Arc<RoomNumbering>> {
        let table = self.table.lock();
        let entry = table.rooms.get(name)?;
        Some(Arc::clone(&entry.numbering))
    }

    /// Number of rooms.
    pub(super) fn len(&self) -> usize {
        self.table.lock().rooms.len()
    }

    /// Returns the rooms to forget. Nobody holds such a room, it has no history, and it was idle for long enough or
    /// the directory is full. If these are too few for `wanted` new rooms, those with the oldest last message are
    /// added. `last_message` is the order of a room's last message, or `None` without history.
    pub(super) fn expired<Order: Ord>(
        &self,
        now: Instant,
        wanted: usize,
        last_message: impl Fn(&RoomName) -> Option<Order>,
    ) -> Vec<RoomName> {
        let mut table = self.table.lock();
        let rooms = table.rooms.len();
        let is_full = std::mem::take(&mut table.refused_room);
        let keep = if is_full { Duration::ZERO } else { self.keep };
        let (mut expired, mut replaceable) = (Vec::new(), Vec::new());
        for (name, entry) in &mut table.rooms {
            if entry.is_held() {
                entry.idle_since = None;
            } else if let Some(order) = last_message(name) {
                entry.idle_since = None;
                if wanted > 0 {
                    replaceable.push((order, name));
                }
            } else if now.saturating_duration_since(*entry.idle_since.get_or_insert(now)) >= keep {
                expired.push(name.clone());
            }
        }
        if wanted > expired.len() {
            replaceable.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            let oldest = replaceable.into_iter().map(|(_, name)| name.clone());
            expired.extend(oldest.take(self.replaced(wanted, expired.len(), rooms)));
        }
        if is_full {
            table.found_none_at = expired.is_empty().then_some(now);
        }
        expired
    }

    /// The number of rooms with history to replace, if `wanted` rooms are to be created and `expired` rooms of all
    /// `rooms` are to be forgotten.
    fn replaced(&self, wanted: usize, expired: usize, rooms: usize) -> usize {
        let too_many = (rooms + wanted).saturating_sub(self.rooms_max() + expired);
        let replaced = too_many.max(self.rooms_max() / REPLACED_FRACTION);
        replaced.min(REPLACED_MAX)
    }

    /// Returns whether a refused room may fit after [`expired`](Self::expired) rooms are forgotten.
    pub(super) fn may_make_space(&self, now: Instant) -> bool {
        let found_none_at = self.table.lock().found_none_at;
        found_none_at.is_none_or(|at| now.saturating_duration_since(at) >= IDLE_SEARCH_INTERVAL)
    }

    /// Forgets the [`expired`](Self::expired) rooms that are still idle, and returns them. Rooms created later are
    /// numbered within `epoch`. The caller has held the lock of the store's messages since the call of `expired`, so
    /// that no publish happens in between.
    pub(super) fn forget(&self, mut rooms: Vec<RoomName>, epoch: Epoch) -> Vec<RoomName> {
        let mut table = self.table.lock();
        rooms.retain(|name| {
            let is_idle = table.rooms.get(name).is_some_and(|entry| !entry.is_held());
            if is_idle {
                table.rooms.remove(name);
            }
            is_idle
        });
        table.epoch = epoch;
        rooms
    }

    /// Returns whether any of these rooms has used an offset.
    pub(super) fn any_has_offsets(&self, rooms: &[RoomName]) -> bool {
        let table = self.table.lock();
        rooms
            .iter()
            .any(|name| table.rooms.get(name).is_some_and(Entry::has_offsets))
    }

    /// The epoch of new rooms.
    pub(super) fn epoch(&self) -> Epoch {
        self.table.lock().epoch
    }
}

impl Table {
    fn open(
        &mut self,
        name: &RoomName,
        rooms_max: usize,
    ) -> Result<Arc<RoomNumbering>, StoreError> {
        if let Some(entry) = self.rooms.get(name) {
            return Ok(Arc::clone(&entry.numbering));
        }
        if self.rooms.len() >= rooms_max {
            // Forgetting an idle room without offsets needs no new epoch.
            self.rooms
                .retain(|_, entry| entry.is_held() || entry.has_offsets());
        }
        if self.rooms.len() >= rooms_max {
            self.refused_room = true;
            return Err(StoreError::TooManyRooms);
        }
        let numbering = Arc::new(RoomNumbering::new(name.clone(), self.epoch, 0));
        let entry = Entry {
            numbering: Arc::clone(&numbering),
            idle_since: None,
        };
        self.rooms.insert(name.clone(), entry);
        Ok(numbering)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(60);
    const NO_HISTORY: fn(&RoomName) -> Option<u32> = |_| None;

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
    fn room_is_kept_while_it_is_held_and_for_a_time_after() {
        let (directory, start) = (directory(10), Instant::now());
        let held = directory.open(&name("known")).unwrap();
        assert!(directory.expired(start, 0, NO_HISTORY).is_empty());
        assert!(
            directory
                .expired(start + 2 * KEEP, 0, NO_HISTORY)
                .is_empty()
        );
        drop(held);
        assert!(
            directory
                .expired(start + 2 * KEEP, 0, NO_HISTORY)
                .is_empty()
        );
        assert!(
            directory
                .expired(start + 4 * KEEP, 0, |_| Some(0))
                .is_empty()
        );
        assert!(
            directory
                .expired(start + 4 * KEEP, 0, NO_HISTORY)
                .is_empty()
        );
        assert_eq!(
            directory.expired(start + 5 * KEEP, 0, NO_HISTORY),
            [name("known")]
        );
    }

    #[test]
    fn full_directory_forgets_idle_rooms_and_draws_a_new_epoch() {
        let (directory, now) = (directory(1), Instant::now());
        let (old, new) = (directory.epoch(), Epoch::random());
        assert!(directory.open(&name("new")).is_err());
        let expired = directory.expired(now, 0, NO_HISTORY);
        assert!(directory.any_has_offsets(&expired));
        assert_eq!(directory.forget(expired, new), [name("known")]);
        let numbering = directory.open(&name("new")).unwrap();
        assert_eq!(numbering.epoch(), new);
        assert_ne!(numbering.epoch(), old);
    }

    #[test]
    fn full_directory_is_not_searched_again_right_after_a_search_in_vain() {
        let (directory, start) = (directory(1), Instant::now());
        assert!(directory.may_make_space(start));
        assert!(directory.open(&name("new")).is_err());
        assert!(directory.expired(start, 0, |_| Some(0)).is_empty());
        assert!(!directory.may_make_space(start));
        let later = start + IDLE_SEARCH_INTERVAL;
        assert!(directory.may_make_space(later));
        assert!(directory.open(&name("new")).is_err());
        assert_eq!(directory.expired(later, 0, NO_HISTORY), [name("known")]);
        assert!(directory.may_make_space(later));
    }

    #[test]
    fn regular_search_in_vain_does_not_delay_the_search_for_space() {
        let (directory, start) = (directory(1), Instant::now());
        assert!(directory.expired(start, 0, NO_HISTORY).is_empty());
        assert!(directory.may_make_space(start));
    }

    #[test]
    fn full_directory_replaces_the_room_whose_last_message_is_oldest() {
        let now = Instant::now();
        let directory = directory(4);
        for room in ["4", "2"] {
            drop(directory.open(&name(room)).unwrap());
            // A room without offsets would be forgotten by the next one.
            directory.find(&name(room)).unwrap().set_delivered(1);
        }
        let _held = directory.open(&name("1")).unwrap();
        let order = |room: &RoomName| room.as_str().parse().ok().or(Some(9));
        let expired = |wanted| directory.expired(now, wanted, order);
        assert!(expired(0).is_empty());
        assert_eq!(expired(1), [name("2")]);
        assert_eq!(expired(2), [name("2"), name("4")]);
        assert_eq!(expired(9), [name("2"), name("4"), name("known")]);
        // A room without history comes first.
        assert!(directory.open(&name("new")).is_err());
        let order = |room: &RoomName| order(room).filter(|order| *order != 9);
        assert_eq!(directory.expired(now, 1, order), [name("known")]);
    }

    #[test]
    fn rooms_beyond_a_lower_limit_are_replaced_in_parts() {
        let directory = directory(1000);
        for (rooms, expired, replaced) in [
            (1000, 0, 1),
            (1000, 5, 1),
            (1003, 0, 4),
            (1003, 1, 3),
            (9000, 0, REPLACED_MAX),
        ] {
            assert_eq!(directory.replaced(1, expired, rooms), replaced);
        }
    }
}
