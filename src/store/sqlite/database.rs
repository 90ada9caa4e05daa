//! The database file: locks it, opens connections to it, and detects that it was moved or copied.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags};

use crate::config::Durability;

use super::error::DatabaseError;
use super::schema::{self, Origin};

/// How long a connection waits for a lock held by a checkpoint or by another program that reads the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Pages that a connection caches, in KiB.
const CACHE_KIB: i32 = 1024;

/// A database file, locked against other servers until this is dropped.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    /// The canonical path, for SQLite: it keeps its log beside the file that a symbolic link points to, and gives
    /// names such as `:memory:` and `file:…` a meaning of their own.
    real_path: PathBuf,
    /// Holds the lock. Closing any descriptor of the file would release SQLite's own locks on it, so this one stays
    /// open for longer than every connection.
    file: File,
}

impl Database {
    /// Locks the file and creates its tables, creating the file if needed. A file of another program or of a later
    /// version is left as it is.
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self, DatabaseError> {
        let owned = || path.to_owned();
        let file_error = |why| DatabaseError::File(owned(), why);
        let sqlite_error = |why| DatabaseError::Sqlite(owned(), why);
        let check = |origin| match origin {
            Origin::Ours => Ok(()),
            Origin::Newer(version) => Err(DatabaseError::Newer(owned(), version)),
            Origin::Foreign => Err(DatabaseError::Foreign(owned())),
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(file_error)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => DatabaseError::InUse(owned()),
            TryLockError::Error(why) => file_error(why),
        })?;
        // Reading from a pipe could block for ever.
        if !file.metadata().map_err(file_error)?.is_file() {
            return Err(DatabaseError::NotAFile(owned()));
        }
        check(Origin::read(&file).map_err(file_error)?)?;
        let database = Self {
            path: owned(),
            real_path: path.canonicalize().map_err(file_error)?,
            file,
        };
        let mut connection = database.connect(durability).map_err(sqlite_error)?;
        check(schema::create(&mut connection).map_err(sqlite_error)?)?;
        Ok(database)
    }

    /// The path as the operator wrote it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a connection that can write.
    pub(super) fn connect(&self, durability: Durability) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = self.connect_with(flags)?;
        // Takes effect only before the first table is created; it lets free pages be returned to the file system.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Checkpoints run on their own thread. A log that restarts is truncated.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", 0)?;
        let synchronous = match durability {
            Durability::Normal => "NORMAL",
            Durability::Full => "FULL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        Ok(connection)
    }

    /// Opens a connection that cannot write.
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

    /// The size of the write-ahead log in bytes.
    pub(super) fn wal_bytes(&self) -> u64 {
        self.wal().map_or(0, |wal| wal.len())
    }

    /// Whether the write-ahead log exists beside the database.
    pub(super) fn has_wal(&self) -> bool {
        self.wal().is_ok()
    }

    /// The size of all files of the database in bytes.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |file| file.len()) + self.wal_bytes()
    }

    /// A text that differs between the file and a copy of it: its inode and time of creation.
    pub(super) fn identity(&self) -> io::Result<String> {
        let file = self.file.metadata()?;
        let created_ns = file
            .created()
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
            .unwrap_or_default()
            .as_nanos();
        Ok(format!("{} {created_ns}", file.ino()))
    }

    /// Whether the path still names the opened file. Writes to a deleted file would be lost.
    pub(super) fn is_in_place(&self) -> bool {
        let identity = |file: &Metadata| (file.dev(), file.ino());
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(opened), Ok(named)) => identity(&opened) == identity(&named),
            _ => false,
        }
    }
}
