//! The broker that keeps everything in memory: a ring a room, bounded by count, bytes and age.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::broadcaster::RoomStream;
use crate::config::HistoryLimits;
use crate::protocol::{Epoch, Page, Position, Publication, RoomName};

use super::dedupe::{Place, Recent};
use super::{Broker, BrokerError, Publish, Slice, Stored, Usage};

/// Rooms and their recent messages; gone with the process.
#[derive(Debug)]
pub struct Memory {
    limits: HistoryLimits,
    rooms_max: usize,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    rooms: HashMap<RoomName, Room>,
    /// The epoch of rooms opened from now on. Forgetting a room that had offsets draws a new one, so
    /// that no offset is ever used twice within an epoch.
    epoch: Epoch,
    messages: usize,
    bytes: usize,
    recent: Recent,
}

#[derive(Debug)]
struct Room {
    stream: Arc<RoomStream>,
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
    pub fn new(limits: HistoryLimits, rooms_max: usize) -> Self {
        let table = Table {
            rooms: HashMap::new(),
            epoch: Epoch::random(),
            messages: 0,
            bytes: 0,
            recent: Recent::default(),
        };
        Self {
            limits,
            rooms_max,
            table: Mutex::new(table),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker for Memory {
    fn open(&self, name: &RoomName) -> Result<Arc<RoomStream>, BrokerError> {
        let mut table = self.lock();
        if let Some(room) = table.rooms.get(name) {
            return Ok(Arc::clone(&room.stream));
        }
        if table.rooms.len() >= self.rooms_max {
            table.forget_idle_rooms();
        }
        if table.rooms.len() >= self.rooms_max {
            return Err(BrokerError::TooManyRooms);
        }
        let stream = Arc::new(RoomStream::new(name.clone(), table.epoch, 0));
        let room = Room {
            stream: Arc::clone(&stream),
            last_offset: 0,
            ring: VecDeque::new(),
            bytes: 0,
        };
        table.rooms.insert(name.clone(), room);
        Ok(stream)
    }

    fn find(&self, name: &RoomName) -> Option<Arc<RoomStream>> {
        self.lock()
            .rooms
            .get(name)
            .map(|room| Arc::clone(&room.stream))
    }

    fn append(&self, batch: &[Publish]) -> Vec<Result<Stored, BrokerError>> {
        let (ts, at) = (unix_milliseconds(), Instant::now());
        let mut table = self.lock();
        batch
            .iter()
            .map(|publish| table.append(publish, ts, at, &self.limits))
            .collect()
    }

    fn history(&self, name: &RoomName, slice: Slice) -> Result<Page, BrokerError> {
        let table = self.lock();
        let room = table.rooms.get(name).ok_or(BrokerError::Unavailable)?;
        Ok(room.page(slice))
    }

    fn expire(&self, now: Instant) {
        let mut table = self.lock();
        table.recent.expire(now);
        table.drop_older_than(self.limits.age, now);
        table.forget_idle_rooms();
    }

    fn usage(&self) -> Usage {
        let table = self.lock();
        Usage {
            rooms: table.rooms.len(),
            messages: table.messages,
            bytes: table.bytes,
        }
    }
}

impl Table {
    fn append(
        &mut self,
        publish: &Publish,
        ts: u64,
        at: Instant,
        limits: &HistoryLimits,
    ) -> Result<Stored, BrokerError> {
        let key = publish.key();
        if let Some(place) = key.as_ref().and_then(|key| self.recent.find(key)) {
            return Ok(Stored::Duplicate(place.clone()));
        }
        let name = publish.stream.name();
        // Whoever publishes holds the room's stream, and a room that is held is not forgotten.
        let room = self.rooms.get_mut(name).ok_or(BrokerError::Stopped)?;
        room.last_offset += 1;
        let publication = Arc::new(Publication {
            room: name.clone(),
            offset: room.last_offset,
            id: publish.id.clone(),
            from: Arc::clone(&publish.from),
            ts,
            kind: publish.kind,
            payload: publish.payload.clone(),
        });
        if let Some(key) = key {
            let place = Place {
                room: name.clone(),
                position: Position {
                    epoch: room.stream.epoch(),
                    offset: room.last_offset,
                },
            };
            self.recent.remember(key, place, at);
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
            let dropped = room.drop_oldest();
            self.messages -= 1;
            self.bytes -= dropped;
        }
        self.shrink_to(limits.total_bytes);
        Ok(Stored::New(publication))
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
            }
        }
    }

    /// Rooms that nobody holds and that have no history.
    fn forget_idle_rooms(&mut self) {
        let mut forgot_offsets = false;
        self.rooms.retain(|_, room| {
            let keep = !room.ring.is_empty() || Arc::strong_count(&room.stream) > 1;
            forgot_offsets |= !keep && room.last_offset > 0;
            keep
        });
        if forgot_offsets {
            self.epoch = Epoch::random();
        }
    }
}

impl Room {
    /// The ring has no gaps, so an offset's place in it follows from the last one.
    fn page(&self, slice: Slice) -> Page {
        let first = self.last_offset - self.ring.len() as u64 + 1;
        let newest = (self.last_offset).saturating_sub(slice.messages_max as u64);
        let since = slice.since.unwrap_or(newest);
        let skip = since.saturating_add(1).saturating_sub(first) as usize;
        let mut bytes = 0;
        let fits = |kept: &&Kept| {
            bytes += kept.publication.payload.len();
            bytes <= slice.bytes_max || bytes == kept.publication.payload.len()
        };
        let wanted = self.ring.iter().skip(skip).take(slice.messages_max);
        Page {
            room: self.stream.name().clone(),
            epoch: self.stream.epoch(),
            first,
            last: self.last_offset,
            contiguous: since >= first - 1 && since <= self.last_offset,
            messages: wanted
                .take_while(fits)
                .map(|kept| Arc::clone(&kept.publication))
                .collect(),
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

fn unix_milliseconds() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since_epoch.as_millis() as u64
}
