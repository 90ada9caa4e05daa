//! A write transaction: its changes on disk, and the changes in memory that take effect when it commits.

use std::collections::HashMap;

use rusqlite::{Transaction, params};

use crate::config::Config;
use crate::protocol::{Epoch, Position, Publication, RoomName};

use super::super::columns::{corrupt, kind_to_column, room_at};
use super::super::progress::count_batch;
use super::removal::skip_gone;
use crate::store::dedupe::DedupeKey;

/// Maximum number of messages that one statement drops.
pub(super) const PRUNE_ROWS_MAX: usize = 1000;
/// Fraction of the total limit by which a full history is pruned below it, so that not every publish has to look
/// for the largest room.
const SHRINK_FRACTION: u64 = 64;

/// A row of the `rooms` table.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoomRow {
    /// The primary key; `None` if the row is not in the database yet.
    pub(super) key: Option<i64>,
    pub(super) epoch: Epoch,
    /// The oldest stored offset; `last + 1` if no message is stored.
    pub(super) first: u64,
    /// The newest offset used.
    pub(super) last: u64,
    /// Number of offsets after `first` whose messages are gone.
    pub(super) gone: u64,
    /// The `seq` of the newest message; of no meaning without messages.
    pub(super) last_seq: i64,
    /// Payload bytes stored.
    pub(super) bytes: u64,
}

impl RoomRow {
    /// The row of a new room.
    fn new(epoch: Epoch) -> Self {
        Self {
            key: None,
            epoch,
            first: 1,
            last: 0,
            gone: 0,
            last_seq: 0,
            bytes: 0,
        }
    }

    /// Accounts for the deletion of the row and its messages. The numbering continues if the room is stored again.
    pub(super) fn clear(&mut self) {
        self.key = None;
        self.first = self.last + 1;
        self.gone = 0;
        self.bytes = 0;
    }

    /// Number of stored messages.
    pub(super) fn messages(&self) -> u64 {
        self.last + 1 - self.first - self.gone
    }

    /// Accounts for the removal of the oldest message, which must have this offset.
    pub(super) fn remove_oldest(&mut self, offset: u64, bytes: u64) -> rusqlite::Result<()> {
        if offset != self.first {
            return Err(corrupt("offset"));
        }
        self.first += 1;
        self.remove_bytes(bytes)
    }

    /// Accounts for the removal of a message that is not the oldest.
    pub(super) fn remove_later(&mut self, bytes: u64) -> rusqlite::Result<()> {
        self.gone += 1;
        self.remove_bytes(bytes)
    }

    /// Accounts for the gone offsets from the oldest to this one, which are no longer between stored messages.
    pub(super) fn skip_gone_until(&mut self, last: u64) -> rusqlite::Result<()> {
        let skipped = (last + 1).checked_sub(self.first);
        let gone = skipped.and_then(|skipped| self.gone.checked_sub(skipped));
        self.gone = gone.ok_or_else(|| corrupt("range of gone offsets"))?;
        self.first = last + 1;
        Ok(())
    }

    fn remove_bytes(&mut self, bytes: u64) -> rusqlite::Result<()> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or_else(|| corrupt("size of a room"))?;
        Ok(())
    }
}

/// The amounts stored in all rooms together.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Totals {
    pub(in super::super) messages: u64,
    pub(in super::super) bytes: u64,
}

impl Totals {
    pub(super) fn remove(&mut self, bytes: u64) -> rusqlite::Result<()> {
        let messages = self.messages.checked_sub(1);
        self.messages = messages.ok_or_else(|| corrupt("total of messages"))?;
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or_else(|| corrupt("total of bytes"))?;
        Ok(())
    }
}

/// The changes in memory that follow from a commit.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) rooms: HashMap<RoomName, RoomRow>,
    pub(super) ids: HashMap<DedupeKey, Position>,
    pub(super) totals: Totals,
    /// Number of messages dropped.
    pub(super) pruned: u64,
}

/// A write transaction. Dropping it without [`commit`](Self::commit) rolls it back.
pub(super) struct WriteTransaction<'a> {
    pub(super) transaction: Transaction<'a>,
    /// The rows before this transaction.
    committed: &'a HashMap<RoomName, RoomRow>,
    pub(super) changes: Changes,
}

impl<'a> WriteTransaction<'a> {
    pub(super) fn new(
        transaction: Transaction<'a>,
        committed: &'a HashMap<RoomName, RoomRow>,
        totals: Totals,
    ) -> Self {
        let changes = Changes {
            totals,
            ..Changes::default()
        };
        Self {
            transaction,
            committed,
            changes,
        }
    }

    /// Returns the position at which this transaction has stored a publish with this key.
    pub(super) fn find(&self, key: &DedupeKey) -> Option<Position> {
        self.changes.ids.get(key).copied()
    }

    /// The room's row as this transaction leaves it.
    pub(super) fn room(&self, room: &RoomName) -> Option<RoomRow> {
        let changed = self.changes.rooms.get(room);
        changed.or_else(|| self.committed.get(room)).copied()
    }

    /// Returns the next offset of a room, inserting the room's row if it has none.
    pub(super) fn next_offset(&mut self, room: &RoomName, epoch: Epoch) -> rusqlite::Result<u64> {
        let mut row = self.room(room).unwrap_or_else(|| RoomRow::new(epoch));
        if row.key.is_none() {
            let insert = "INSERT INTO rooms (name, epoch, first_offset, last_offset, bytes)
                VALUES (?1, ?2, 1, 0, 0)";
            let mut insert = self.transaction.prepare_cached(insert)?;
            row.key = Some(insert.insert(params![room.as_str(), row.epoch.to_string()])?);
        }
        self.changes.rooms.insert(room.clone(), row);
        Ok(row.last + 1)
    }

    /// Stores a message at the [next offset](Self::next_offset) of its room. `expires` is when its ttl ends, in Unix
    /// milliseconds.
    pub(super) fn insert(
        &mut self,
        message: &Publication,
        expires: Option<u64>,
    ) -> rusqlite::Result<()> {
        let row = self.changes.rooms.get_mut(&message.room);
        let row = row.ok_or_else(|| corrupt("room"))?;
        let insert = "INSERT INTO messages (room, offset, ts, kind, id, sender, payload, expires)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.transaction.prepare_cached(insert)?.execute(params![
            row.key,
            message.offset,
            message.ts,
            kind_to_column(message.kind),
            message.id.as_ref().map(|id| id.as_str()),
            &*message.from,
            &*message.payload,
            expires,
        ])?;
        let bytes = message.payload.len() as u64;
        row.last = message.offset;
        row.last_seq = self.transaction.last_insert_rowid();
        row.bytes += bytes;
        self.changes.totals.messages += 1;
        self.changes.totals.bytes += bytes;
        Ok(())
    }

    /// Remembers where a publish was stored. A key that is valid for one connection only is not written to disk,
    /// because no retry can outlive that connection.
    pub(super) fn remember(
        &mut self,
        key: DedupeKey,
        position: Position,
        ts: u64,
    ) -> rusqlite::Result<()> {
        let (room, scope, id) = &key;
        if let Some(scope) = scope.to_stored() {
            let insert = "INSERT INTO ids (ts, scope, id, room, epoch, offset)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            self.transaction.prepare_cached(insert)?.execute(params![
                ts,
                scope,
                id.as_str(),
                room.as_str(),
                position.epoch.to_string(),
                position.offset,
            ])?;
        }
        self.changes.ids.insert(key, position);
        Ok(())
    }

    /// Prunes each room of this transaction, and then all rooms together, to the limits.
    pub(super) fn prune(&mut self, config: &Config) -> rusqlite::Result<()> {
        let changed: Vec<RoomName> = self.changes.rooms.keys().cloned().collect();
        for room in &changed {
            self.prune_room(room, config)?;
        }
        self.shrink_to(config.history.total_bytes as u64)
    }

    /// Prunes one room to the limits.
    pub(super) fn prune_room(&mut self, room: &RoomName, config: &Config) -> rusqlite::Result<()> {
        let limits = config.room_history(room);
        let (messages, bytes) = (limits.messages as u64, limits.bytes as u64);
        let is_enough =
            |room: &RoomRow, _: &Totals| room.messages() <= messages && room.bytes <= bytes;
        self.changes.pruned += self.drop_oldest_until(room, is_enough)?;
        Ok(())
    }

    /// Drops up to half of the largest room at a time until the total fits, so that a flooded room loses its own
    /// history and not that of others.
    pub(super) fn shrink_to(&mut self, bytes_max: u64) -> rusqlite::Result<()> {
        if self.changes.totals.bytes <= bytes_max {
            return Ok(());
        }
        let target = bytes_max - bytes_max / SHRINK_FRACTION;
        while self.changes.totals.bytes > target {
            let Some((room, bytes)) = self.largest_room() else {
                return Err(corrupt("total of bytes"));
            };
            let is_enough =
                |room: &RoomRow, totals: &Totals| totals.bytes <= target || room.bytes <= bytes / 2;
            self.changes.pruned += self.drop_oldest_until(&room, is_enough)?;
        }
        Ok(())
    }

    fn largest_room(&self) -> Option<(RoomName, u64)> {
        let changed = &self.changes.rooms;
        let unchanged = self
            .committed
            .iter()
            .filter(|(room, _)| !changed.contains_key(*room));
        let (room, row) = changed
            .iter()
            .chain(unchanged)
            .max_by_key(|(_, row)| row.bytes)?;
        (row.bytes > 0).then(|| (room.clone(), row.bytes))
    }

    /// Drops the oldest messages of a room until `is_enough`. Returns their number.
    pub(super) fn drop_oldest_until(
        &mut self,
        room: &RoomName,
        is_enough: impl Fn(&RoomRow, &Totals) -> bool,
    ) -> rusqlite::Result<u64> {
        let Some(mut row) = self.room(room) else {
            return Ok(0);
        };
        let mut dropped = 0;
        while row.messages() > 0 && !is_enough(&row, &self.changes.totals) {
            let first_before = row.first;
            for (offset, bytes) in self.oldest_messages(&row)? {
                if is_enough(&row, &self.changes.totals) {
                    break;
                }
                row.remove_oldest(offset, bytes)?;
                skip_gone(&self.transaction, &mut row)?;
                self.changes.totals.remove(bytes)?;
                dropped += 1;
            }
            if row.first == first_before {
                return Err(corrupt("number of messages"));
            }
            let delete = "DELETE FROM messages WHERE room = ?1 AND offset < ?2";
            let mut delete = self.transaction.prepare_cached(delete)?;
            delete.execute(params![row.key, row.first])?;
        }
        self.changes.rooms.insert(room.clone(), row);
        Ok(dropped)
    }

    /// Returns the offsets and sizes of a room's oldest messages.
    fn oldest_messages(&self, room: &RoomRow) -> rusqlite::Result<Vec<(u64, u64)>> {
        let select = "SELECT offset, octet_length(payload) FROM messages
            WHERE room = ?1 ORDER BY offset LIMIT ?2";
        let mut select = self.transaction.prepare_cached(select)?;
        let limit = room.messages().min(PRUNE_ROWS_MAX as u64);
        let rows = select.query_map(params![room.key, limit], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        rows.collect()
    }

    /// Drops up to [`PRUNE_ROWS_MAX`] messages of all rooms that were stored at or before `until_ts`, oldest first.
    pub(super) fn expire(&mut self, until_ts: u64) -> rusqlite::Result<()> {
        let select = "SELECT messages.seq, rooms.name, offset, ts, octet_length(payload)
            FROM messages CROSS JOIN rooms USING (room) ORDER BY messages.seq LIMIT ?1";
        let mut select = self.transaction.prepare_cached(select)?;
        let mut rows = select.query([PRUNE_ROWS_MAX as i64])?;
        let mut last_seq = None;
        while let Some(message) = rows.next()? {
            if message.get::<_, u64>(3)? > until_ts {
                break;
            }
            let name = room_at(message, 1)?;
            let known = self.changes.rooms.get(&name).or(self.committed.get(&name));
            let mut room = known.copied().ok_or_else(|| corrupt("room"))?;
            let bytes = message.get(4)?;
            room.remove_oldest(message.get(2)?, bytes)?;
            skip_gone(&self.transaction, &mut room)?;
            self.changes.rooms.insert(name, room);
            self.changes.totals.remove(bytes)?;
            self.changes.pruned += 1;
            last_seq = Some(message.get::<_, i64>(0)?);
        }
        if let Some(seq) = last_seq {
            let delete = "DELETE FROM messages WHERE seq <= ?1";
            self.transaction.prepare_cached(delete)?.execute([seq])?;
        }
        Ok(())
    }

    /// Drops up to [`PRUNE_ROWS_MAX`] messages of a room that were stored at or before `until_ts`, oldest first.
    pub(super) fn expire_room(&mut self, room: &RoomName, until_ts: u64) -> rusqlite::Result<()> {
        let Some(mut row) = self.room(room) else {
            return Ok(());
        };
        let select = "SELECT offset, octet_length(payload), ts FROM messages
            WHERE room = ?1 ORDER BY offset LIMIT ?2";
        let mut select = self.transaction.prepare_cached(select)?;
        let mut messages = select.query(params![row.key, PRUNE_ROWS_MAX as i64])?;
        while let Some(message) = messages.next()? {
            if message.get::<_, u64>(2)? > until_ts {
                break;
            }
            let bytes = message.get(1)?;
            row.remove_oldest(message.get(0)?, bytes)?;
            skip_gone(&self.transaction, &mut row)?;
            self.changes.totals.remove(bytes)?;
            self.changes.pruned += 1;
        }
        let delete = "DELETE FROM messages WHERE room = ?1 AND offset < ?2";
        let mut delete = self.transaction.prepare_cached(delete)?;
        delete.execute(params![row.key, row.first])?;
        self.changes.rooms.insert(room.clone(), row);
        Ok(())
    }

    /// Commits to disk and returns the changes for the caller to apply in memory. A transaction that changes rooms is
    /// counted as this batch.
    pub(super) fn commit(self, batch: u64) -> rusqlite::Result<Changes> {
        if !self.changes.rooms.is_empty() {
            count_batch(&self.transaction, batch)?;
        }
        let update = "UPDATE rooms SET first_offset = ?2, last_offset = ?3, bytes = ?4
            WHERE room = ?1";
        let mut update = self.transaction.prepare_cached(update)?;
        for row in self.changes.rooms.values() {
            update.execute(params![row.key, row.first, row.last, row.bytes])?;
        }
        drop(update);
        self.transaction.commit()?;
        Ok(self.changes)
    }
}
