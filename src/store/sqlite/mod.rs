//! The store that keeps history in a SQLite database: acknowledged messages survive the process.
//!
//! The broker thread alone writes, one transaction per batch ([`writer`]). Clients' threads read through a few
//! connections ([`history`]), and a third thread copies the write-ahead log into the database ([`checkpoint`]). Joins use the [`Directory`] in memory, so no join waits for the disk.

mod checkpoint;
mod columns;
mod database;
mod error;
mod history;
mod schema;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::{HistoryLimits, SqliteSettings};
use crate::metrics::Metrics;
use crate::protocol::{Page, RoomName};
use crate::rooms::RoomNumbering;

use self::checkpoint::Checkpointer;
use self::database::Database;
use self::error::DatabaseError;
use self::history::HistoryReader;
use self::writer::Writer;
use super::api::{HistoryQuery, Store, Usage};
use super::directory::Directory;
use super::error::StoreError;
use super::health::Health;
use super::publish::{Publish, Stored};

/// The longest time for which a client that was refused a room waits until idle rooms can be deleted.
const SPACE_TIMEOUT: Duration = Duration::from_secs(1);

/// A database with its connections. The fields are dropped in this order: connections before the file's lock.
#[derive(Debug)]
pub(super) struct Sqlite {
    writer: Mutex<Writer>,
    history: HistoryReader,
    checkpointer: Checkpointer,
    database: Arc<Database>,
    directory: Directory,
    health: Health,
    /// Whether SQLite uses a write-ahead log, which some file systems do not support.
    uses_wal: bool,
    /// Whether the file or its log was moved or deleted.
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
        limits: HistoryLimits,
        rooms_max: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self, DatabaseError> {
        let path: &Path = &settings.path;
        let file_error = |why| DatabaseError::File(path.to_owned(), why);
        let sqlite_error = |why| DatabaseError::Sqlite(path.to_owned(), why);
        let database = Arc::new(Database::open(path, settings.durability)?);
        let connection = database
            .connect(settings.durability)
            .map_err(sqlite_error)?;
        let keep = limits.age;
        let identity = database.identity().map_err(file_error)?;
        let (writer, epoch) = Writer::load(connection, &identity, settings.durability, limits)
            .map_err(sqlite_error)?;
        let directory = Directory::new(rooms_max, keep, epoch, writer.positions());
        let sqlite = Self {
            writer: Mutex::new(writer),
            history: HistoryReader::connect(&database).map_err(sqlite_error)?,
            checkpointer: Checkpointer::start(Arc::clone(&database))?,
            uses_wal: database.has_wal(),
            database,
            directory,
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
    }

    /// Checks that the file and its log are where they were. Writes to a deleted file would be lost.
    fn check_location(&self) -> Result<(), String> {
        let lost_wal = self.uses_wal && !self.database.has_wal();
        let is_misplaced = lost_wal || !self.database.is_in_place();
        self.is_misplaced.store(is_misplaced, Ordering::Relaxed);
        if is_misplaced {
            let path = self.database.path();
            let log_of = if lost_wal { "the log of " } else { "" };
            return Err(format!(
                "{log_of}{path:?} was moved or deleted; put it back or restart the server"
            ));
        }
        Ok(())
    }

    fn maintain_database(&self, writer: &mut Writer, now: Instant) -> Result<(), String> {
        self.check_location()?;
        let text = |why: rusqlite::Error| why.to_string();
        if self.health.check().is_err() {
            writer.probe().map_err(text)?;
        }
        writer.expire(now).map_err(text)?;
        self.forget_idle_rooms(writer, now).map_err(text)
    }

    fn forget_idle_rooms(&self, writer: &mut Writer, now: Instant) -> rusqlite::Result<()> {
        let expired = self.directory.expired(now, |room| writer.has_history(room));
        if expired.is_empty() {
            return Ok(());
        }
        // The new epoch is stored before any room uses it.
        let mut epoch = self.directory.epoch();
        if self.directory.any_has_offsets(&expired) {
            epoch = writer.forget(&expired)?;
        }
        self.directory.forget(&expired, epoch);
        writer.retain_rooms(|room| self.directory.find(room).is_some());
        Ok(())
    }

    /// Forgets rooms without members and history at once, after a room was refused. Returns whether another attempt
    /// may succeed.
    fn make_space(&self, writer: &mut Writer) -> bool {
        let now = Instant::now();
        if self.is_misplaced.load(Ordering::Relaxed) || !self.directory.may_make_space(now) {
            return false;
        }
        let forgotten = self.forget_idle_rooms(writer, now);
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
        if opened.iter().all(Result::is_ok) || !self.make_space(writer) {
            return opened;
        }
        // The rooms that are open already are held meanwhile.
        self.directory.open_all(rooms())
    }
}

impl Store for Sqlite {
    fn open(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        self.directory.open(room).or_else(|why| {
            let writer = self.writer.try_lock_for(SPACE_TIMEOUT);
            if !writer.is_some_and(|mut writer| self.make_space(&mut writer)) {
                return Err(why);
            }
            self.directory.open(room)
        })
    }

    fn find(&self, room: &RoomName) -> Result<Option<Arc<RoomNumbering>>, StoreError> {
        Ok(self.directory.find(room))
    }

    fn append(&self, batch: &[Publish]) -> Vec<Result<Stored, StoreError>> {
        let started = Instant::now();
        let mut writer = self.writer.lock();
        let numberings = self.open_batch(batch, &mut writer);
        let stored = if self.is_misplaced.load(Ordering::Relaxed) {
            Err(None)
        } else {
            writer.append(batch, &numberings, started).map_err(Some)
        };
        match stored {
            Ok(stored) => {
                self.copy_totals(&mut writer);
                self.metrics.commits.add(1);
                let micros = started.elapsed().as_micros();
                self.metrics.commit_micros.add(micros as u64);
                self.checkpointer.wake();
                self.health.succeeded();
                stored
            }
            Err(why) => {
                self.metrics.commits_failed.add(1);
                // Maintenance has already reported a misplaced file.
                if let Some(why) = why {
                    self.health.failed(why.to_string());
                }
                batch
                    .iter()
                    .map(|publish| writer.find_duplicate(publish))
                    .collect()
            }
        }
    }

    fn history(&self, numbering: &RoomNumbering, query: HistoryQuery) -> Result<Page, StoreError> {
        match self.history.page(numbering, query) {
            Some(Ok(page)) => Ok(page),
            Some(Err(why)) => {
                self.health.failed(why.to_string());
                Err(StoreError::Unavailable)
            }
            None => Err(StoreError::Unavailable),
        }
    }

    fn maintain(&self, now: Instant) {
        let mut writer = self.writer.lock();
        match self.maintain_database(&mut writer, now) {
            Ok(()) => self.health.succeeded(),
            Err(why) => self.health.failed(why),
        }
        self.copy_totals(&mut writer);
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
        self.health.check()
    }

    fn close(&self) {
        if let Err(why) = self.writer.lock().close() {
            log::warn!("the database was not closed cleanly: {why}");
        }
    }
}
