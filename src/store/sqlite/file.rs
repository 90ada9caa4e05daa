//! The database file: whose it is, what is in it, and how a connection to it is made.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};

use crate::config::Durability;
use crate::protocol::Epoch;

/// Marks a database as ours (`wsca`), in the header field that SQLite has for this.
const APPLICATION_ID: u32 = 0x7773_6361;
/// The layout of [`SCHEMA`]. A file with a higher number was written by a later version.
const SCHEMA_VERSION: u32 = 1;
/// How long a connection waits for a lock that someone else holds: another program that looks into
/// the file, or a checkpoint.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Pages a connection caches, in KiB.
const CACHE_KIB: i32 = 1024;

/// `messages.seq` is the order of storing over all rooms, which is what expires first.
/// `ids` is what a repeated publish is compared with.
const SCHEMA: &str = "
    CREATE TABLE state (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE rooms (
        room INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        epoch TEXT NOT NULL,
        first_offset INTEGER NOT NULL,
        last_offset INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE messages (
        seq INTEGER PRIMARY KEY,
        room INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        ts INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        id TEXT,
        sender TEXT NOT NULL,
        payload TEXT NOT NULL,
        UNIQUE (room, offset)
    ) STRICT;
    CREATE TABLE ids (
        seq INTEGER PRIMARY KEY,
        ts INTEGER NOT NULL,
        scope TEXT NOT NULL,
        id TEXT NOT NULL,
        room TEXT NOT NULL,
        epoch TEXT NOT NULL,
        offset INTEGER NOT NULL
    ) STRICT;
";

/// Why a database cannot be used; its `Display` is one line for the operator.
#[derive(Debug)]
pub enum OpenError {
    /// The file cannot be created, read or written.
    File(PathBuf, io::Error),
    /// It is a pipe, a device or the like.
    NotAFile(PathBuf),
    /// It is no database of ours.
    Foreign(PathBuf),
    /// It was written by a later version.
    Newer(PathBuf, u32),
    /// Another server uses it.
    InUse(PathBuf),
    /// SQLite cannot work with it.
    Sqlite(PathBuf, rusqlite::Error),
    /// The thread that looks after it cannot be started.
    Thread(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, why) => write!(f, "--db {path:?}: {why}"),
            Self::NotAFile(path) => write!(f, "--db {path:?}: is no regular file; name another"),
            Self::Foreign(path) => write!(
                f,
                "--db {path:?}: is not a wscast database; name another file (it was left as it is)"
            ),
            Self::Newer(path, version) => write!(
                f,
                "--db {path:?}: was written by a later version of wscast (schema {version}, this one \
                 knows {SCHEMA_VERSION}); use that version (the file was left as it is)"
            ),
            Self::InUse(path) => write!(
                f,
                "--db {path:?}: another server uses it; stop that one or name another file"
            ),
            Self::Sqlite(path, why) => write!(f, "--db {path:?}: {why}"),
            Self::Thread(why) => write!(f, "cannot start a thread: {why}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// A database that is ours alone until this is dropped.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    /// The same from the root and without links: SQLite keeps its log beside the file that a link leads
    /// to, and takes names such as `:memory:` and `file:…` for something else.
    real_path: PathBuf,
    /// Holds the lock. Closing any descriptor of the file would drop SQLite's own locks on it, so it
    /// stays open for longer than every connection.
    file: File,
}

impl Database {
    /// Locks the file and prepares it, creating it if it is not there. A file that is not ours is
    /// left as it is.
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self, OpenError> {
        let owned = || path.to_owned();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|why| OpenError::File(owned(), why))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse(owned()),
            TryLockError::Error(why) => OpenError::File(owned(), why),
        })?;
        let unusable = |why| OpenError::File(owned(), why);
        // Reading from a pipe would wait for ever.
        if !file.metadata().map_err(unusable)?.is_file() {
            return Err(OpenError::NotAFile(owned()));
        }
        check_header(path, &file)?;
        let database = Self {
            path: owned(),
            real_path: path.canonicalize().map_err(unusable)?,
            file,
        };
        let failed = |why| OpenError::Sqlite(owned(), why);
        let mut connection = database.connect(durability).map_err(failed)?;
        match prepare(&mut connection).map_err(failed)? {
            (APPLICATION_ID, 0..=SCHEMA_VERSION) => Ok(database),
            (APPLICATION_ID, newer) => Err(OpenError::Newer(owned(), newer)),
            _ => Err(OpenError::Foreign(owned())),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A connection that writes.
    pub(super) fn connect(&self, durability: Durability) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = self.connect_with(flags)?;
        // Takes effect only before the first table: then, pruned pages can be given back.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Checkpoints have a thread of their own; a log that begins anew is cut.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", 0)?;
        let synchronous = match durability {
            Durability::Normal => "NORMAL",
            Durability::Full => "FULL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        Ok(connection)
    }

    /// A connection that cannot write.
    pub(super) fn connect_read_only(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        self.connect_with(flags)
    }

    fn connect_with(&self, flags: OpenFlags) -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(&self.real_path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        Ok(connection)
    }

    fn wal(&self) -> io::Result<Metadata> {
        let mut wal = self.real_path.clone().into_os_string();
        wal.push("-wal");
        std::fs::metadata(wal)
    }

    /// Bytes of the log that was not yet moved into the database.
    pub(super) fn wal_bytes(&self) -> u64 {
        self.wal().map_or(0, |wal| wal.len())
    }

    /// Whether the log is where SQLite keeps it.
    pub(super) fn has_wal(&self) -> bool {
        self.wal().is_ok()
    }

    /// Bytes of all its files.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |file| file.len()) + self.wal_bytes()
    }

    /// What tells the file from a copy of it.
    pub(super) fn identity(&self) -> io::Result<String> {
        let file = self.file.metadata()?;
        let created = file.created().ok();
        let created = created.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Ok(format!(
            "{} {}",
            file.ino(),
            created.unwrap_or_default().as_nanos()
        ))
    }

    /// Whether the path still names the file that was opened. What is written to a file that was
    /// deleted is lost.
    pub(super) fn is_in_place(&self) -> bool {
        let identity = |file: &Metadata| (file.dev(), file.ino());
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(opened), Ok(named)) => identity(&opened) == identity(&named),
            _ => false,
        }
    }
}

/// Reads the header itself: SQLite may change a file by merely opening it.
fn check_header(path: &Path, mut file: &File) -> Result<(), OpenError> {
    const HEADER_BYTES: u64 = 100;
    let mut header = Vec::new();
    file.by_ref()
        .take(HEADER_BYTES)
        .read_to_end(&mut header)
        .map_err(|why| OpenError::File(path.to_owned(), why))?;
    let number = |at: usize| header.get(at..at + 4)?.first_chunk().copied();
    let number = |at| number(at).map(u32::from_be_bytes);
    match (number(60), number(68)) {
        (None, _) if header.is_empty() => Ok(()),
        (Some(version), Some(APPLICATION_ID)) if header.starts_with(b"SQLite format 3\0") => {
            match version {
                0..=SCHEMA_VERSION => Ok(()),
                newer => Err(OpenError::Newer(path.to_owned(), newer)),
            }
        }
        // Created, but the server was killed before its first checkpoint: all is in the log.
        (Some(0), Some(0))
            if header.starts_with(b"SQLite format 3\0") && is_only_a_header(file) =>
        {
            Ok(())
        }
        _ => Err(OpenError::Foreign(path.to_owned())),
    }
}

fn is_only_a_header(file: &File) -> bool {
    const PAGE_BYTES: u64 = 4096;
    file.metadata().is_ok_and(|file| file.len() <= PAGE_BYTES)
}

/// Creates the tables if there are none; gives the application's id and the schema's version.
fn prepare(connection: &mut Connection) -> rusqlite::Result<(u32, u32)> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: u32 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        set_state(&transaction, "epoch", &Epoch::random().to_string())?;
    }
    let number = |pragma| transaction.pragma_query_value(None, pragma, |row| row.get(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    transaction.commit()?;
    if application == APPLICATION_ID {
        // So that the header says what this file is.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    Ok((application, version))
}

/// One of the few values that are there once.
pub(super) fn state(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    let select = "SELECT value FROM state WHERE key = ?1";
    connection
        .query_row(select, [key], |row| row.get(0))
        .optional()
}

pub(super) fn set_state(
    transaction: &Transaction<'_>,
    key: &str,
    value: &str,
) -> rusqlite::Result<()> {
    let upsert = "INSERT INTO state (key, value) VALUES (?1, ?2)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    transaction.execute(upsert, [key, value]).map(drop)
}
