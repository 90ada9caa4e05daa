//! Removal of messages that are not the oldest of their room: deleted by operators, or at the end of their ttl.
//!
//! The table `gone` has the ranges of offsets between stored messages, or after the last one, whose messages were removed
//! on purpose. Any other missing message is damage. Two ranges of a room never touch.

use rusqlite::{Connection, OptionalExtension, params};

use crate::protocol::RoomName;
use crate::store::api::{Deleted, Deletion};
use crate::store::publish::unix_milliseconds;

use super::super::columns::{corrupt, room_at};
use super::Writer;
use super::transaction::{PRUNE_ROWS_MAX, RoomRow, WriteTransaction};

/// Messages that a deletion removes at once, while nothing is stored.
const DELETED_MAX: u64 = 2000;
/// Payload bytes that a deletion removes at once. The log has to hold the pages that it overwrites.
pub(in crate::store::sqlite) const DELETED_BYTES_MAX: u64 = 4 * 1024 * 1024;
impl Writer {
    /// Deletes messages for an operator, at most [`DELETED_MAX`] messages and about [`DELETED_BYTES_MAX`] bytes. Their
    /// contents are overwritten in the file, because an operator may delete what nobody may read any more.
    pub(in crate::store::sqlite) fn delete(
        &mut self,
        room: &RoomName,
        deletion: Deletion,
    ) -> rusqlite::Result<Deleted> {
        self.connection.pragma_update(None, "secure_delete", true)?;
        let deleted = self.delete_securely(room, deletion);
        let off = self.connection.pragma_update(None, "secure_delete", "FAST");
        deleted.and_then(|deleted| off.map(|()| deleted))
    }

    fn delete_securely(
        &mut self,
        room: &RoomName,
        deletion: Deletion,
    ) -> rusqlite::Result<Deleted> {
        let Some(row) = self.rooms.get(room).copied() else {
            return Ok(Deleted {
                messages: 0,
                is_complete: true,
            });
        };
        let (messages, _) = self.transact(|transaction| match deletion {
            Deletion::Message(offset) => {
                let is_gone = is_expired(&transaction.transaction, &row, offset)?;
                let is_removed = !is_gone && transaction.remove(room, offset)?;
                Ok(u64::from(is_removed))
            }
            Deletion::Until(offset) => transaction.drop_oldest_until(room, |left, _| {
                left.first > offset
                    || row.messages() - left.messages() == DELETED_MAX
                    || row.bytes - left.bytes >= DELETED_BYTES_MAX
            }),
        })?;
        let left = self.rooms.get(room).filter(|row| row.messages() > 0);
        let is_complete = match deletion {
            Deletion::Message(_) => true,
            Deletion::Until(offset) => left.is_none_or(|row| row.first > offset),
        };
        Ok(Deleted {
            messages,
            is_complete,
        })
    }
}

impl WriteTransaction<'_> {
    /// Removes the message at an offset. Returns whether there was one.
    pub(super) fn remove(&mut self, name: &RoomName, offset: u64) -> rusqlite::Result<bool> {
        let Some(mut row) = self.room(name) else {
            return Ok(false);
        };
        let select =
            "SELECT seq, octet_length(payload) FROM messages WHERE room = ?1 AND offset = ?2";
        let found: Option<(i64, u64)> = self
            .transaction
            .prepare_cached(select)?
            .query_row(params![row.key, offset], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((seq, bytes)) = found else {
            return Ok(false);
        };
        let delete = "DELETE FROM messages WHERE seq = ?1";
        self.transaction.prepare_cached(delete)?.execute([seq])?;
        if offset == row.first {
            row.remove_oldest(offset, bytes)?;
            skip_gone(&self.transaction, &mut row)?;
        } else {
            row.remove_later(bytes)?;
            add_gone(&self.transaction, &row, offset)?;
        }
        self.changes.totals.remove(bytes)?;
        self.changes.rooms.insert(name.clone(), row);
        Ok(true)
    }

    /// Removes up to [`PRUNE_ROWS_MAX`] messages of all rooms whose ttl ended at or before `now_ts`. Returns their number.
    pub(super) fn remove_expired(&mut self, now_ts: u64) -> rusqlite::Result<u64> {
        let select = "SELECT rooms.name, messages.offset
            FROM messages INDEXED BY expiring CROSS JOIN rooms USING (room)
            WHERE messages.expires <= ?1 ORDER BY messages.expires LIMIT ?2";
        let expired: Vec<(RoomName, u64)> = self
            .transaction
            .prepare_cached(select)?
            .query_map(params![now_ts, PRUNE_ROWS_MAX as i64], |row| {
                Ok((room_at(row, 0)?, row.get(1)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (room, offset) in &expired {
            if !self.remove(room, *offset)? {
                return Err(corrupt("index of ttls"));
            }
        }
        Ok(expired.len() as u64)
    }
}

/// Returns whether the ttl of the message at an offset has ended.
fn is_expired(connection: &Connection, row: &RoomRow, offset: u64) -> rusqlite::Result<bool> {
    let select = "SELECT 1 FROM messages WHERE room = ?1 AND offset = ?2 AND expires <= ?3";
    connection
        .prepare_cached(select)?
        .exists(params![row.key, offset, unix_milliseconds()])
}

/// Skips the gone offsets at the start of a room, after its oldest message was removed.
pub(super) fn skip_gone(connection: &Connection, row: &mut RoomRow) -> rusqlite::Result<()> {
    if row.gone == 0 {
        return Ok(());
    }
    let select = "SELECT last FROM gone WHERE room = ?1 AND first = ?2";
    let last: Option<u64> = connection
        .prepare_cached(select)?
        .query_row(params![row.key, row.first], |row| row.get(0))
        .optional()?;
    if let Some(last) = last {
        row.skip_gone_until(last)?;
        let delete = "DELETE FROM gone WHERE room = ?1 AND last = ?2";
        connection
            .prepare_cached(delete)?
            .execute(params![row.key, last])?;
    }
    Ok(())
}

/// Adds an offset to the gone ranges, and joins it with the ranges that it touches.
fn add_gone(connection: &Connection, row: &RoomRow, offset: u64) -> rusqlite::Result<()> {
    let before =
        "SELECT first, last FROM gone WHERE room = ?1 AND first < ?2 ORDER BY first DESC LIMIT 1";
    let before: Option<(u64, u64)> = connection
        .prepare_cached(before)?
        .query_row(params![row.key, offset], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let after = "SELECT last FROM gone WHERE room = ?1 AND first = ?2";
    let after: Option<u64> = connection
        .prepare_cached(after)?
        .query_row(params![row.key, offset + 1], |row| row.get(0))
        .optional()?;
    let first = before
        .filter(|(_, last)| last + 1 == offset)
        .map_or(offset, |(first, _)| first);
    if after.is_some() {
        let delete = "DELETE FROM gone WHERE room = ?1 AND first = ?2";
        connection
            .prepare_cached(delete)?
            .execute(params![row.key, offset + 1])?;
    }
    let insert = "INSERT INTO gone (room, first, last) VALUES (?1, ?2, ?3)
        ON CONFLICT (room, first) DO UPDATE SET last = excluded.last";
    connection
        .prepare_cached(insert)?
        .execute(params![row.key, first, after.unwrap_or(offset)])
        .map(drop)
}
