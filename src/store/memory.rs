//! The broker that keeps everything in memory: a ring a room, bounded by count, bytes and age.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::HistoryLimits;
use crate::metrics::Metrics;
use crate::protocol::{Epoch, Page, Publication, RoomName};
use crate::rooms::RoomNumbering;

use super::dedupe::Recent;
use super::directory::Directory;
use super::{Publish, Slice, Store, StoreError, Stored, Usage, unix_milliseconds};

/// Rooms and their recent messages; gone with the process.
#[derive(Debug)]
pub struct Memory {
    limits: HistoryLimits,
    directory: Directory,
    table: Mutex<Table>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Table {
    rooms: HashMap<RoomName, Room>,
    messages: usize,
    bytes: usize,
    pruned: u64,
    recent: Recent,
}

#[derive(Debug, Default)]
struct Room {
    last_offset: u64,
    ring: VecDeque<Kept>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    publication: Arc<Publication>,
    at: Instant,
}

impl Memory {
    /// An empty store.
    pub fn new(limits: HistoryLimits, rooms_max: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            directory: Directory::new(rooms_max, limits.age, Epoch::random(), []),
            limits,
            table: Mutex::default(),
            metrics,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rooms that nobody has used for long.
    fn forget_idle_rooms(&self, table: &mut Table, now: Instant) {
        let has_history = |name: &RoomName| table.rooms.get(name).is_some_and(Room::has_history);
        let idle = self.directory.idle(now, has_history);
        let next = match self.directory.any_numbered(&idle) {
            true => Epoch::random(),
            false => self.directory.epoch(),
        };
        self.directory.forget(&idle, next);
        for name in &idle {
            // One that came into use in between goes on where it was.
            if self.directory.find(name).is_none() {
                table.rooms.remove(name);
            }
        }
    }
}

impl Store for Memory {
    fn open(&self, name: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        self.directory.open(name)
    }

    fn find(&self, name: &RoomName) -> Result<Option<Arc<RoomNumbering>>, StoreError> {
        Ok(self.directory.find(name))
    }

    fn append(&self, batch: &[Publish]) -> Vec<Result<Stored, StoreError>> {
        let (ts, at) = (unix_milliseconds(), Instant::now());
        let mut table = self.lock();
        let stored = batch
            .iter()
            .map(|publish| Ok(table.append(publish, ts, at, &self.limits)))
            .collect();
        self.metrics.pruned.add(std::mem::take(&mut table.pruned));
        stored
    }

    fn history(&self, stream: &RoomNumbering, slice: Slice) -> Result<Page, StoreError> {
        let table = self.lock();
        Ok(match table.rooms.get(stream.name()) {
            Some(room) => room.page(stream, slice),
            None => Page::empty(stream.name(), stream.position(), slice.since),
        })
    }

    fn maintain(&self, now: Instant) {
        let mut table = self.lock();
        table.recent.expire(now);
        table.drop_older_than(self.limits.age, now);
        self.forget_idle_rooms(&mut table, now);
        self.metrics.pruned.add(std::mem::take(&mut table.pruned));
    }

    fn usage(&self) -> Usage {
        let table = self.lock();
        Usage {
            rooms: self.directory.len(),
            messages: Some(table.messages as u64),
            bytes: Some(table.bytes as u64),
            disk_bytes: None,
        }
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn close(&self) {}
}

impl Table {
    fn append(
        &mut self,
        publish: &Publish,
        ts: u64,
        at: Instant,
        limits: &HistoryLimits,
    ) -> Stored {
        let key = publish.key();
        if let Some(place) = key.as_ref().and_then(|key| self.recent.find(key)) {
            return Stored::Duplicate(place.clone());
        }
        // Whoever publishes holds the room's stream, and a room that is held is not forgotten.
        let room = self.rooms.entry(publish.stream.name().clone()).or_default();
        room.last_offset += 1;
        let publication = Arc::new(publish.publication(room.last_offset, ts));
        if let Some(key) = key {
            self.recent
                .remember(key, publish.place(room.last_offset), at);
        }
        let bytes = publication.payload.len();
        room.ring.push_back(Kept {
            publication: Arc::clone(&publication),
            at,
        });
        room.bytes += bytes;
        self.messages += 1;
        self.bytes += bytes;
        while room.ring.len() > limits.messages || room.bytes > limits.bytes {
            self.bytes -= room.drop_oldest();
            self.messages -= 1;
            self.pruned += 1;
        }
        self.shrink_to(limits.total_bytes);
        Stored::New(publication)
    }

    /// The room that holds most gives way, half of it at a time: a flooded room costs itself.
    fn shrink_to(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(largest) = self.rooms.values_mut().max_by_key(|room| room.bytes) else {
                return;
            };
            for _ in 0..largest.ring.len().div_ceil(2) {
                self.bytes -= largest.drop_oldest();
                self.messages -= 1;
                self.pruned += 1;
            }
        }
    }

    fn drop_older_than(&mut self, age: Duration, now: Instant) {
        for room in self.rooms.values_mut() {
            while room
                .ring
                .front()
                .is_some_and(|s| now.saturating_duration_since(s.at) > age)
            {
                self.bytes -= room.drop_oldest();
                self.messages -= 1;
                self.pruned += 1;
            }
        }
    }
}

impl Room {
    fn has_history(&self) -> bool {
        !self.ring.is_empty()
    }

    /// The ring has no gaps, so an offset's place in it follows from the last one.
    fn page(&self, stream: &RoomNumbering, slice: Slice) -> Page {
        let first = self.last_offset - self.ring.len() as u64 + 1;
        let since = slice.since.unwrap_or_else(|| self.before_newest(slice));
        let skip = since.saturating_add(1).saturating_sub(first) as usize;
        let mut bytes = 0;
        let fits = |kept: &&Kept| {
            bytes += kept.publication.payload.len();
            bytes <= slice.bytes_max || bytes == kept.publication.payload.len()
        };
        let wanted = self.ring.iter().skip(skip).take(slice.messages_max);
        Page {
            room: stream.name().clone(),
            epoch: stream.epoch(),
            first,
            last: self.last_offset,
            contiguous: since >= first - 1 && since <= self.last_offset,
            messages: wanted
                .take_while(fits)
                .map(|kept| Arc::clone(&kept.publication))
                .collect(),
        }
    }

    /// The offset after which the newest messages are no more than a page holds.
    fn before_newest(&self, slice: Slice) -> u64 {
        let mut bytes = 0;
        let mut newest = self.ring.iter().rev().take(slice.messages_max);
        let too_many = newest.find(|kept| {
            bytes += kept.publication.payload.len();
            bytes > slice.bytes_max
        });
        match too_many {
            Some(kept) => kept.publication.offset.min(self.last_offset - 1),
            None => (self.last_offset).saturating_sub(slice.messages_max as u64),
        }
    }

    /// Says how many bytes that freed; 0 if there is nothing left.
    fn drop_oldest(&mut self) -> usize {
        let Some(oldest) = self.ring.pop_front() else {
            return 0;
        };
        let bytes = oldest.publication.payload.len();
        self.bytes -= bytes;
        if self.ring.is_empty() {
            self.ring = VecDeque::new();
        }
        bytes
    }
}
