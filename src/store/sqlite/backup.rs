//! Copies a database to a file, also while a server uses it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::DatabaseError;
use super::files::{BUSY_TIMEOUT, Database, Origin};
use super::progress::DatabaseProgress;
use super::schema::start_transaction;

/// Copies the database at `from` to the new file `to`. A server that is started on the copy starts new epochs.
pub(in crate::store) fn back_up(from: &Path, to: &Path) -> Result<(), String> {
    // SQLite would create a database that does not exist.
    let file_error = |why| DatabaseError::File(from.to_owned(), why).to_string();
    let file = File::open(from).map_err(file_error)?;
    if !file.metadata().map_err(file_error)?.is_file() {
        return Err(DatabaseError::NotAFile(from.to_owned()).to_string());
    }
    let origin = Origin::read(&file).map_err(file_error)?;
    origin.check(from).map_err(|why| why.to_string())?;
    drop(file);

    let new_file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to);
    drop(
        new_file
            .map_err(|why| format!("{to:?}: {why}; name a new file in a writable directory"))?,
    );
    copy(from, to).inspect_err(|_| {
        // An incomplete copy is useless. An error of its removal would not help the operator.
        fs::remove_file(to).ok();
    })
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |why: rusqlite::Error| DatabaseError::sqlite(from, why).to_string();
    let source = Database::connect_to_copy(from).map_err(failed)?;
    copy_all(&source, to).map_err(failed)?;
    let synced = File::open(to).and_then(|copy| copy.sync_all());
    synced.map_err(|why| format!("{to:?}: {why}"))
}

/// Copies all pages in one step, so that a server that writes meanwhile does not make it start again.
fn copy_all(source: &Connection, to: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut copy = Connection::open_with_flags(to, flags)?;
    let step = Backup::new(source, &mut copy)?.step(-1)?;
    if step != StepResult::Done {
        let reason = "the database is locked by another program; try again";
        return Err(rusqlite::Error::ToSqlConversionFailure(reason.into()));
    }
    // Removes the run from the copy, so that a start on it is recognized even without the mark.
    let transaction = start_transaction(&mut copy)?;
    if let Some(progress) = DatabaseProgress::read(&transaction)? {
        let progress = DatabaseProgress {
            run: None,
            ..progress
        };
        progress.write(&transaction)?;
    }
    transaction.commit()
}

impl Database {
    /// Opens a connection that reads a database which another process may have in use.
    fn connect_to_copy(path: &Path) -> rusqlite::Result<Connection> {
        let path = path.canonicalize().map_err(|why| {
            // Cannot happen: the file was opened before.
            rusqlite::Error::ToSqlConversionFailure(why.into())
        })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        let has_log = fs::metadata(log).is_ok_and(|log| log.len() > 0);
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // The log of a server that was killed is left for its next start.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log)?;
        Ok(connection)
    }
}
