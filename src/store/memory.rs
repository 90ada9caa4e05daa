//! The store that keeps everything in memory: a ring of messages per room, limited by count, bytes and age.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::HistoryLimits;
use crate::metrics::Metrics;
use crate::protocol::{Epoch, Page, Position, Publication, RoomName};
use crate::rooms::RoomNumbering;

use super::api::{HistoryQuery, Store, Usage};
use super::dedupe::RecentPublishes;
use super::directory::Directory;
use super::error::StoreError;
use super::publish::{Publish, Stored, unix_milliseconds};

/// Rooms and their recent messages. They are lost when the process ends.
#[derive(Debug)]
pub(super) struct Memory {
    limits: HistoryLimits,
    directory: Directory,
    history: Mutex<History>,
    metrics: Arc<Metrics>,
}

/// The messages of all rooms.
#[derive(Debug, Default)]
struct History {
    rooms: HashMap<RoomName, Ring>,
    messages: usize,
    bytes: usize,
    /// Messages dropped since the counter was last taken.
    pruned: u64,
    recent: RecentPublishes,
}

/// The recent messages of one room.
#[derive(Debug, Default)]
struct Ring {
    last_offset: u64,
    messages: VecDeque<StoredMessage>,
    bytes: usize,
}

#[derive(Debug)]
struct StoredMessage {
    publication: Arc<Publication>,
    at: Instant,
}

impl Memory {
    /// Creates an empty store.
    pub(super) fn new(limits: HistoryLimits, rooms_max: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            directory: Directory::new(rooms_max, limits.age, Epoch::random(), []),
            limits,
            history: Mutex::default(),
            metrics,
        }
    }

    /// Forgets rooms without members at once, after `wanted` rooms were refused. Returns whether another attempt may
    /// succeed.
    fn make_space(&self, history: &mut History, wanted: usize) -> bool {
        let now = Instant::now();
        let may_help = self.directory.may_make_space(now);
        if may_help {
            self.forget_idle_rooms(history, now, wanted);
        }
        may_help
    }

    /// Returns the numberings of a batch's rooms.
    fn open_batch(
        &self,
        batch: &[Publish],
        history: &mut History,
    ) -> Vec<Result<Arc<RoomNumbering>, StoreError>> {
        let rooms = || batch.iter().map(|publish| &publish.room);
        let opened = self.directory.open_all(rooms());
        let refused = opened.iter().filter(|opened| opened.is_err()).count();
        if refused == 0 || !self.make_space(history, refused) {
            return opened;
        }
        // The rooms that are open already are held meanwhile.
        self.directory.open_all(rooms())
    }

    /// Forgets idle rooms, also with history if that is necessary for `wanted` new rooms.
    fn forget_idle_rooms(&self, history: &mut History, now: Instant, wanted: usize) {
        let last_message = |name: &RoomName| history.rooms.get(name).and_then(Ring::last_at);
        let expired = self.directory.expired(now, wanted, last_message);
        let epoch = if self.directory.any_has_offsets(&expired) {
            Epoch::random()
        } else {
            self.directory.epoch()
        };
        // A room that was opened in between stays, and its numbering continues.
        for name in self.directory.forget(expired, epoch) {
            history.forget(&name);
        }
    }
}

impl Store for Memory {
    fn open(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        self.directory.open(room).or_else(|why| {
            if !self.make_space(&mut self.history.lock(), 1) {
                return Err(why);
            }
            self.directory.open(room)
        })
    }

    fn find(&self, room: &RoomName) -> Result<Option<Arc<RoomNumbering>>, StoreError> {
        Ok(self.directory.find(room))
    }

    fn appends_at_once(&self) -> bool {
        true
    }

    fn append(&self, batch: &[Publish]) -> Vec<Result<Stored, StoreError>> {
        let (ts, at) = (unix_milliseconds(), Instant::now());
        let mut history = self.history.lock();
        let numberings = self.open_batch(batch, &mut history);
        let stored = batch
            .iter()
            .zip(numberings)
            .map(|(publish, numbering)| {
                numbering.map(|numbering| history.append(publish, numbering, ts, at, &self.limits))
            })
            .collect();
        self.metrics.pruned.add(std::mem::take(&mut history.pruned));
        stored
    }

    fn history(&self, numbering: &RoomNumbering, query: HistoryQuery) -> Result<Page, StoreError> {
        let history = self.history.lock();
        Ok(match history.rooms.get(numbering.name()) {
            Some(ring) => ring.page(numbering, query),
            None => Page::empty(numbering.name(), numbering.position(), query.since),
        })
    }

    fn maintain(&self, now: Instant) {
        let mut history = self.history.lock();
        history.recent.expire(now);
        history.drop_older_than(self.limits.age, now);
        self.forget_idle_rooms(&mut history, now, 0);
        self.metrics.pruned.add(std::mem::take(&mut history.pruned));
    }

    fn usage(&self) -> Usage {
        let history = self.history.lock();
        Usage {
            rooms: self.directory.len(),
            messages: Some(history.messages as u64),
            bytes: Some(history.bytes as u64),
            disk_bytes: None,
        }
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn close(&self) {}
}

impl History {
    fn append(
        &mut self,
        publish: &Publish,
        numbering: Arc<RoomNumbering>,
        ts: u64,
        at: Instant,
        limits: &HistoryLimits,
    ) -> Stored {
        let key = publish.dedupe_key();
        if let Some(position) = key.as_ref().and_then(|key| self.recent.find(key)) {
            return Stored::Duplicate(position);
        }
        let ring = self.rooms.entry(publish.room.clone()).or_default();
        ring.last_offset += 1;
        let position = Position {
            epoch: numbering.epoch(),
            offset: ring.last_offset,
        };
        if let Some(key) = key {
            self.recent.remember(key, position, at);
        }
        let publication = Arc::new(publish.publication(position.offset, ts));
        let bytes = publication.payload.len();
        ring.messages.push_back(StoredMessage {
            publication: Arc::clone(&publication),
            at,
        });
        ring.bytes += bytes;
        self.messages += 1;
        self.bytes += bytes;
        while ring.messages.len() > limits.messages || ring.bytes > limits.bytes {
            self.bytes -= ring.drop_oldest();
            self.messages -= 1;
            self.pruned += 1;
        }
        self.shrink_to(limits.total_bytes);
        Stored::New {
            numbering,
            publication,
        }
    }

    /// Drops a room and its messages.
    fn forget(&mut self, room: &RoomName) {
        let Some(ring) = self.rooms.remove(room) else {
            return;
        };
        self.messages -= ring.messages.len();
        self.bytes -= ring.bytes;
        self.pruned += ring.messages.len() as u64;
    }

    /// Drops half of the largest room at a time until the total fits, so that a flooded room loses its own history
    /// and not that of others.
    fn shrink_to(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(largest) = self.rooms.values_mut().max_by_key(|ring| ring.bytes) else {
                return;
            };
            for _ in 0..largest.messages.len().div_ceil(2) {
                self.bytes -= largest.drop_oldest();
                self.messages -= 1;
                self.pruned += 1;
            }
        }
    }

    fn drop_older_than(&mut self, age: Duration, now: Instant) {
        let is_old = |message: &StoredMessage| now.saturating_duration_since(message.at) > age;
        for ring in self.rooms.values_mut() {
            while ring.messages.front().is_some_and(is_old) {
                self.bytes -= ring.drop_oldest();
                self.messages -= 1;
                self.pruned += 1;
            }
        }
    }
}

impl Ring {
    /// When the last message was stored; `None` without messages.
    fn last_at(&self) -> Option<Instant> {
        self.messages.back().map(|message| message.at)
    }

    /// Reads a page. The ring has no gaps, so the index of an offset follows from the last offset.
    fn page(&self, numbering: &RoomNumbering, query: HistoryQuery) -> Page {
        let first = self.last_offset - self.messages.len() as u64 + 1;
        let since = query.since.unwrap_or_else(|| self.before_newest(query));
        let skip = since.saturating_add(1).saturating_sub(first) as usize;
        let mut bytes = 0;
        let fits = |message: &&StoredMessage| {
            bytes += message.publication.payload.len();
            bytes <= query.bytes_max || bytes == message.publication.payload.len()
        };
        let wanted = self.messages.iter().skip(skip).take(query.messages_max);
        Page {
            room: numbering.name().clone(),
            epoch: numbering.epoch(),
            first,
            last: self.last_offset,
            contiguous: since >= first - 1 && since <= self.last_offset,
            messages: wanted
                .take_while(fits)
                .map(|message| Arc::clone(&message.publication))
                .collect(),
        }
    }

    /// Returns the offset before the newest messages that fit in a page.
    fn before_newest(&self, query: HistoryQuery) -> u64 {
        let mut bytes = 0;
        let mut newest = self.messages.iter().rev().take(query.messages_max);
        let too_large = newest.find(|message| {
            bytes += message.publication.payload.len();
            bytes > query.bytes_max
        });
        match too_large {
            Some(message) => message.publication.offset.min(self.last_offset - 1),
            None => self.last_offset.saturating_sub(query.messages_max as u64),
        }
    }

    /// Drops the oldest message. Returns the bytes freed; 0 if there was none.
    fn drop_oldest(&mut self) -> usize {
        let Some(oldest) = self.messages.pop_front() else {
            return 0;
        };
        let bytes = oldest.publication.payload.len();
        self.bytes -= bytes;
        if self.messages.is_empty() {
            self.messages = VecDeque::new();
        }
        bytes
    }
}
