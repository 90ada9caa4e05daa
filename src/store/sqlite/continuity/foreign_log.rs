//! A log that continues another file than the one beside it: SQLite would mix the two.

use rusqlite::{Connection, ErrorCode};

use super::super::files::{Database, Record};
use super::super::progress::DatabaseProgress;
use super::comparison::{is_put_back, read_alone};

/// Returns whether the log must not be copied into the file. `record` is that of the mark, if the mark can be trusted.
pub(super) fn has_foreign_log(database: &Database, record: Option<&Record>) -> bool {
    if database.wal_bytes() == 0 {
        return false;
    }
    // A new file has its tables in the log. Damage is reported later.
    let Ok(alone) = read_alone(database) else {
        return false;
    };
    if record.is_some_and(|record| !is_put_back(alone, record)) {
        return false;
    }
    let run = alone.and_then(|progress| progress.run);
    let is_backup = alone.is_some() && run.is_none();
    let is_older_copy = record.is_some_and(|record| run.is_some_and(|run| record.is_of(run)));
    if is_backup || is_older_copy {
        return true;
    }
    let together = database
        .connect_read_only()
        .and_then(|connection| read_together(&connection));
    match together {
        Ok((progress, is_whole)) => progress.and_then(|progress| progress.run) != run || !is_whole,
        Err(why) => matches!(
            why.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        ),
    }
}

/// Reads the progress of the file with its log, and whether the two are a database.
fn read_together(connection: &Connection) -> rusqlite::Result<(Option<DatabaseProgress>, bool)> {
    let progress = DatabaseProgress::read(connection)?;
    let check = "PRAGMA integrity_check(1)";
    let found: String = connection.query_row(check, [], |row| row.get(0))?;
    Ok((progress, found == "ok"))
}
