//! Loads a database at start-up, and restarts numbering if the database may have lost messages.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::config::Durability;
use crate::protocol::{Epoch, Position, RequestId, RoomName, Scope};

use super::super::columns::{corrupt, epoch_at, room_at};
use super::super::schema::{set_state, start_transaction, state};
use super::transaction::RoomRow;
use crate::store::dedupe::{DEDUPE_WINDOW, RecentPublishes};
use crate::store::publish::unix_milliseconds;

/// The contents of a database that are kept in memory.
pub(super) struct Loaded {
    /// The epoch of new rooms.
    pub(super) epoch: Epoch,
    pub(super) rooms: HashMap<RoomName, RoomRow>,
    pub(super) recent: RecentPublishes,
}

/// Marks the database as in use and loads it. `identity` is the [identity](super::super::database::Database::identity) of
/// its file.
pub(super) fn load(
    connection: &mut Connection,
    identity: &str,
    durability: Durability,
) -> rusqlite::Result<Loaded> {
    start_run(connection, identity, durability)?;
    let epoch = state(connection, "epoch")?.and_then(|text| text.parse().ok());
    Ok(Loaded {
        epoch: epoch.ok_or_else(|| corrupt("epoch"))?,
        rooms: load_rooms(connection)?,
        recent: load_ids(connection)?,
    })
}

/// Records that a server runs on this database, and restarts numbering if offsets may have been lost.
///
/// If the last server did not shut down cleanly and the machine has booted since, a power failure may have taken
/// its last transactions, unless each was synced. Its offsets, which clients have seen, would be used again. The
/// same holds for a copy of a database in use, because the original has used more offsets since.
fn start_run(
    connection: &mut Connection,
    identity: &str,
    durability: Durability,
) -> rusqlite::Result<()> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let run = |durability: Durability| format!("{} {durability}", boot_id.trim());
    let transaction = start_transaction(connection)?;
    // The entry is removed by a clean shutdown.
    let last_run = state(&transaction, "run")?;
    let was_synced = |run: &str| run.ends_with(&Durability::Full.to_string());
    let lost_power =
        last_run.is_some_and(|last| last != run(Durability::Normal) && !was_synced(&last));
    let is_copy = state(&transaction, "file")?.is_some_and(|last| last != identity);
    if lost_power || is_copy {
        let reason = if is_copy {
            "this database is a copy of one that was in use"
        } else {
            "the last server on this database was stopped by a crash of its machine"
        };
        log::warn!("{reason}: numbering restarts in a new epoch");
        let epoch = Epoch::random().to_string();
        transaction.execute("UPDATE rooms SET epoch = ?1", [&epoch])?;
        transaction.execute("UPDATE ids SET epoch = ?1", [&epoch])?;
        set_state(&transaction, "epoch", &epoch)?;
    }
    set_state(&transaction, "run", &run(durability))?;
    set_state(&transaction, "file", identity)?;
    transaction.commit()
}

/// Records a clean shutdown.
pub(super) fn end_run(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = start_transaction(connection)?;
    transaction.execute("DELETE FROM state WHERE key IN ('run', 'file')", [])?;
    transaction.commit()
}

fn load_rooms(connection: &Connection) -> rusqlite::Result<HashMap<RoomName, RoomRow>> {
    let select = "SELECT name, room, epoch, first_offset, last_offset, bytes FROM rooms";
    let mut select = connection.prepare(select)?;
    let rooms = select.query_map([], |row| {
        let room = RoomRow {
            key: row.get(1)?,
            epoch: epoch_at(row, 2)?,
            first: row.get(3)?,
            last: row.get(4)?,
            bytes: row.get(5)?,
        };
        if room.first == 0 || room.first > room.last + 1 {
            return Err(corrupt("room"));
        }
        Ok((room_at(row, 0)?, room))
    })?;
    rooms.collect()
}

fn load_ids(connection: &Connection) -> rusqlite::Result<RecentPublishes> {
    let (now, now_ts) = (Instant::now(), unix_milliseconds());
    let select = "SELECT ts, scope, id, room, epoch, offset FROM ids ORDER BY seq";
    let mut select = connection.prepare(select)?;
    let mut rows = select.query([])?;
    let mut recent = RecentPublishes::default();
    while let Some(row) = rows.next()? {
        let age = Duration::from_millis(now_ts.saturating_sub(row.get(0)?));
        let scope = Scope::from_stored(row.get_ref(1)?.as_str()?);
        let scope = scope.ok_or_else(|| corrupt("scope"))?;
        let id = RequestId::parse(row.get_ref(2)?.as_str()?).map_err(|_| corrupt("id"))?;
        let key = (room_at(row, 3)?, scope, id);
        let position = Position {
            epoch: epoch_at(row, 4)?,
            offset: row.get(5)?,
        };
        if let Some(at) = now.checked_sub(age).filter(|_| age < DEDUPE_WINDOW) {
            recent.remember(key, position, at);
        }
    }
    Ok(recent)
}
