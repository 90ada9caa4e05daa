//! One transaction: what it changes on disk, and what that will mean in memory once it is committed.

use std::collections::HashMap;

use rusqlite::{Transaction, params};

use crate::config::HistoryLimits;
use crate::protocol::{Epoch, Position, Publication, RoomName};

use super::super::dedupe::DedupeKey;
use super::{corrupt, kind_to};

/// Rows that one statement drops.
const PRUNE_ROWS_MAX: usize = 1000;
/// What goes beyond the total is dropped by this part of the total, so that the largest room need not
/// be looked for at every publish.
const SHRINK_PART: u64 = 64;

/// A room's numbers, as the database has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    /// Its row; `None` if it has none yet.
    pub(super) row: Option<i64>,
    pub(super) epoch: Epoch,
    /// The oldest offset stored; one past `last` if none is.
    pub(super) first: u64,
    /// The newest offset given out.
    pub(super) last: u64,
    /// Payload bytes stored.
    pub(super) bytes: u64,
}

impl Numbers {
    /// Of a room that has given out offsets up to `last`, none of which is stored.
    pub(super) fn new(epoch: Epoch, last: u64) -> Self {
        Self {
            row: None,
            epoch,
            first: last + 1,
            last,
            bytes: 0,
        }
    }

    pub(super) fn messages(&self) -> u64 {
        self.last + 1 - self.first
    }

    /// The oldest message, which is this one, is no longer there.
    fn dropped(&mut self, offset: u64, bytes: u64) -> rusqlite::Result<()> {
        if offset != self.first {
            return Err(corrupt("gap"));
        }
        self.first += 1;
        self.bytes = self
            .bytes
            .checked_sub(bytes)
            .ok_or_else(|| corrupt("size"))?;
        Ok(())
    }
}

/// What all rooms hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// What becomes true with the commit.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) rooms: HashMap<RoomName, Numbers>,
    pub(super) ids: HashMap<DedupeKey, Position>,
    pub(super) totals: Totals,
    pub(super) pruned: u64,
}

/// A transaction that is under way. Dropped without [`commit`](Self::commit) it has done nothing.
pub(super) struct Draft<'a> {
    transaction: Transaction<'a>,
    /// The numbers before.
    committed: &'a HashMap<RoomName, Numbers>,
    changes: Changes,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        transaction: Transaction<'a>,
        committed: &'a HashMap<RoomName, Numbers>,
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

    /// Where this draft has stored a publish with this id.
    pub(super) fn find(&self, key: &DedupeKey) -> Option<Position> {
        self.changes.ids.get(key).copied()
    }

    /// The room's numbers as this draft leaves them, with a row.
    fn numbers(&mut self, room: &RoomName, epoch: Epoch) -> rusqlite::Result<Numbers> {
        let known = self.changes.rooms.get(room).or(self.committed.get(room));
        let mut numbers = known.copied().unwrap_or(Numbers::new(epoch, 0));
        if numbers.row.is_none() {
            let insert = "INSERT INTO rooms (name, epoch, first_offset, last_offset, bytes)
                VALUES (?1, ?2, 1, 0, 0)";
            let epoch = numbers.epoch.to_string();
            let mut insert = self.transaction.prepare_cached(insert)?;
            numbers.row = Some(insert.insert(params![room.as_str(), epoch])?);
        }
        Ok(numbers)
    }

    /// The next offset of a room.
    pub(super) fn next_offset(&mut self, room: &RoomName, epoch: Epoch) -> rusqlite::Result<u64> {
        let numbers = self.numbers(room, epoch)?;
        self.changes.rooms.insert(room.clone(), numbers);
        Ok(numbers.last + 1)
    }

    /// Stores a message at the [next offset](Self::next_offset) of its room.
    pub(super) fn insert(&mut self, message: &Publication) -> rusqlite::Result<()> {
        let numbers = self.changes.rooms.get_mut(&message.room);
        let numbers = numbers.ok_or_else(|| corrupt("room"))?;
        let insert = "INSERT INTO messages (room, offset, ts, kind, id, sender, payload)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.transaction.prepare_cached(insert)?.execute(params![
            numbers.row,
            message.offset,
            message.ts,
            kind_to(message.kind),
            message.id.as_ref().map(|id| id.as_str()),
            &*message.from,
            &*message.payload,
        ])?;
        let bytes = message.payload.len() as u64;
        numbers.last = message.offset;
        numbers.bytes += bytes;
        self.changes.totals.messages += 1;
        self.changes.totals.bytes += bytes;
        Ok(())
    }

    /// Remembers where the publish with this id was stored. An id of one connection ends with it and
    /// is not worth the disk.
    pub(super) fn remember(
        &mut self,
        key: DedupeKey,
        position: Position,
        ts: u64,
    ) -> rusqlite::Result<()> {
        if let Some(scope) = key.1.to_stored() {
            let insert = "INSERT INTO ids (ts, scope, id, room, epoch, offset)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let epoch = position.epoch.to_string();
            self.transaction.prepare_cached(insert)?.execute(params![
                ts,
                scope,
                key.2.as_str(),
                key.0.as_str(),
                epoch,
                position.offset,
            ])?;
        }
        self.changes.ids.insert(key, position);
        Ok(())
    }

    /// Keeps the rooms of this draft, and then all rooms together, within their bounds.
    pub(super) fn trim(&mut self, limits: &HistoryLimits) -> rusqlite::Result<()> {
        let touched: Vec<RoomName> = self.changes.rooms.keys().cloned().collect();
        for room in &touched {
            self.trim_room(room, limits)?;
        }
        self.shrink_to(limits.total_bytes as u64)
    }

    /// Keeps one room within its bounds.
    pub(super) fn trim_room(
        &mut self,
        room: &RoomName,
        limits: &HistoryLimits,
    ) -> rusqlite::Result<()> {
        let (messages, bytes) = (limits.messages as u64, limits.bytes as u64);
        self.drop_oldest(room, |room, _| {
            room.messages() <= messages && room.bytes <= bytes
        })
    }

    /// The room that holds most gives way, up to half of it at a time: a flooded room costs itself.
    pub(super) fn shrink_to(&mut self, bytes_max: u64) -> rusqlite::Result<()> {
        if self.changes.totals.bytes <= bytes_max {
            return Ok(());
        }
        let target = bytes_max - bytes_max / SHRINK_PART;
        while self.changes.totals.bytes > target {
            let Some((room, bytes)) = self.largest() else {
                return Err(corrupt("number of bytes"));
            };
            self.drop_oldest(&room, |room, totals| {
                totals.bytes <= target || room.bytes <= bytes / 2
            })?;
        }
        Ok(())
    }

    fn largest(&self) -> Option<(RoomName, u64)> {
        let changed = &self.changes.rooms;
        let unchanged = self
            .committed
            .iter()
            .filter(|(room, _)| !changed.contains_key(*room));
        let (room, numbers) = changed
            .iter()
            .chain(unchanged)
            .max_by_key(|(_, numbers)| numbers.bytes)?;
        (numbers.bytes > 0).then(|| (room.clone(), numbers.bytes))
    }

    /// Drops the oldest messages of a room until that is enough.
    fn drop_oldest(
        &mut self,
        room: &RoomName,
        enough: impl Fn(&Numbers, &Totals) -> bool,
    ) -> rusqlite::Result<()> {
        let known = self.changes.rooms.get(room).or(self.committed.get(room));
        let Some(mut numbers) = known.copied() else {
            return Ok(());
        };
        while numbers.messages() > 0 && !enough(&numbers, &self.changes.totals) {
            let oldest = self.oldest_of(&numbers)?;
            let before = numbers.first;
            for (offset, bytes) in oldest {
                if enough(&numbers, &self.changes.totals) {
                    break;
                }
                numbers.dropped(offset, bytes)?;
                self.changes.dropped(bytes)?;
            }
            if numbers.first == before {
                return Err(corrupt("number of messages"));
            }
            let delete = "DELETE FROM messages WHERE room = ?1 AND offset < ?2";
            let mut delete = self.transaction.prepare_cached(delete)?;
            delete.execute(params![numbers.row, numbers.first])?;
        }
        self.changes.rooms.insert(room.clone(), numbers);
        Ok(())
    }

    /// Offsets and sizes of a room's oldest messages.
    fn oldest_of(&self, room: &Numbers) -> rusqlite::Result<Vec<(u64, u64)>> {
        let select = "SELECT offset, octet_length(payload) FROM messages
            WHERE room = ?1 ORDER BY offset LIMIT ?2";
        let mut select = self.transaction.prepare_cached(select)?;
        let most = room.messages().min(PRUNE_ROWS_MAX as u64);
        let rows = select.query_map(params![room.row, most], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        rows.collect()
    }

    /// Drops messages of all rooms that were stored up to this moment, oldest first, as many as one
    /// statement may. Says whether there may be more.
    pub(super) fn expire(&mut self, until_ts: u64) -> rusqlite::Result<bool> {
        let select = "SELECT messages.seq, rooms.name, offset, ts, octet_length(payload)
            FROM messages CROSS JOIN rooms USING (room) ORDER BY messages.seq LIMIT ?1";
        let mut select = self.transaction.prepare_cached(select)?;
        let mut rows = select.query([PRUNE_ROWS_MAX as i64])?;
        let (mut last_seq, mut dropped) = (None, 0);
        while let Some(row) = rows.next()? {
            if row.get::<_, u64>(3)? > until_ts {
                break;
            }
            let name = RoomName::parse(row.get_ref(1)?.as_str()?).map_err(|_| corrupt("room"))?;
            let known = self.changes.rooms.get(&name).or(self.committed.get(&name));
            let mut numbers = known.copied().ok_or_else(|| corrupt("room"))?;
            let bytes = row.get(4)?;
            numbers.dropped(row.get(2)?, bytes)?;
            self.changes.rooms.insert(name, numbers);
            self.changes.dropped(bytes)?;
            last_seq = Some(row.get::<_, i64>(0)?);
            dropped += 1;
        }
        if let Some(seq) = last_seq {
            let delete = "DELETE FROM messages WHERE seq <= ?1";
            self.transaction.prepare_cached(delete)?.execute([seq])?;
        }
        Ok(dropped == PRUNE_ROWS_MAX)
    }

    /// Makes all of it true on disk; the caller makes it true in memory.
    pub(super) fn commit(self) -> rusqlite::Result<Changes> {
        let update = "UPDATE rooms SET first_offset = ?2, last_offset = ?3, bytes = ?4
            WHERE room = ?1";
        let mut statement = self.transaction.prepare_cached(update)?;
        for numbers in self.changes.rooms.values() {
            let Numbers {
                row,
                first,
                last,
                bytes,
                ..
            } = numbers;
            statement.execute(params![row, first, last, bytes])?;
        }
        drop(statement);
        self.transaction.commit()?;
        Ok(self.changes)
    }
}

impl Changes {
    fn dropped(&mut self, bytes: u64) -> rusqlite::Result<()> {
        let Totals {
            messages,
            bytes: total,
        } = &mut self.totals;
        *messages = messages.checked_sub(1).ok_or_else(|| corrupt("total"))?;
        *total = total.checked_sub(bytes).ok_or_else(|| corrupt("total"))?;
        self.pruned += 1;
        Ok(())
    }
}
