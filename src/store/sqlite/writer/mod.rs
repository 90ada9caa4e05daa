//! The only writer of the database: stores batches, prunes history, and mirrors the rooms in memory.

mod expiry;
mod removal;
mod revoked;
mod startup;
mod transaction;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use crate::config::{Config, LiveConfig};
use crate::protocol::{Epoch, Position, RoomName};
use crate::rooms::RoomNumbering;

pub(super) use self::removal::DELETED_BYTES_MAX;
use self::startup::Loaded;
use self::transaction::{RoomRow, Totals, WriteTransaction};
use super::files::Mark;
use super::progress::{DatabaseProgress, count_batch, replaced};
use super::schema::{set_state, start_transaction};
use crate::store::dedupe::{DEDUPE_WINDOW, DedupeKey, RecentPublishes};
use crate::store::error::StoreError;
use crate::store::publish::{Publish, Stored, unix_milliseconds};

/// Time that one round of expiry may take from publishing.
const EXPIRY_TIME_MAX: Duration = Duration::from_millis(100);
/// Bytes written to find out whether the disk accepts writes again.
const PROBE_BYTES: u32 = 64 * 1024;

/// The connection that writes, and a mirror of the database's rooms.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    live: LiveConfig,
    /// The settings that the limits of the history are from.
    config: Arc<Config>,
    rooms: HashMap<RoomName, RoomRow>,
    totals: Totals,
    recent: RecentPublishes,
    /// The last id in the database at several times, oldest first: rows up to it expire with their time.
    stored_ids: VecDeque<(Instant, i64)>,
    mark: Arc<Mark>,
    /// The number of the last batch in the database.
    batch: u64,
    /// True if that batch could not be written to the mark.
    is_unmarked: bool,
    /// Messages dropped since the counter was last taken.
    pruned: u64,
    /// The room with which the next expiry by rules continues.
    expired_until: Option<RoomName>,
    /// True if rooms may exceed the limits of new settings.
    has_unpruned: bool,
    /// Messages whose ttl ended since the counter was last taken.
    expired: u64,
}

impl Writer {
    /// Loads the database and prunes it to the current limits. Also returns the epoch of new rooms. `batch` is the
    /// number of the last batch.
    pub(super) fn load(
        connection: Connection,
        mark: Arc<Mark>,
        batch: u64,
        live: LiveConfig,
    ) -> rusqlite::Result<(Self, Epoch)> {
        let loaded = startup::load(&connection)?;
        let Loaded {
            epoch,
            rooms,
            recent,
        } = loaded;
        let mut totals = Totals::default();
        for row in rooms.values() {
            totals.messages += row.messages();
            totals.bytes += row.bytes;
        }
        let mut writer = Self {
            connection,
            config: live.get(),
            live,
            rooms,
            totals,
            recent,
            stored_ids: VecDeque::new(),
            mark,
            batch,
            is_unmarked: false,
            pruned: 0,
            expired_until: None,
            has_unpruned: false,
            expired: 0,
        };
        match writer.prune_all() {
            // Each publish prunes its room too.
            Err(why) if why.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                log::warn!("the history is not pruned to its limits yet: {why}");
            }
            pruned => pruned?,
        }
        Ok((writer, epoch))
    }

    /// Returns the last position of each room.
    pub(super) fn positions(&self) -> Vec<(RoomName, Position)> {
        let position = |(room, row): (&RoomName, &RoomRow)| {
            let (epoch, offset) = (row.epoch, row.last);
            (room.clone(), Position { epoch, offset })
        };
        self.rooms.iter().map(position).collect()
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// Returns the order of a room's last message among all rooms, or `None` without history.
    pub(super) fn last_seq(&self, room: &RoomName) -> Option<i64> {
        let row = self.rooms.get(room)?;
        (row.messages() > 0).then_some(row.last_seq)
    }

    /// Returns the number of messages dropped since the last call.
    pub(super) fn take_pruned(&mut self) -> u64 {
        std::mem::take(&mut self.pruned)
    }

    /// Returns the number of messages whose ttl ended since the last call.
    pub(super) fn take_expired(&mut self) -> u64 {
        std::mem::take(&mut self.expired)
    }

    /// Stores a batch in one transaction: all of it or nothing. `numberings` are those of the batch's rooms; a room
    /// that was refused is an error of its publish only.
    pub(super) fn append(
        &mut self,
        batch: &[Publish],
        numberings: &[Result<Arc<RoomNumbering>, StoreError>],
        now: Instant,
    ) -> rusqlite::Result<Vec<Result<Stored, StoreError>>> {
        let ts = unix_milliseconds();
        let (config, recent) = (Arc::clone(&self.config), std::mem::take(&mut self.recent));
        let stored = self.transact(|transaction| {
            let mut stored = Vec::with_capacity(batch.len());
            for (publish, numbering) in batch.iter().zip(numberings) {
                stored.push(match numbering {
                    Ok(numbering) => {
                        let age = config.room_history(&publish.room).age;
                        Ok(store(transaction, &recent, publish, numbering, ts, age)?)
                    }
                    Err(why) => Err(*why),
                });
            }
            transaction.prune(&config)?;
            Ok(stored)
        });
        self.recent = recent;
        let (stored, ids) = stored?;
        for (key, position) in ids {
            self.recent.remember(key, position, now);
        }
        Ok(stored)
    }

    /// Returns the result of a publish while nothing can be stored: retries of stored publishes still succeed, and
    /// others fail with `error`.
    pub(super) fn find_duplicate(
        &self,
        publish: &Publish,
        error: StoreError,
    ) -> Result<Stored, StoreError> {
        publish
            .dedupe_key()
            .and_then(|key| self.recent.find(&key))
            .map(Stored::Duplicate)
            .ok_or(error)
    }

    /// The connection that writes.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The bytes of pages in the file that are free for reuse.
    pub(super) fn reusable_bytes(&self) -> u64 {
        expiry::free_page_bytes(&self.connection).unwrap_or(0)
    }

    /// Checks that the database has the last batch. It has another if another program replaced its contents.
    pub(super) fn check_progress(&self) -> rusqlite::Result<()> {
        match DatabaseProgress::read(&self.connection)? {
            Some(progress) if progress.batch == self.batch => Ok(()),
            _ => Err(replaced()),
        }
    }

    /// Writes the number of the last batch to the mark, before that batch is acknowledged.
    fn write_mark(&mut self) {
        let batch = self.batch;
        let written = self.mark.update(|record| record.batch = batch);
        self.is_unmarked = written.is_err();
        if let Err(why) = written {
            log::error!("cannot write the -mark file of the database: {why}");
        }
    }

    /// Fails while the mark cannot be written. Only one batch is acknowledged without it: the batch whose number
    /// could not be written after it was stored.
    fn retry_mark(&mut self) -> rusqlite::Result<()> {
        if self.is_unmarked {
            self.write_mark();
        }
        if self.is_unmarked {
            let reason = "the -mark file of the database cannot be written";
            return Err(rusqlite::Error::ToSqlConversionFailure(reason.into()));
        }
        Ok(())
    }

    /// Runs `change` in a transaction and applies it in memory. Also returns the ids that it remembered.
    fn transact<T>(
        &mut self,
        change: impl FnOnce(&mut WriteTransaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<(T, HashMap<DedupeKey, Position>)> {
        self.retry_mark()?;
        let batch = self.batch + 1;
        let transaction = start_transaction(&mut self.connection)?;
        let mut transaction = WriteTransaction::new(transaction, &self.rooms, self.totals);
        let result = change(&mut transaction)?;
        let changes = transaction.commit(batch)?;
        if !changes.rooms.is_empty() {
            self.batch = batch;
            self.write_mark();
        }
        self.rooms.extend(changes.rooms);
        self.totals = changes.totals;
        self.pruned += changes.pruned;
        Ok((result, changes.ids))
    }

    /// Prunes every room, because the limits may have been wider when its messages were stored.
    fn prune_all(&mut self) -> rusqlite::Result<()> {
        self.prune_until(None)?;
        let bytes_max = self.config.history.total_bytes as u64;
        self.transact(|transaction| transaction.shrink_to(bytes_max))?;
        Ok(())
    }

    /// Prunes rooms that exceed their limits until there are none, or until the deadline.
    fn prune_until(&mut self, deadline: Option<Instant>) -> rusqlite::Result<()> {
        let config = Arc::clone(&self.config);
        let exceeds = |(room, row): &(&RoomName, &RoomRow)| {
            let limits = config.room_history(room);
            row.messages() > limits.messages as u64 || row.bytes > limits.bytes as u64
        };
        let rooms = self.rooms.iter().filter(exceeds);
        let rooms: Vec<RoomName> = rooms.map(|(room, _)| room.clone()).collect();
        for room in &rooms {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(());
            }
            self.transact(|transaction| transaction.prune_room(room, &config))?;
        }
        self.has_unpruned = false;
        Ok(())
    }

    /// Prunes rooms to the limits of new settings, in rounds that leave time for publishing.
    fn reload(&mut self, deadline: Instant) -> rusqlite::Result<()> {
        let config = self.live.get();
        if !Arc::ptr_eq(&self.config, &config) {
            self.config = config;
            self.has_unpruned = true;
        }
        if self.has_unpruned {
            self.prune_until(Some(deadline))?;
        }
        Ok(())
    }

    /// Drops expired messages and ids, and returns free pages to the file system.
    pub(super) fn expire(&mut self, now: Instant) -> rusqlite::Result<()> {
        self.recent.expire(now);
        let now_ts = unix_milliseconds();
        expiry::correct_future_timestamps(&self.connection, "messages", now_ts)?;
        let deadline = Instant::now() + EXPIRY_TIME_MAX;
        self.reload(deadline)?;
        let until_ts = expiry::before(now_ts, self.config.history.age);
        self.expire_by_rules(now_ts, deadline)?;
        while Instant::now() < deadline
            && expiry::oldest_is_until(&self.connection, "messages", until_ts)?
        {
            self.transact(|transaction| transaction.expire(until_ts))?;
        }
        while Instant::now() < deadline && expiry::has_expired(&self.connection, now_ts)? {
            let (expired, _) = self.transact(|transaction| transaction.remove_expired(now_ts))?;
            self.expired += expired;
        }
        self.expire_ids(now)?;
        expiry::release_free_pages(&self.connection)
    }

    /// Drops the messages of rooms whose rule keeps them for a shorter time than others. Each call continues with the room
    /// at which the time of the call before was over.
    fn expire_by_rules(&mut self, now_ts: u64, deadline: Instant) -> rusqlite::Result<()> {
        let config = Arc::clone(&self.config);
        if !config.rooms.any_shortens_age() {
            return Ok(());
        }
        let age = |room: &RoomName| config.room_history(room).age;
        let has_messages = |(_, row): &(&RoomName, &RoomRow)| row.messages() > 0;
        let rooms = self.rooms.iter().filter(has_messages);
        let rooms = rooms.filter(|(room, _)| age(room) < config.history.age);
        let mut rooms: Vec<RoomName> = rooms.map(|(room, _)| room.clone()).collect();
        rooms.sort_unstable();
        let next = self.expired_until.take();
        let start = next.map_or(0, |next| rooms.partition_point(|room| *room < next));
        for room in &rooms[start..] {
            if Instant::now() >= deadline {
                self.expired_until = Some(room.clone());
                break;
            }
            let until_ts = expiry::before(now_ts, age(room));
            if self.oldest_is_until(room, until_ts)? {
                self.transact(|transaction| transaction.expire_room(room, until_ts))?;
            }
        }
        Ok(())
    }

    /// Returns whether the oldest message of a room was stored at or before `ts`.
    fn oldest_is_until(&self, room: &RoomName, ts: u64) -> rusqlite::Result<bool> {
        let key = self.rooms.get(room).and_then(|row| row.key);
        let select = "SELECT ts <= ?2 FROM messages WHERE room = ?1 ORDER BY offset LIMIT 1";
        let mut select = self.connection.prepare_cached(select)?;
        let is_old = select.query_row(params![key, ts], |row| row.get(0));
        Ok(is_old.optional()?.unwrap_or(false))
    }

    /// Drops the ids that have been in the database for the deduplication window. Their age is measured by a clock
    /// that does not jump, so ids of the last run stay for another window after a start.
    fn expire_ids(&mut self, now: Instant) -> rusqlite::Result<()> {
        let Some(last) = expiry::last_id(&self.connection)? else {
            self.stored_ids.clear();
            return Ok(());
        };
        if self.stored_ids.back().is_none_or(|(_, id)| *id != last) {
            self.stored_ids.push_back((now, last));
        }
        let is_expired = |at: Instant| now.saturating_duration_since(at) > DEDUPE_WINDOW;
        let mut until = None;
        while let Some((_, id)) = self.stored_ids.front().filter(|(at, _)| is_expired(*at)) {
            until = Some(*id);
            self.stored_ids.pop_front();
        }
        expiry::drop_ids(&mut self.connection, until)
    }

    /// Checks whether the disk accepts writes: writes as much as a large message, then removes it.
    pub(super) fn probe(&mut self) -> rusqlite::Result<()> {
        let write = "INSERT INTO state (key, value) VALUES ('probe', zeroblob(?1))
            ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.connection.execute(write, [PROBE_BYTES])?;
        let remove = "DELETE FROM state WHERE key = 'probe'";
        self.connection.execute(remove, []).map(drop)
    }

    /// Deletes rooms with their history, and returns the new epoch of rooms created from now on. Their rows stay in
    /// memory without history, for rooms that are opened again meanwhile.
    pub(super) fn forget(&mut self, rooms: &[RoomName]) -> rusqlite::Result<Epoch> {
        self.retry_mark()?;
        let epoch = Epoch::random();
        let batch = self.batch + 1;
        let transaction = start_transaction(&mut self.connection)?;
        count_batch(&transaction, batch)?;
        set_state(&transaction, "epoch", &epoch.to_string())?;
        for room in rooms {
            let row = self.rooms.get(room).filter(|row| row.messages() > 0);
            if let Some(row) = row {
                for table in ["messages", "gone"] {
                    let delete = format!("DELETE FROM {table} WHERE room = ?1");
                    transaction.prepare_cached(&delete)?.execute([row.key])?;
                }
            }
            let delete = "DELETE FROM rooms WHERE name = ?1";
            let mut delete = transaction.prepare_cached(delete)?;
            delete.execute([room.as_str()])?;
        }
        transaction.commit()?;
        self.batch = batch;
        self.write_mark();
        for room in rooms {
            if let Some(row) = self.rooms.get_mut(room) {
                self.totals.messages -= row.messages();
                self.totals.bytes -= row.bytes;
                self.pruned += row.messages();
                row.clear();
            }
        }
        Ok(epoch)
    }

    /// Drops the rows, in memory, of forgotten rooms.
    pub(super) fn forget_rows(&mut self, rooms: &[RoomName]) {
        for room in rooms {
            self.rooms.remove(room);
        }
    }
}

fn store(
    transaction: &mut WriteTransaction<'_>,
    recent: &RecentPublishes,
    publish: &Publish,
    numbering: &Arc<RoomNumbering>,
    ts: u64,
    age: Duration,
) -> rusqlite::Result<Stored> {
    let key = publish.dedupe_key();
    let duplicate_of = key
        .as_ref()
        .and_then(|key| recent.find(key).or_else(|| transaction.find(key)));
    if let Some(position) = duplicate_of {
        return Ok(Stored::Duplicate(position));
    }
    let position = Position {
        epoch: numbering.epoch(),
        offset: transaction.next_offset(&publish.room, numbering.epoch())?,
    };
    let publication = Arc::new(publish.publication(position.offset, ts));
    let ttl = publish.ttl_within(age);
    let expires = ttl.map(|ttl| ts + ttl.duration().as_millis() as u64);
    transaction.insert(&publication, expires)?;
    if let Some(key) = key {
        transaction.remember(key, position, ts)?;
    }
    Ok(Stored::New {
        numbering: Arc::clone(numbering),
        publication,
    })
}
