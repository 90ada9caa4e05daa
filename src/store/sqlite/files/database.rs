//! The database file: locks it, opens connections to it, and detects that it was moved or changed.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::config::Durability;

use super::super::error::DatabaseError;
use super::file_state::FileState;
use super::origin::Origin;

/// How long a connection waits for a lock held by a checkpoint or by another program that reads the file.
pub(in crate::store::sqlite) const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Pages that a connection caches, in KiB.
const CACHE_KIB: i32 = 1024;

/// Keeps the last connection that is closed from copying the log into the file.
pub(in crate::store::sqlite) fn keep_log_on_close(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map(drop)
}

/// A database file, locked against other servers until this is dropped.
#[derive(Debug)]
pub(in crate::store::sqlite) struct Database {
    path: PathBuf,
    /// The canonical path, for SQLite: it keeps its log beside the file that a symbolic link points to, and gives
    /// names such as `:memory:` and `file:…` a meaning of their own.
    real_path: PathBuf,
    /// Holds the lock. Closing any descriptor of the file would release SQLite's own locks on it, so this one stays
    /// open for longer than every connection.
    file: File,
}

impl Database {
    /// Locks the file, creating it if needed. A file of another program or of a later version is left as it is.
    pub(in crate::store::sqlite) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let file_error = |why| DatabaseError::File(path.to_owned(), why);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(file_error)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => DatabaseError::InUse(path.to_owned()),
            TryLockError::Error(why) => file_error(why),
        })?;
        // Reading from a pipe could block for ever.
        if !file.metadata().map_err(file_error)?.is_file() {
            return Err(DatabaseError::NotAFile(path.to_owned()));
        }
        Origin::read(&file).map_err(file_error)?.check(path)?;
        Ok(Self {
            path: path.to_owned(),
            real_path: path.canonicalize().map_err(file_error)?,
            file,
        })
    }

    /// The path as the operator wrote it.
    pub(in crate::store::sqlite) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a connection that can write.
    pub(in crate::store::sqlite) fn connect(
        &self,
        durability: Durability,
    ) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = self.connect_with(flags)?;
        // Takes effect only before the first table is created; it lets free pages be returned to the file system.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Checkpoints run on their own thread. A log that restarts is truncated.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", 0)?;
        // Overwrites what is deleted within pages, which costs no write of its own.
        connection.pragma_update(None, "secure_delete", "FAST")?;
        let synchronous = match durability {
            Durability::Normal => "NORMAL",
            Durability::Full => "FULL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        Ok(connection)
    }

    /// Opens a connection that cannot write.
    pub(in crate::store::sqlite) fn connect_read_only(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = self.connect_with(flags)?;
        keep_log_on_close(&connection)?;
        Ok(connection)
    }

    /// Opens a connection that reads the file without its log, and changes neither.
    pub(in crate::store::sqlite) fn connect_to_file_alone(&self) -> rusqlite::Result<Connection> {
        let path = self.real_path.as_os_str().as_bytes();
        let uri = format!(
            "file:{}?immutable=1",
            percent_encode(path, NON_ALPHANUMERIC)
        );
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(uri, flags)
    }

    /// Copies the whole log into the file and deletes it. Needs free space only for pages that the file does not
    /// have yet, because an exclusive connection keeps the index of the log in memory instead of in a file.
    pub(in crate::store::sqlite) fn empty_log(&self) -> rusqlite::Result<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = self.connect_with(flags)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    fn connect_with(&self, flags: OpenFlags) -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(&self.real_path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        // Detects more kinds of damage before they are read as values.
        connection.pragma_update(None, "cell_size_check", true)?;
        Ok(connection)
    }

    /// The path of a file beside the database.
    pub(super) fn path_with(&self, suffix: &str) -> PathBuf {
        let mut path = self.real_path.clone().into_os_string();
        path.push(suffix);
        path.into()
    }

    fn wal(&self) -> io::Result<Metadata> {
        std::fs::metadata(self.path_with("-wal"))
    }

    /// Renames a log that does not belong to the file, so that SQLite does not mix the two. Returns its new path.
    pub(in crate::store::sqlite) fn set_log_aside(&self) -> io::Result<Option<PathBuf>> {
        if self.wal_bytes() == 0 {
            return Ok(None);
        }
        let numbered = (2..).map(|number| format!("-wal-of-another-file-{number}"));
        let aside = std::iter::once("-wal-of-another-file".to_owned())
            .chain(numbered)
            .map(|suffix| self.path_with(&suffix))
            .find(|path| path.symlink_metadata().is_err())
            .unwrap_or_default();
        std::fs::rename(self.path_with("-wal"), &aside)?;
        Ok(Some(aside))
    }

    /// The user and the group to which the file belongs.
    pub(super) fn owner(&self) -> io::Result<(u32, u32)> {
        let file = self.file.metadata()?;
        Ok((file.uid(), file.gid()))
    }

    /// Returns whether SQLite would undo changes of another program by a journal that is not the log.
    pub(in crate::store::sqlite) fn has_foreign_journal(&self) -> bool {
        const READ_VERSION_AT: u64 = 19;
        const WITH_LOG: u8 = 2;
        let mut version = [0];
        let read =
            std::os::unix::fs::FileExt::read_exact_at(&self.file, &mut version, READ_VERSION_AT);
        read.is_ok() && version == [WITH_LOG] && self.path_with("-journal").exists()
    }

    /// The bytes that are free on the disk of the file.
    pub(in crate::store::sqlite) fn free_bytes(&self) -> u64 {
        let disk = rustix::fs::fstatvfs(&self.file);
        disk.map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// The size of the write-ahead log in bytes.
    pub(in crate::store::sqlite) fn wal_bytes(&self) -> u64 {
        self.wal().map_or(0, |wal| wal.len())
    }

    /// Returns whether the write-ahead log exists beside the database.
    pub(in crate::store::sqlite) fn has_wal(&self) -> bool {
        self.wal().is_ok()
    }

    /// The size of all files of the database in bytes.
    pub(in crate::store::sqlite) fn disk_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |file| file.len()) + self.wal_bytes()
    }

    /// The state of the file now.
    pub(in crate::store::sqlite) fn file_state(&self) -> io::Result<FileState> {
        Ok(FileState::of(&self.file.metadata()?))
    }

    /// Returns whether the path still names the opened file. Writes to a deleted file would be lost.
    pub(in crate::store::sqlite) fn is_in_place(&self) -> bool {
        let identity = |file: &Metadata| (file.dev(), file.ino());
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(opened), Ok(named)) => identity(&opened) == identity(&named),
            _ => false,
        }
    }
}
