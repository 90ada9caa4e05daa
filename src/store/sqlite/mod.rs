//! The store that keeps history in a SQLite database: acknowledged messages survive the process.
//!
//! The broker thread alone writes, one transaction per batch ([`writer`]). Clients' threads read through a few
//! connections ([`reading`]), and a third thread copies the write-ahead log into the database ([`mod@checkpoint`]).
//! Joins use the [`Directory`] in memory, so no join waits for the disk.
//!
//! A start compares the file and its log with a mark, and restarts numbering if messages may have been lost
//! ([`continuity`]). Messages that cannot be read are a gap ([`reading`]).

mod backup;
mod checkpoint;
mod columns;
mod continuity;
mod deletion;
mod error;
mod files;
mod progress;
mod reading;
mod schema;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::auth::Revocations;
use crate::config::{LiveConfig, SqliteSettings};
use crate::metrics::Metrics;
use crate::protocol::{Page, RoomName};
use crate::rooms::RoomNumbering;

use self::checkpoint::{Checkpointer, checkpoint};
use self::continuity::start_run;
use self::error::{DatabaseError, is_outcome_unknown, reason};
use self::files::{Database, Mark, Record, keep_log_on_close};
use self::reading::HistoryReader;
use self::writer::Writer;
use super::api::{Deleted, Deletion, HistoryQuery, Store, Usage};
use super::directory::Directory;
use super::error::StoreError;
use super::health::Health;
use super::publish::{Publish, Stored};

pub(super) use self::backup::back_up;

/// The longest time for which a client that was refused a room waits until idle rooms can be deleted.
const SPACE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest time for which the revocation of a user waits for the messages that are being stored.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Free bytes on the disk below which nothing is stored. The log must always fit into the file as well.
const SPACE_BYTES_MIN: u64 = 512 * 1024;
/// Bytes that a publish of common size may add to the log. With less space, health stays degraded.
const COMMON_LOG_BYTES: u64 = 160 * 1024;
/// Bytes that a batch, and each of its publishes, may add to the log besides payloads.
const BATCH_OVERHEAD_BYTES: u64 = 64 * 1024;
const PUBLISH_OVERHEAD_BYTES: u64 = 8 * 1024;

/// A database with its connections. The fields are dropped in this order: connections before the file's lock.
#[derive(Debug)]
pub(super) struct Sqlite {
    history: HistoryReader,
    checkpointer: Checkpointer,
    /// The last connection to be closed: closing it copies the log into the file.
    writer: Mutex<Writer>,
    database: Arc<Database>,
    mark: Arc<Mark>,
    directory: Directory,
    config: LiveConfig,
    health: Health,
    /// True if SQLite uses a write-ahead log, which some file systems do not support.
    uses_wal: bool,
    /// True if one of the files was moved or deleted, or the database was written by another program.
    is_misplaced: AtomicBool,
    /// The number of stored messages, readable without the writer's lock.
    messages: AtomicU64,
    /// The stored payload bytes, readable without the writer's lock.
    bytes: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Sqlite {
    /// Opens the database, creating it if needed, and loads its rooms.
    pub(super) fn open(
        settings: &SqliteSettings,
        config: &LiveConfig,
        revocations: &Revocations,
        metrics: Arc<Metrics>,
    ) -> Result<Self, DatabaseError> {
        let path: &Path = &settings.path;
        let sqlite_error = |why| DatabaseError::sqlite(path, why);
        let database = Arc::new(Database::open(path)?);
        let (connection, mark, batch) = start_run(&database, settings.durability)?;
        let limits = config.get();
        let (keep, mark) = (limits.history.age, Arc::new(mark));
        let (writer, epoch) = Writer::load(connection, Arc::clone(&mark), batch, config.clone())
            .map_err(sqlite_error)?;
        writer.load_revocations(revocations).map_err(sqlite_error)?;
        let rooms_max = limits.limits.max_rooms;
        let directory = Directory::new(rooms_max, keep, epoch, writer.positions());
        let sqlite = Self {
            writer: Mutex::new(writer),
            history: HistoryReader::connect(&database).map_err(sqlite_error)?,
            checkpointer: Checkpointer::start(Arc::clone(&database), Arc::clone(&mark))?,
            uses_wal: database.has_wal(),
            database,
            mark,
            directory,
            config: config.clone(),
            health: Health::of_publishing(),
            is_misplaced: AtomicBool::new(false),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            metrics,
        };
        sqlite.copy_totals(&mut sqlite.writer.lock());
        Ok(sqlite)
    }

    fn copy_totals(&self, writer: &mut Writer) {
        let totals = writer.totals();
        self.messages.store(totals.messages, Ordering::Relaxed);
        self.bytes.store(totals.bytes, Ordering::Relaxed);
        self.metrics.pruned.add(writer.take_pruned());
        self.metrics.expired.add(writer.take_expired());
    }

    /// Checks that the file and its log are where they were. Writes to a deleted file would be lost.
    fn check_location(&self) -> Result<(), String> {
        let is_foreign = self.mark.check_file(|| self.database.file_state());
        let misplaced = if self.uses_wal && !self.database.has_wal() {
            Some("the log of ")
        } else if !self.mark.is_in_place() {
            Some("the -mark file of ")
        } else {
            (!self.database.is_in_place()).then_some("")
        };
        let is_misplaced = misplaced.is_some() || is_foreign;
        self.is_misplaced.store(is_misplaced, Ordering::Relaxed);
        let path = self.database.path();
        match misplaced {
            Some(file_of) => Err(format!(
                "{file_of}{path:?} was moved or deleted; put it back or restart the server"
            )),
            None if is_foreign => Err(format!(
                "another program has written to {path:?}; restart the server"
            )),
            None => Ok(()),
        }
    }

    fn maintain_database(&self, writer: &mut Writer, now: Instant) -> Result<(), String> {
        let rooms_max = self.config.get().limits.max_rooms;
        self.directory.set_rooms_max(rooms_max);
        self.check_location()?;
        let text = |why: rusqlite::Error| reason(&why);
        writer.check_progress().map_err(text)?;
        if self.health.check().is_err() {
            self.require_space(writer, COMMON_LOG_BYTES)?;
            writer.probe().map_err(text)?;
        }
        writer.expire(now).map_err(text)?;
        self.forget_idle_rooms(writer, now, 0).map_err(text)
    }

    /// Forgets idle rooms, also with history if that is necessary for `wanted` new rooms.
    fn forget_idle_rooms(
        &self,
        writer: &mut Writer,
        now: Instant,
        wanted: usize,
    ) -> rusqlite::Result<()> {
        let last_message = |room: &RoomName| writer.last_seq(room);
        let expired = self.directory.expired(now, wanted, last_message);
        if expired.is_empty() {
            return Ok(());
        }
        // The new epoch is stored before any room uses it.
        let mut epoch = self.directory.epoch();
        if self.directory.any_has_offsets(&expired) {
            epoch = writer.forget(&expired)?;
        }
        let forgotten = self.directory.forget(expired, epoch);
        writer.forget_rows(&forgotten);
        Ok(())
    }

    /// Forgets rooms without members at once, after `wanted` rooms were refused. Returns whether another attempt may
    /// succeed.
    fn make_space(&self, writer: &mut Writer, wanted: usize) -> bool {
        let now = Instant::now();
        if self.is_misplaced.load(Ordering::Relaxed) || !self.directory.may_make_space(now) {
            return false;
        }
        let forgotten = self.forget_idle_rooms(writer, now, wanted);
        self.copy_totals(writer);
        forgotten
            .inspect_err(|why| self.health.failed(why.to_string()))
            .is_ok()
    }

    /// Returns the numberings of a batch's rooms.
    fn open_batch(
        &self,
        batch: &[Publish],
        writer: &mut Writer,
    ) -> Vec<Result<Arc<RoomNumbering>, StoreError>> {
        let rooms = || batch.iter().map(|publish| &publish.room);
        let opened = self.directory.open_all(rooms());
        let refused = opened.iter().filter(|opened| opened.is_err()).count();
        if refused == 0 || !self.make_space(writer, refused) {
            return opened;
        }
        // The rooms that are open already are held meanwhile.
        self.directory.open_all(rooms())
    }

    /// Stores a batch; on a disk that is nearly full, in parts that fit.
    fn append_in_parts(
        &self,
        writer: &mut Writer,
        batch: &[Publish],
    ) -> Vec<Result<Stored, StoreError>> {
        if self.checkpointer.space_is_low()
            && let Err(why) = self.require_space(writer, log_bytes_max(batch))
        {
            if batch.len() > 1 {
                let (first, second) = batch.split_at(batch.len() / 2);
                let mut stored = self.append_in_parts(writer, first);
                stored.extend(self.append_in_parts(writer, second));
                return stored;
            }
            return self.refuse(writer, batch, Some(why), StoreError::Unavailable);
        }
        if self.is_misplaced.load(Ordering::Relaxed) {
            // Maintenance has already reported it.
            return self.refuse(writer, batch, None, StoreError::Unavailable);
        }
        let started = Instant::now();
        let numberings = self.open_batch(batch, writer);
        let appended = writer.append(batch, &numberings, started);
        if self.mark.check_file(|| self.database.file_state()) {
            return self.refuse_in_foreign_file(batch);
        }
        match appended {
            Ok(stored) => {
                self.copy_totals(writer);
                self.metrics.commits.add(1);
                let micros = started.elapsed().as_micros();
                self.metrics.commit_micros.add(micros as u64);
                self.checkpointer.wake();
                self.health.succeeded();
                stored
            }
            Err(why) => {
                self.checkpointer.empty_log();
                let error = if is_outcome_unknown(&why) {
                    StoreError::Unknown
                } else {
                    StoreError::Unavailable
                };
                self.refuse(writer, batch, Some(reason(&why)), error)
            }
        }
    }

    /// Returns the results of a batch that is not stored.
    fn refuse(
        &self,
        writer: &Writer,
        batch: &[Publish],
        reason: Option<String>,
        error: StoreError,
    ) -> Vec<Result<Stored, StoreError>> {
        self.metrics.commits_failed.add(1);
        if let Some(reason) = reason {
            self.health.failed(reason);
        }
        batch
            .iter()
            .map(|publish| writer.find_duplicate(publish, error))
            .collect()
    }

    /// Returns the results of a batch after another program has written to the file. Whether the batch, or an earlier
    /// publish with the same id, is still in the file is unknown.
    fn refuse_in_foreign_file(&self, batch: &[Publish]) -> Vec<Result<Stored, StoreError>> {
        self.metrics.commits_failed.add(1);
        if let Err(why) = self.check_location() {
            self.health.failed(why);
        }
        batch.iter().map(|_| Err(StoreError::Unknown)).collect()
    }

    /// Fails unless the disk has space for a write to the log, and for the whole log to be copied into the file
    /// afterwards. Otherwise the log could fill the disk, and could then neither be copied nor deleted.
    fn require_space(&self, writer: &Writer, log_bytes: u64) -> Result<(), String> {
        let enough = || {
            let reusable = writer.reusable_bytes();
            let log = self.database.wal_bytes() + log_bytes;
            let needed = log + log.saturating_sub(reusable);
            let least = SPACE_BYTES_MIN.saturating_sub(reusable);
            self.database.free_bytes() >= needed.max(least)
        };
        if enough() {
            return Ok(());
        }
        checkpoint(&self.database, &self.mark, writer.connection(), "TRUNCATE");
        if enough() {
            return Ok(());
        }
        let free_kib = self.database.free_bytes() / 1024;
        Err(format!("the disk is full, but for {free_kib} KiB"))
    }
}

/// Returns the most bytes that a batch can add to the log.
fn log_bytes_max(batch: &[Publish]) -> u64 {
    let payloads: usize = batch.iter().map(|publish| publish.payload.len()).sum();
    let overhead = BATCH_OVERHEAD_BYTES + PUBLISH_OVERHEAD_BYTES * batch.len() as u64;
    payloads as u64 * 5 / 4 + overhead
}

impl Store for Sqlite {
    fn open(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        self.directory.open(room).or_else(|why| {
            let writer = self.writer.try_lock_for(SPACE_TIMEOUT);
            if !writer.is_some_and(|mut writer| self.make_space(&mut writer, 1)) {
                return Err(why);
            }
            self.directory.open(room)
        })
    }

    fn find(&self, room: &RoomName) -> Result<Option<Arc<RoomNumbering>>, StoreError> {
        Ok(self.directory.find(room))
    }

    fn append(&self, batch: &[Publish]) -> Vec<Result<Stored, StoreError>> {
        self.append_in_parts(&mut self.writer.lock(), batch)
    }

    fn delete(&self, room: &RoomName, deletion: Deletion) -> Result<Deleted, StoreError> {
        self.delete_part(room, deletion)
    }

    fn history(&self, numbering: &RoomNumbering, query: HistoryQuery) -> Result<Page, StoreError> {
        self.history.page(numbering, query)
    }

    fn maintain(&self, now: Instant) {
        let mut writer = self.writer.lock();
        match self.maintain_database(&mut writer, now) {
            Ok(()) => self.health.succeeded(),
            Err(why) => {
                self.checkpointer.empty_log();
                self.health.failed(why);
            }
        }
        self.copy_totals(&mut writer);
        drop(writer);
        self.history.read_again(&self.directory);
    }

    /// Writes the mark again, without a message and without a sync: a disk that hangs or refuses writes shows at once,
    /// and frequent checks do not wear it out.
    fn probe(&self) {
        let writer = self.writer.lock();
        // Maintenance finds out when a store that failed works again.
        if self.health.check().is_err() {
            return;
        }
        let written = self.check_location().and_then(|()| {
            writer.check_progress().map_err(|why| reason(&why))?;
            self.mark.update(|_| ()).map_err(|why| why.to_string())
        });
        if let Err(why) = written {
            self.health.failed(why);
        }
    }

    fn revoke(&self, user: &str, at: Duration) -> Result<usize, StoreError> {
        if self.is_misplaced.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable);
        }
        let writer = self.writer.try_lock_for(REVOKE_TIMEOUT);
        let mut writer = writer.ok_or(StoreError::Unavailable)?;
        writer.revoke(user, at).map_err(|why| {
            log::error!("cannot store a revocation: {}", reason(&why));
            StoreError::Unavailable
        })?;
        self.checkpointer.wake();
        Ok(0)
    }

    fn usage(&self) -> Usage {
        Usage {
            rooms: self.directory.len(),
            messages: Some(self.messages.load(Ordering::Relaxed)),
            bytes: Some(self.bytes.load(Ordering::Relaxed)),
            disk_bytes: Some(self.database.disk_bytes()),
        }
    }

    fn health(&self) -> Result<(), String> {
        self.health.check().and_then(|()| self.history.health())
    }

    fn close(&self) {
        let writer = self.writer.lock();
        if self.mark.record().is_void {
            // The next start decides to which file the log belongs.
            keep_log_on_close(writer.connection()).unwrap_or_else(|why| log::warn!("{why}"));
        }
        let is_complete = checkpoint(&self.database, &self.mark, writer.connection(), "TRUNCATE");
        let closed = writer.check_progress().map_err(|why| reason(&why));
        let closed = closed.and_then(|()| {
            let update = |record: &mut Record| {
                // Otherwise closing the last connection copies the rest of the log.
                record.is_clean = is_complete;
                record.is_copying |= !is_complete;
            };
            self.mark
                .update_synced(update)
                .map_err(|why| why.to_string())
        });
        if let Err(why) = closed {
            log::warn!("the database was not closed cleanly: {why}");
        }
    }
}
