//! Loads a database at start-up, and checks the values on which numbering depends.

use std::collections::HashMap;
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, params};

use crate::protocol::{Epoch, Position, RequestId, RoomName, Scope};

use super::super::columns::{corrupt, epoch_at, room_at};
use super::super::schema::state;
use super::transaction::RoomRow;
use crate::store::dedupe::RecentPublishes;

/// The contents of a database that are kept in memory.
pub(super) struct Loaded {
    /// The epoch of new rooms.
    pub(super) epoch: Epoch,
    pub(super) rooms: HashMap<RoomName, RoomRow>,
    pub(super) recent: RecentPublishes,
}

/// Loads a database.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Loaded> {
    let epoch = state(connection, "epoch")?.and_then(|text| text.parse().ok());
    Ok(Loaded {
        epoch: epoch.ok_or_else(|| corrupt("epoch"))?,
        rooms: load_rooms(connection)?,
        recent: load_ids(connection)?,
    })
}

fn load_rooms(connection: &Connection) -> rusqlite::Result<HashMap<RoomName, RoomRow>> {
    let select = "SELECT name, room, epoch, first_offset, last_offset, bytes FROM rooms
        WHERE room > 0";
    let mut select = connection.prepare(select)?;
    let rooms = select.query_map([], |row| {
        let name = room_at(row, 0)?;
        let mut room = RoomRow {
            key: row.get(1)?,
            epoch: epoch_at(row, 2)?,
            first: row.get(3)?,
            last: row.get(4)?,
            gone: 0,
            last_seq: 0,
            bytes: row.get(5)?,
        };
        if room.first == 0 || room.first > room.last + 1 {
            return Err(corrupt("room"));
        }
        room.gone = count_gone(connection, &room)?;
        room.last_seq = check_room(connection, &name, &room)?;
        Ok((name, room))
    })?;
    rooms.collect()
}

/// Compares a row with the index of names and with the room's messages. A damaged row would use offsets again. Returns
/// the `seq` of the newest message, or 0.
fn check_room(connection: &Connection, name: &RoomName, room: &RoomRow) -> rusqlite::Result<i64> {
    let by_name = "SELECT room FROM rooms WHERE name = ?1";
    let key: Option<i64> = connection
        .prepare_cached(by_name)?
        .query_row([name.as_str()], |row| row.get(0))
        .optional()?;
    let newest = "SELECT offset, seq FROM messages WHERE room = ?1 ORDER BY offset DESC LIMIT 1";
    let newest: Option<(u64, i64)> = connection
        .prepare_cached(newest)?
        .query_row(params![room.key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let expected = match room.messages() {
        0 => None,
        _ => Some(newest_expected(connection, room)?),
    };
    if key == room.key && newest.map(|(offset, _)| offset) == expected {
        Ok(newest.map_or(0, |(_, seq)| seq))
    } else {
        Err(corrupt("room"))
    }
}

/// Counts the gone offsets of a room.
fn count_gone(connection: &Connection, room: &RoomRow) -> rusqlite::Result<u64> {
    let select = "SELECT coalesce(sum(last - first + 1), 0) FROM gone WHERE room = ?1";
    let gone: u64 = connection
        .prepare_cached(select)?
        .query_row(params![room.key], |row| row.get(0))?;
    let offsets = room.last + 1 - room.first;
    // A room without messages has no gone offsets either.
    if gone > 0 && gone >= offsets {
        return Err(corrupt("range of gone offsets"));
    }
    Ok(gone)
}

/// Returns the offset of the newest message, of which the room has at least one: the last one that is not gone.
fn newest_expected(connection: &Connection, room: &RoomRow) -> rusqlite::Result<u64> {
    let select = "SELECT first, last FROM gone WHERE room = ?1 ORDER BY first DESC LIMIT 1";
    let range: Option<(u64, u64)> = connection
        .prepare_cached(select)?
        .query_row(params![room.key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let at_end = range.filter(|(_, last)| *last == room.last);
    Ok(at_end.map_or(room.last, |(first, _)| first.saturating_sub(1)))
}

/// Loads the ids of the last run as if they were stored now. Their age is unknown, because the clock may have been set
/// since.
fn load_ids(connection: &Connection) -> rusqlite::Result<RecentPublishes> {
    let now = Instant::now();
    let select = "SELECT scope, id, room, epoch, offset FROM ids ORDER BY seq";
    let mut select = connection.prepare(select)?;
    let mut rows = select.query([])?;
    let mut recent = RecentPublishes::default();
    while let Some(row) = rows.next()? {
        let scope = Scope::from_stored(row.get_ref(0)?.as_str()?);
        let scope = scope.ok_or_else(|| corrupt("scope"))?;
        let id = RequestId::parse(row.get_ref(1)?.as_str()?).map_err(|_| corrupt("id"))?;
        let key = (room_at(row, 2)?, scope, id);
        let position = Position {
            epoch: epoch_at(row, 3)?,
            offset: row.get(4)?,
        };
        recent.remember(key, position, now);
    }
    Ok(recent)
}
