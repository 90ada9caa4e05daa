//! The only writer of the database: stores batches, prunes history, and mirrors the rooms in memory.

mod expiry;
mod startup;
mod transaction;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::config::{Durability, HistoryLimits};
use crate::protocol::{Epoch, Position, RoomName};
use crate::rooms::RoomNumbering;

use self::startup::Loaded;
use self::transaction::{RoomRow, Totals, WriteTransaction};
use super::checkpoint::checkpoint;
use super::schema::{set_state, start_transaction};
use crate::store::dedupe::{DedupeKey, RecentPublishes};
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
    limits: HistoryLimits,
    rooms: HashMap<RoomName, RoomRow>,
    totals: Totals,
    recent: RecentPublishes,
    /// Messages dropped since the counter was last taken.
    pruned: u64,
}

impl Writer {
    /// Loads the database and prunes it to the current limits. Also returns the epoch of new rooms.
    pub(super) fn load(
        mut connection: Connection,
        identity: &str,
        durability: Durability,
        limits: HistoryLimits,
    ) -> rusqlite::Result<(Self, Epoch)> {
        let loaded = startup::load(&mut connection, identity, durability)?;
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
            limits,
            rooms,
            totals,
            recent,
            pruned: 0,
        };
        writer.prune_all()?;
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

    pub(super) fn has_history(&self, room: &RoomName) -> bool {
        self.rooms.get(room).is_some_and(|row| row.messages() > 0)
    }

    /// Returns the number of messages dropped since the last call.
    pub(super) fn take_pruned(&mut self) -> u64 {
        std::mem::take(&mut self.pruned)
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
        let (limits, recent) = (self.limits.clone(), std::mem::take(&mut self.recent));
        let stored = self.transact(|transaction| {
            let mut stored = Vec::with_capacity(batch.len());
            for (publish, numbering) in batch.iter().zip(numberings) {
                stored.push(match numbering {
                    Ok(numbering) => Ok(store(transaction, &recent, publish, numbering, ts)?),
                    Err(why) => Err(*why),
                });
            }
            transaction.prune(&limits)?;
            Ok(stored)
        });
        self.recent = recent;
        let (stored, ids) = stored?;
        for (key, position) in ids {
            self.recent.remember(key, position, now);
        }
        Ok(stored)
    }

    /// Returns the result of a publish while nothing can be stored: retries of stored publishes still succeed.
    pub(super) fn find_duplicate(&self, publish: &Publish) -> Result<Stored, StoreError> {
        publish
            .dedupe_key()
            .and_then(|key| self.recent.find(&key))
            .map(Stored::Duplicate)
            .ok_or(StoreError::Unavailable)
    }

    /// Runs `change` in a transaction and applies it in memory. Also returns the ids that it remembered.
    fn transact<T>(
        &mut self,
        change: impl FnOnce(&mut WriteTransaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<(T, HashMap<DedupeKey, Position>)> {
        let transaction = start_transaction(&mut self.connection)?;
        let mut transaction = WriteTransaction::new(transaction, &self.rooms, self.totals);
        let result = change(&mut transaction)?;
        let changes = transaction.commit()?;
        self.rooms.extend(changes.rooms);
        self.totals = changes.totals;
        self.pruned += changes.pruned;
        Ok((result, changes.ids))
    }

    /// Prunes every room, because the limits may have been wider when its messages were stored.
    fn prune_all(&mut self) -> rusqlite::Result<()> {
        let limits = self.limits.clone();
        let rooms: Vec<RoomName> = self.rooms.keys().cloned().collect();
        for room in &rooms {
            self.transact(|transaction| transaction.prune_room(room, &limits))?;
        }
        self.transact(|transaction| transaction.shrink_to(limits.total_bytes as u64))?;
        Ok(())
    }

    /// Drops expired messages and ids, and returns free pages to the file system.
    pub(super) fn expire(&mut self, now: Instant) -> rusqlite::Result<()> {
        self.recent.expire(now);
        let now_ts = unix_milliseconds();
        expiry::correct_future_timestamps(&self.connection, "messages", now_ts)?;
        let until_ts = expiry::before(now_ts, self.limits.age);
        let deadline = Instant::now() + EXPIRY_TIME_MAX;
        while Instant::now() < deadline
            && expiry::oldest_is_until(&self.connection, "messages", until_ts)?
        {
            self.transact(|transaction| transaction.expire(until_ts))?;
        }
        expiry::expire_ids(&mut self.connection, now_ts)?;
        expiry::release_free_pages(&self.connection)
    }

    /// Finds out whether the disk accepts writes, by writing as much as a large message and removing it.
    pub(super) fn probe(&mut self) -> rusqlite::Result<()> {
        let write = "INSERT INTO state (key, value) VALUES ('probe', zeroblob(?1))
            ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.connection.execute(write, [PROBE_BYTES])?;
        let remove = "DELETE FROM state WHERE key = 'probe'";
        self.connection.execute(remove, []).map(drop)
    }

    /// Deletes rooms that have no history, and returns the new epoch of rooms created from now on. Their rows stay
    /// in memory, for rooms that are opened again meanwhile.
    pub(super) fn forget(&mut self, rooms: &[RoomName]) -> rusqlite::Result<Epoch> {
        let epoch = Epoch::random();
        let transaction = start_transaction(&mut self.connection)?;
        set_state(&transaction, "epoch", &epoch.to_string())?;
        for room in rooms {
            let delete = "DELETE FROM rooms WHERE name = ?1";
            let mut delete = transaction.prepare_cached(delete)?;
            delete.execute([room.as_str()])?;
        }
        transaction.commit()?;
        for room in rooms {
            if let Some(row) = self.rooms.get_mut(room) {
                row.key = None;
            }
        }
        Ok(epoch)
    }

    /// Drops the rows, in memory, of rooms that are not wanted.
    pub(super) fn retain_rooms(&mut self, is_wanted: impl Fn(&RoomName) -> bool) {
        self.rooms.retain(|room, _| is_wanted(room));
    }

    /// Copies the log into the database and records a clean shutdown.
    pub(super) fn close(&mut self) -> rusqlite::Result<()> {
        checkpoint(&self.connection, "TRUNCATE");
        startup::end_run(&mut self.connection)
    }
}

fn store(
    transaction: &mut WriteTransaction<'_>,
    recent: &RecentPublishes,
    publish: &Publish,
    numbering: &Arc<RoomNumbering>,
    ts: u64,
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
    transaction.insert(&publication)?;
    if let Some(key) = key {
        transaction.remember(key, position, ts)?;
    }
    Ok(Stored::New {
        numbering: Arc::clone(numbering),
        publication,
    })
}
