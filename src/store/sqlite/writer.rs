//! The one who writes: takes batches, keeps the bounds, and knows in memory what is on disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use crate::config::{Durability, HistoryLimits};
use crate::protocol::{Epoch, Position, RequestId, RoomName, Scope};
use crate::rooms::RoomNumbering;

use super::super::dedupe::{DEDUPE_IDS_MAX, DEDUPE_WINDOW, DedupeKey, RecentPublishes};
use super::super::error::StoreError;
use super::super::publish::{Publish, Stored, unix_milliseconds};
use super::checkpoint::checkpoint;
use super::corrupt;
use super::draft::{Draft, Numbers, Totals};
use super::file::{set_state, state};

/// Time that one round of expiry may take away from publishing.
const EXPIRY_TIME_MAX: Duration = Duration::from_millis(100);
/// What is further in the future than this was stored while the machine's clock was wrong.
const AHEAD_MAX: Duration = Duration::from_secs(3600);
/// Ids that one statement drops.
const IDS_DROPPED_MAX: i64 = 10_000;
/// Unused pages that stay in the file, to be used again; what goes beyond is given back.
const FREE_PAGES_MIN: i64 = 1024;
/// Pages given back at once.
const VACUUM_PAGES_MAX: i64 = 1024;
/// What is written to see whether the disk takes anything.
const PROBE_BYTES: u32 = 64 * 1024;

/// The connection that writes, and what the database holds.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    limits: HistoryLimits,
    rooms: HashMap<RoomName, Numbers>,
    totals: Totals,
    recent: RecentPublishes,
    pruned: u64,
}

impl Writer {
    /// Takes up what the database in this file holds, within the limits of today. Gives the epoch of new rooms too.
    pub(super) fn load(
        mut connection: Connection,
        file: &str,
        durability: Durability,
        limits: HistoryLimits,
    ) -> rusqlite::Result<(Self, Epoch)> {
        begin_run(&mut connection, file, durability)?;
        let epoch = state(&connection, "epoch")?.and_then(|text| text.parse().ok());
        let epoch = epoch.ok_or_else(|| corrupt("epoch"))?;
        let rooms = load_rooms(&connection)?;
        let recent = load_ids(&connection)?;
        let mut totals = Totals::default();
        for numbers in rooms.values() {
            totals.messages += numbers.messages();
            totals.bytes += numbers.bytes;
        }
        let mut writer = Self {
            connection,
            limits,
            rooms,
            totals,
            recent,
            pruned: 0,
        };
        writer.keep_bounds()?;
        Ok((writer, epoch))
    }

    /// The last place of each room.
    pub(super) fn positions(&self) -> Vec<(RoomName, Position)> {
        let position = |(room, numbers): (&RoomName, &Numbers)| {
            let (epoch, offset) = (numbers.epoch, numbers.last);
            (room.clone(), Position { epoch, offset })
        };
        self.rooms.iter().map(position).collect()
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    pub(super) fn has_history(&self, room: &RoomName) -> bool {
        self.rooms
            .get(room)
            .is_some_and(|numbers| numbers.messages() > 0)
    }

    /// Messages dropped since this was last asked.
    pub(super) fn take_pruned(&mut self) -> u64 {
        std::mem::take(&mut self.pruned)
    }

    /// Stores a batch in one transaction: all of it or nothing.
    pub(super) fn append(
        &mut self,
        batch: &[Publish],
        numberings: &[Result<Arc<RoomNumbering>, StoreError>],
        now: Instant,
    ) -> rusqlite::Result<Vec<Result<Stored, StoreError>>> {
        let ts = unix_milliseconds();
        let (limits, recent) = (self.limits.clone(), std::mem::take(&mut self.recent));
        let stored = self.draft(|draft| {
            let mut stored = Vec::with_capacity(batch.len());
            for (publish, numbering) in batch.iter().zip(numberings) {
                stored.push(match numbering {
                    Ok(numbering) => Ok(store(draft, &recent, publish, numbering, ts)?),
                    Err(why) => Err(*why),
                });
            }
            draft.trim(&limits)?;
            Ok(stored)
        });
        self.recent = recent;
        let (stored, ids) = stored?;
        for (key, place) in ids {
            self.recent.remember(key, place, now);
        }
        Ok(stored)
    }

    /// What can be said of a publish while nothing can be stored.
    pub(super) fn known(&self, publish: &Publish) -> Result<Stored, StoreError> {
        let place = publish.dedupe_key().and_then(|key| self.recent.find(&key));
        place.map(Stored::Duplicate).ok_or(StoreError::Unavailable)
    }

    /// Runs one transaction; gives also the ids that it remembered.
    fn draft<T>(
        &mut self,
        change: impl FnOnce(&mut Draft<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<(T, HashMap<DedupeKey, Position>)> {
        let transaction = begin(&mut self.connection)?;
        let mut draft = Draft::new(transaction, &self.rooms, self.totals);
        let result = change(&mut draft)?;
        let changes = draft.commit()?;
        self.rooms.extend(changes.rooms);
        self.totals = changes.totals;
        self.pruned += changes.pruned;
        Ok((result, changes.ids))
    }

    /// For bounds that were wider when the messages were stored.
    fn keep_bounds(&mut self) -> rusqlite::Result<()> {
        let limits = self.limits.clone();
        let rooms: Vec<RoomName> = self.rooms.keys().cloned().collect();
        for room in &rooms {
            self.draft(|draft| draft.trim_room(room, &limits))?;
        }
        self.draft(|draft| draft.shrink_to(limits.total_bytes as u64))?;
        Ok(())
    }

    /// Drops what is past its age and gives pages back that are no longer needed.
    pub(super) fn expire(&mut self, now: Instant) -> rusqlite::Result<()> {
        self.recent.expire(now);
        let now_ts = unix_milliseconds();
        let before = |age: Duration| now_ts.saturating_sub(age.as_millis() as u64);
        let (messages_until, ids_until) = (before(self.limits.age), before(DEDUPE_WINDOW));
        self.bring_back("messages", now_ts)?;
        self.bring_back("ids", now_ts)?;
        let deadline = Instant::now() + EXPIRY_TIME_MAX;
        while Instant::now() < deadline && self.oldest_is_until("messages", messages_until)? {
            self.draft(|draft| draft.expire(messages_until))?;
        }
        if self.oldest_is_until("ids", ids_until)? || self.ids_are_too_many()? {
            self.drop_ids(ids_until)?;
        }
        self.give_pages_back()
    }

    fn oldest(&self, table: &str) -> rusqlite::Result<Option<u64>> {
        let select = format!("SELECT ts FROM {table} ORDER BY seq LIMIT 1");
        let mut select = self.connection.prepare_cached(&select)?;
        select.query_row([], |row| row.get(0)).optional()
    }

    fn oldest_is_until(&self, table: &str, ts: u64) -> rusqlite::Result<bool> {
        Ok(self.oldest(table)?.is_some_and(|oldest| oldest <= ts))
    }

    /// What was stored under a clock that was ahead counts from now: it would otherwise not expire, nor
    /// would anything behind it, until the clock is there again.
    fn bring_back(&self, table: &str, now_ts: u64) -> rusqlite::Result<()> {
        let most = now_ts + AHEAD_MAX.as_millis() as u64;
        if self.oldest(table)?.is_some_and(|oldest| oldest > most) {
            let update = format!("UPDATE {table} SET ts = ?1 WHERE ts > ?2");
            self.connection.execute(&update, params![now_ts, most])?;
        }
        Ok(())
    }

    /// Ids are numbered without gaps.
    fn ids_are_too_many(&self) -> rusqlite::Result<bool> {
        let count = "SELECT coalesce((SELECT max(seq) FROM ids) - (SELECT min(seq) FROM ids), 0)";
        let count: i64 = self
            .connection
            .prepare_cached(count)?
            .query_row([], |row| row.get(0))?;
        Ok(count >= DEDUPE_IDS_MAX as i64)
    }

    fn drop_ids(&mut self, until_ts: u64) -> rusqlite::Result<()> {
        let transaction = begin(&mut self.connection)?;
        transaction.execute(
            "DELETE FROM ids WHERE seq <= (SELECT max(seq) FROM ids) - ?1",
            [DEDUPE_IDS_MAX as i64],
        )?;
        transaction.execute(
            "DELETE FROM ids WHERE seq IN (SELECT seq FROM ids ORDER BY seq LIMIT ?1) AND ts <= ?2",
            params![IDS_DROPPED_MAX, until_ts],
        )?;
        transaction.commit()
    }

    fn give_pages_back(&self) -> rusqlite::Result<()> {
        let pages = |pragma| {
            self.connection
                .pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
        };
        let (free, all) = (pages("freelist_count")?, pages("page_count")?);
        let surplus = free - FREE_PAGES_MIN.max(all / 8);
        if surplus > 0 {
            let pragma = format!(
                "PRAGMA incremental_vacuum({})",
                surplus.min(VACUUM_PAGES_MAX)
            );
            let mut statement = self.connection.prepare(&pragma)?;
            let mut given_back = statement.query([])?;
            while given_back.next()?.is_some() {}
        }
        Ok(())
    }

    /// Writes something as large as a large message, and removes it.
    pub(super) fn probe(&mut self) -> rusqlite::Result<()> {
        let write = "INSERT INTO state (key, value) VALUES ('probe', zeroblob(?1))
            ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.connection.execute(write, [PROBE_BYTES])?;
        let remove = "DELETE FROM state WHERE key = 'probe'";
        self.connection.execute(remove, []).map(drop)
    }

    /// Removes rooms that have no history; gives the epoch of rooms that are new from now on. Their
    /// numbers stay in memory for those that came into use again.
    pub(super) fn forget(&mut self, rooms: &[RoomName]) -> rusqlite::Result<Epoch> {
        let epoch = Epoch::random();
        let transaction = begin(&mut self.connection)?;
        set_state(&transaction, "epoch", &epoch.to_string())?;
        for room in rooms {
            let delete = "DELETE FROM rooms WHERE name = ?1";
            transaction
                .prepare_cached(delete)?
                .execute([room.as_str()])?;
        }
        transaction.commit()?;
        for room in rooms {
            if let Some(numbers) = self.rooms.get_mut(room) {
                numbers.row = None;
            }
        }
        Ok(epoch)
    }

    pub(super) fn keep_only(&mut self, wanted: impl Fn(&RoomName) -> bool) {
        self.rooms.retain(|room, _| wanted(room));
    }

    /// Moves everything into the database and notes that this run has ended well.
    pub(super) fn close(&mut self) -> rusqlite::Result<()> {
        checkpoint(&self.connection, "TRUNCATE");
        let transaction = begin(&mut self.connection)?;
        transaction.execute("DELETE FROM state WHERE key IN ('run', 'file')", [])?;
        transaction.commit()
    }
}

fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

fn store(
    draft: &mut Draft<'_>,
    recent: &RecentPublishes,
    publish: &Publish,
    numbering: &Arc<RoomNumbering>,
    ts: u64,
) -> rusqlite::Result<Stored> {
    let key = publish.dedupe_key();
    let known = key
        .as_ref()
        .and_then(|key| recent.find(key).or(draft.find(key)));
    if let Some(place) = known {
        return Ok(Stored::Duplicate(place));
    }
    let offset = draft.next_offset(&publish.room, numbering.epoch())?;
    let publication = Arc::new(publish.publication(offset, ts));
    draft.insert(&publication)?;
    if let Some(key) = key {
        draft.remember(
            key,
            Position {
                epoch: numbering.epoch(),
                offset,
            },
            ts,
        )?;
    }
    Ok(Stored::New {
        numbering: Arc::clone(numbering),
        publication,
    })
}

/// Notes that a server runs on this database. If the last one did not end well and the machine was
/// started anew since, it may have lost its last transactions with the power, unless each was synced:
/// then offsets that clients have seen would be given out again, so numbering restarts. The same is true
/// of a copy that was made while a server ran, which has gone on since.
fn begin_run(
    connection: &mut Connection,
    file: &str,
    durability: Durability,
) -> rusqlite::Result<()> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let run = |durability: Durability| format!("{} {durability}", boot.trim());
    let transaction = begin(connection)?;
    let last = state(&transaction, "run")?;
    let was_synced = |last: &str| last.ends_with(&Durability::Full.to_string());
    let went_down = last.is_some_and(|last| last != run(Durability::Normal) && !was_synced(&last));
    let is_copy = state(&transaction, "file")?.is_some_and(|last| last != file);
    if went_down || is_copy {
        let why = match is_copy {
            true => "this database is a copy of one that was in use",
            false => "the last server on this database went down with its machine",
        };
        log::warn!("{why}; offsets restart");
        let epoch = Epoch::random().to_string();
        transaction.execute("UPDATE rooms SET epoch = ?1", [&epoch])?;
        transaction.execute("UPDATE ids SET epoch = ?1", [&epoch])?;
        set_state(&transaction, "epoch", &epoch)?;
    }
    set_state(&transaction, "run", &run(durability))?;
    set_state(&transaction, "file", file)?;
    transaction.commit()
}

fn load_rooms(connection: &Connection) -> rusqlite::Result<HashMap<RoomName, Numbers>> {
    let select = "SELECT name, room, epoch, first_offset, last_offset, bytes FROM rooms";
    let mut select = connection.prepare(select)?;
    let rooms = select.query_map([], |row| {
        let numbers = Numbers {
            row: row.get(1)?,
            epoch: epoch_at(row, 2)?,
            first: row.get(3)?,
            last: row.get(4)?,
            bytes: row.get(5)?,
        };
        if numbers.first == 0 || numbers.first > numbers.last + 1 {
            return Err(corrupt("room"));
        }
        Ok((room_at(row, 0)?, numbers))
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
        let id = RequestId::parse(row.get_ref(2)?.as_str()?);
        let room = room_at(row, 3)?;
        let key = (
            room,
            scope.ok_or_else(|| corrupt("scope"))?,
            id.map_err(|_| corrupt("id"))?,
        );
        let (epoch, offset) = (epoch_at(row, 4)?, row.get(5)?);
        let position = Position { epoch, offset };
        if let Some(at) = now.checked_sub(age).filter(|_| age < DEDUPE_WINDOW) {
            recent.remember(key, position, at);
        }
    }
    Ok(recent)
}

fn room_at(row: &Row<'_>, column: usize) -> rusqlite::Result<RoomName> {
    RoomName::parse(row.get_ref(column)?.as_str()?).map_err(|_| corrupt("room"))
}

fn epoch_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Epoch> {
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|()| corrupt("epoch"))
}
