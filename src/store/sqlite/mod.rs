//! The broker that keeps history in a SQLite database: what it has acknowledged outlives the process.
//!
//! One transaction a batch ([`draft`]), in WAL mode. The broker thread alone writes ([`writer`]);
//! clients' threads read through a few connections ([`readers`]); a third thread moves the log into the
//! database ([`checkpoint`]). Rooms are opened from memory ([`Directory`]), so that no join waits for
//! the disk.

mod checkpoint;
mod draft;
mod file;
mod readers;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use crate::config::{HistoryLimits, SqliteSettings};
use crate::metrics::Metrics;
use crate::protocol::{Kind, Page, RoomName};
use crate::rooms::RoomNumbering;

use self::checkpoint::Checkpointer;
use self::file::Database;
use self::readers::Readers;
use self::writer::Writer;
use super::api::{HistoryQuery, Store, Usage};
use super::directory::Directory;
use super::error::StoreError;
use super::health::Health;
use super::publish::{Publish, Stored};

pub(super) use file::OpenError;

/// A database and all that reads and writes it. Fields are dropped in this order: the connections
/// before the file that holds the lock.
#[derive(Debug)]
pub(super) struct Sqlite {
    writer: Mutex<Writer>,
    readers: Readers,
    checkpointer: Checkpointer,
    database: Arc<Database>,
    directory: Directory,
    health: Health,
    /// Whether there is a log, which some file systems do not allow.
    has_wal: bool,
    /// Whether the file or its log is no longer where it was.
    misplaced: AtomicBool,
    /// Messages and bytes stored, for those who must not wait for the writer.
    messages: AtomicU64,
    bytes: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Sqlite {
    /// Opens the database, creating it if there is none, and takes up its rooms.
    pub(super) fn open(
        settings: &SqliteSettings,
        limits: HistoryLimits,
        rooms_max: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        let path: &Path = &settings.path;
        let failed = |why| OpenError::Sqlite(path.to_owned(), why);
        let database = Arc::new(Database::open(path, settings.durability)?);
        let connection = database.connect(settings.durability).map_err(failed)?;
        let keep = limits.age;
        let file = database.identity();
        let file = file.map_err(|why| OpenError::File(path.to_owned(), why))?;
        let (writer, epoch) =
            Writer::load(connection, &file, settings.durability, limits).map_err(failed)?;
        let directory = Directory::new(rooms_max, keep, epoch, writer.positions());
        let sqlite = Self {
            writer: Mutex::new(writer),
            readers: Readers::connect(&database).map_err(failed)?,
            checkpointer: Checkpointer::start(Arc::clone(&database))?,
            has_wal: database.has_wal(),
            database,
            directory,
            health: Health::of_publishing(),
            misplaced: AtomicBool::new(false),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            metrics,
        };
        sqlite.publish_totals(&mut sqlite.writer());
        Ok(sqlite)
    }

    fn publish_totals(&self, writer: &mut Writer) {
        let totals = writer.totals();
        self.messages.store(totals.messages, Ordering::Relaxed);
        self.bytes.store(totals.bytes, Ordering::Relaxed);
        self.metrics.pruned.add(writer.take_pruned());
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock()
    }

    /// What is written to a file that nobody can find again is not stored.
    fn check_place(&self) -> Result<(), String> {
        let lost_wal = self.has_wal && !self.database.has_wal();
        let misplaced = lost_wal || !self.database.is_in_place();
        self.misplaced.store(misplaced, Ordering::Relaxed);
        if misplaced {
            let path = self.database.path();
            let what = if lost_wal { "the log of " } else { "" };
            return Err(format!(
                "{what}{path:?} was moved or deleted; put it back or restart the server"
            ));
        }
        Ok(())
    }

    fn maintain_store(&self, writer: &mut Writer, now: Instant) -> Result<(), String> {
        self.check_place()?;
        let failed = |why: rusqlite::Error| why.to_string();
        if self.health.check().is_err() {
            writer.probe().map_err(failed)?;
        }
        writer.expire(now).map_err(failed)?;
        let idle = self.directory.expired(now, |room| writer.has_history(room));
        if idle.is_empty() {
            return Ok(());
        }
        // The new epoch is on disk before anyone is told of it.
        let mut epoch = self.directory.epoch();
        if self.directory.any_has_offsets(&idle) {
            epoch = writer.forget(&idle).map_err(failed)?;
        }
        self.directory.forget(&idle, epoch);
        writer.keep_only(|room| self.directory.find(room).is_some());
        Ok(())
    }
}

impl Store for Sqlite {
    fn open(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError> {
        self.directory.open(room)
    }

    fn find(&self, room: &RoomName) -> Result<Option<Arc<RoomNumbering>>, StoreError> {
        Ok(self.directory.find(room))
    }

    fn append(&self, batch: &[Publish]) -> Vec<Result<Stored, StoreError>> {
        let started = Instant::now();
        let numberings = self
            .directory
            .open_all(batch.iter().map(|publish| &publish.room));
        let mut writer = self.writer();
        let stored = match self.misplaced.load(Ordering::Relaxed) {
            true => Err(None),
            false => writer.append(batch, &numberings, started).map_err(Some),
        };
        match stored {
            Ok(stored) => {
                self.publish_totals(&mut writer);
                self.metrics.commits.add(1);
                let micros = started.elapsed().as_micros();
                self.metrics.commit_micros.add(micros as u64);
                self.checkpointer.wake();
                self.health.succeeded();
                stored
            }
            Err(why) => {
                self.metrics.commits_failed.add(1);
                if let Some(why) = why {
                    self.health.failed(why.to_string());
                }
                batch.iter().map(|publish| writer.known(publish)).collect()
            }
        }
    }

    fn history(&self, numbering: &RoomNumbering, query: HistoryQuery) -> Result<Page, StoreError> {
        match self.readers.page(numbering, query) {
            Some(Ok(page)) => Ok(page),
            Some(Err(why)) => {
                self.health.failed(why.to_string());
                Err(StoreError::Unavailable)
            }
            None => Err(StoreError::Unavailable),
        }
    }

    fn maintain(&self, now: Instant) {
        let mut writer = self.writer();
        match self.maintain_store(&mut writer, now) {
            Ok(()) => self.health.succeeded(),
            Err(why) => self.health.failed(why),
        }
        self.publish_totals(&mut writer);
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
        if let Err(why) = self.writer().close() {
            log::warn!("the database was not closed cleanly: {why}");
        }
    }
}

fn kind_to(kind: Kind) -> u8 {
    match kind {
        Kind::Message => 0,
        Kind::CustomEvent => 1,
    }
}

fn kind_from(number: u8) -> rusqlite::Result<Kind> {
    match number {
        0 => Ok(Kind::Message),
        1 => Ok(Kind::CustomEvent),
        _ => Err(corrupt("kind")),
    }
}

/// A value that no version of ours has written.
fn corrupt(what: &str) -> rusqlite::Error {
    let why = format!("the database holds a {what} that cannot be");
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, why.into())
}
