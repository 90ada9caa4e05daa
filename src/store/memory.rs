//! The store that keeps everything in memory: a ring of messages per room, limited by count, bytes and age.

mod ring;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::config::{Config, LiveConfig};
use crate::metrics::Metrics;
use crate::protocol::{Epoch, Page, Position, RoomName};
use crate::rooms::RoomNumbering;

use self::ring::{Removed, Ring};
use super::api::{Deleted, Deletion, HistoryQuery, Store, Usage};
use super::dedupe::RecentPublishes;
use super::directory::Directory;
use super::error::StoreError;
use super::publish::{Publish, Stored, unix_milliseconds};

/// Messages that a deletion removes at once, while nothing else is stored or read.
const DELETED_MAX: usize = 10_000;
/// Messages that are checked at once for the end of their ttl. The rooms that have waited longest come first.
const CHECKED_MAX: usize = 100_000;

/// Rooms and their recent messages. They are lost when the process ends.
#[derive(Debug)]
pub(super) struct Memory {
    config: LiveConfig,
    directory: Directory,
    history: Mutex<History>,
    metrics: Arc<Metrics>,
}

/// The messages of all rooms.
#[derive(Debug)]
struct History {
    /// The settings that all rings have their limits from.
    config: Arc<Config>,
    rooms: HashMap<RoomName, Ring>,
    messages: usize,
    bytes: usize,
    /// Messages dropped since the counter was last taken.
    pruned: u64,
    /// Messages whose ttl ended since the counter was last taken.
    expired: u64,
    recent: RecentPublishes,
}

impl Memory {
    /// Creates an empty store.
    pub(super) fn new(config: &LiveConfig, metrics: Arc<Metrics>) -> Self {
        let settings = config.get();
        let (rooms_max, keep) = (settings.limits.max_rooms, settings.history.age);
        Self {
            config: config.clone(),
            directory: Directory::new(rooms_max, keep, Epoch::random(), []),
            history: Mutex::new(History::new(settings)),
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
                numbering.map(|numbering| history.append(publish, numbering, ts, at))
            })
            .collect();
        self.metrics.pruned.add(std::mem::take(&mut history.pruned));
        stored
    }

    fn delete(&self, room: &RoomName, deletion: Deletion) -> Result<Deleted, StoreError> {
        let mut history = self.history.lock();
        let Some(ring) = history.rooms.get_mut(room) else {
            return Ok(Deleted {
                messages: 0,
                is_complete: true,
            });
        };
        let removed = match deletion {
            Deletion::Until(offset) => ring.delete_until(offset, DELETED_MAX),
            Deletion::Message(offset) => ring.delete(offset, Instant::now()),
        };
        history.subtract(removed);
        self.metrics.deleted.add(removed.messages as u64);
        Ok(Deleted {
            messages: removed.messages as u64,
            is_complete: removed.messages < DELETED_MAX,
        })
    }

    fn history(&self, numbering: &RoomNumbering, query: HistoryQuery) -> Result<Page, StoreError> {
        let history = self.history.lock();
        Ok(match history.rooms.get(numbering.name()) {
            Some(ring) => ring.page(numbering, query, Instant::now()),
            None => Page::empty(numbering.name(), numbering.position(), query.since),
        })
    }

    fn maintain(&self, now: Instant) {
        let mut history = self.history.lock();
        history.recent.expire(now);
        let config = self.config.get();
        self.directory.set_rooms_max(config.limits.max_rooms);
        history.reload(config);
        history.drop_old(now);
        history.drop_expired(now);
        self.forget_idle_rooms(&mut history, now, 0);
        self.metrics.pruned.add(std::mem::take(&mut history.pruned));
        self.metrics
            .expired
            .add(std::mem::take(&mut history.expired));
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
    fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            rooms: HashMap::new(),
            messages: 0,
            bytes: 0,
            pruned: 0,
            expired: 0,
            recent: RecentPublishes::default(),
        }
    }

    /// Gives every room its limits by new settings.
    fn reload(&mut self, config: Arc<Config>) {
        if Arc::ptr_eq(&self.config, &config) {
            return;
        }
        for (room, ring) in &mut self.rooms {
            ring.set_limits(config.room_history(room));
            let removed = ring.shrink();
            self.messages -= removed.messages;
            self.bytes -= removed.bytes;
            self.pruned += removed.messages as u64;
        }
        self.shrink_to(config.history.total_bytes);
        self.config = config;
    }

    fn append(
        &mut self,
        publish: &Publish,
        numbering: Arc<RoomNumbering>,
        ts: u64,
        at: Instant,
    ) -> Stored {
        let key = publish.dedupe_key();
        if let Some(position) = key.as_ref().and_then(|key| self.recent.find(key)) {
            return Stored::Duplicate(position);
        }
        let config = &self.config;
        let ring = self.rooms.entry(publish.room.clone());
        let ring = ring.or_insert_with_key(|room| Ring::new(config.room_history(room)));
        let position = Position {
            epoch: numbering.epoch(),
            offset: ring.next_offset(),
        };
        if let Some(key) = key {
            self.recent.remember(key, position, at);
        }
        let publication = Arc::new(publish.publication(position.offset, ts));
        let ttl = publish.ttl_within(ring.limits().age);
        ring.push(Arc::clone(&publication), at, ttl);
        self.messages += 1;
        self.bytes += publication.payload.len();
        let removed = ring.shrink();
        self.subtract(removed);
        self.pruned += removed.messages as u64;
        self.shrink_to(self.config.history.total_bytes);
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
        self.messages -= ring.len();
        self.bytes -= ring.bytes();
        self.pruned += ring.len() as u64;
    }

    /// Accounts for messages that were removed from a ring.
    fn subtract(&mut self, removed: Removed) {
        self.messages -= removed.messages;
        self.bytes -= removed.bytes;
    }

    /// Drops half of the largest room at a time until the total fits, so that a flooded room loses its own history
    /// and not that of others.
    fn shrink_to(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(largest) = self.rooms.values_mut().max_by_key(|ring| ring.bytes()) else {
                return;
            };
            for _ in 0..largest.len().div_ceil(2) {
                let removed = largest.drop_oldest();
                self.messages -= removed.messages;
                self.bytes -= removed.bytes;
                self.pruned += removed.messages as u64;
            }
        }
    }

    fn drop_old(&mut self, now: Instant) {
        for ring in self.rooms.values_mut() {
            let age = ring.limits().age;
            let is_old = |at: Instant| now.saturating_duration_since(at) > age;
            while ring.oldest_at().is_some_and(is_old) {
                let removed = ring.drop_oldest();
                self.messages -= removed.messages;
                self.bytes -= removed.bytes;
                self.pruned += removed.messages as u64;
            }
        }
    }

    /// Removes messages whose ttl has ended. Readers do not get them in any case.
    fn drop_expired(&mut self, now: Instant) {
        let due = |(name, ring): (&RoomName, &Ring)| {
            let expiry = ring.next_expiry().filter(|expiry| *expiry <= now)?;
            Some((expiry, name.clone()))
        };
        let mut due: Vec<(Instant, RoomName)> = self.rooms.iter().filter_map(due).collect();
        due.sort_unstable_by_key(|(expiry, _)| *expiry);
        let mut checked = 0;
        for (_, name) in due {
            let Some(ring) = self.rooms.get_mut(&name).filter(|_| checked < CHECKED_MAX) else {
                return;
            };
            checked += ring.len();
            let removed = ring.drop_expired(now);
            self.subtract(removed);
            self.expired += removed.messages as u64;
        }
    }
}
