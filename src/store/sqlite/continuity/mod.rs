//! Decides at start whether the database continues where clients left off, and starts a run of the server on it.
//!
//! The database file, its log and the mark may come from different moments: a backup was put back, the log was lost,
//! the machine lost power. Unless all three agree, offsets that clients have seen could be used again, so every room
//! then gets a new epoch.

mod comparison;
mod foreign_log;
mod old_names;

use rusqlite::Connection;

use crate::config::Durability;
use crate::protocol::Epoch;

use self::comparison::{Break, compare_file, compare_progress, compare_without_mark};
use self::foreign_log::has_foreign_log;
use super::checkpoint::checkpoint;
use super::error::DatabaseError;
use super::files::{Database, FoundMark, Mark, MarkFile, Record, RunId};
use super::progress::DatabaseProgress;
use super::schema::{self, set_state, start_transaction};

/// Starts a run: compares file, log and mark, creates the tables and the mark if needed, and starts new epochs if
/// messages may have been lost. Returns the connection that writes, the mark, and the number of the last batch.
pub(super) fn start_run(
    database: &Database,
    durability: Durability,
) -> Result<(Connection, Mark, u64), DatabaseError> {
    let sqlite_error = |why| DatabaseError::sqlite(database.path(), why);
    let file_error = |why| DatabaseError::File(database.path().to_owned(), why);

    let (mark_file, found) = MarkFile::open(database)?;
    let mark_error = |why| DatabaseError::Mark(mark_file.path().to_owned(), why);
    let boot = boot_id();
    let mut reason = match &found {
        FoundMark::Missing => None,
        FoundMark::Damaged => Some(Break::MarkDamaged),
        FoundMark::Valid {
            record,
            is_untouched,
        } => match compare_file(database, record, &boot).map_err(file_error)? {
            None | Some(Break::PowerLost) if !is_untouched => Some(Break::MarkTouched),
            reason => reason,
        },
    };
    let (run, last_run) = match &found {
        // An earlier start was interrupted. The database names one of the two runs.
        FoundMark::Valid { record, .. } if record.run != record.last_run => {
            (record.run, record.last_run)
        }
        FoundMark::Valid { record, .. } => (RunId::random(), record.run),
        FoundMark::Missing | FoundMark::Damaged => {
            let run = RunId::random();
            (run, run)
        }
    };
    let trusted = match &found {
        FoundMark::Valid {
            record,
            is_untouched: true,
        } => Some(record),
        _ => None,
    };
    let has_foreign_log = has_foreign_log(database, trusted);
    // The database is written from here on. If this start is interrupted, the next start must still find the reason.
    let mark = match &found {
        FoundMark::Valid { record, .. } => {
            let record = Record {
                is_copying: true,
                is_void: reason.is_some_and(Break::needs_integrity_check),
                run,
                last_run,
                ..record.clone()
            };
            Some(Mark::start(&mark_file, record).map_err(mark_error)?)
        }
        FoundMark::Missing | FoundMark::Damaged => None,
    };
    if has_foreign_log && let Some(aside) = database.set_log_aside().map_err(file_error)? {
        log::warn!("the log of the database belongs to another file and is now {aside:?}");
    }
    // A log that filled the disk leaves no space for anything else. An error would occur again below.
    database.empty_log().ok();

    let mut connection = database.connect(durability).map_err(sqlite_error)?;
    schema::create(&mut connection)
        .map_err(sqlite_error)?
        .check(database.path())?;
    let progress = DatabaseProgress::read(&connection).map_err(sqlite_error)?;
    reason = match &found {
        FoundMark::Valid { record, .. } => {
            reason.or_else(|| compare_progress(progress, record, &boot))
        }
        FoundMark::Missing if progress.is_some() => Some(Break::MarkMissing),
        FoundMark::Missing => {
            compare_without_mark(&connection, database, &boot).map_err(sqlite_error)?
        }
        FoundMark::Damaged => reason,
    };
    if reason.is_some_and(Break::needs_integrity_check) {
        check_integrity(database, &connection)?;
    }
    let mut last = progress.map_or(0, |progress| progress.batch);
    if let Some(mark) = &mark {
        last = last.max(mark.record().batch);
        let update = mark.update(|record| {
            record.batch = last;
            record.is_void |= reason.is_some_and(Break::needs_integrity_check);
        });
        update.map_err(mark_error)?;
    }
    let batch = last + 1;
    let started = DatabaseProgress {
        run: Some(run),
        batch,
    };
    record_start(&mut connection, started, reason).map_err(sqlite_error)?;
    let last_record = mark.filter(|_| reason.is_none()).map(|mark| mark.record());
    let record = Record {
        is_clean: false,
        is_copying: true,
        is_void: false,
        run,
        last_run: last_record.as_ref().map_or(run, |last| last.last_run),
        batch,
        copied_batch: last_record.map_or(0, |last| last.copied_batch),
        boot,
        file: database.file_state().map_err(file_error)?,
        written_ns: 0,
    };
    let mark = Mark::start(&mark_file, record).map_err(mark_error)?;
    checkpoint(database, &mark, &connection, "TRUNCATE");
    mark.update_synced(|_| ()).map_err(mark_error)?;
    Ok((connection, mark, batch))
}

fn record_start(
    connection: &mut Connection,
    started: DatabaseProgress,
    reason: Option<Break>,
) -> rusqlite::Result<()> {
    let transaction = start_transaction(connection)?;
    if let Some(reason) = reason {
        log::warn!("{reason}: numbering restarts in a new epoch");
        let epoch = Epoch::random().to_string();
        transaction.execute("UPDATE rooms SET epoch = ?1 WHERE room > 0", [&epoch])?;
        transaction.execute("UPDATE ids SET epoch = ?1", [&epoch])?;
        set_state(&transaction, "epoch", &epoch)?;
    }
    // Entries of versions that kept no mark.
    transaction.execute("DELETE FROM state WHERE key IN ('run', 'file')", [])?;
    old_names::normalize(&transaction)?;
    started.write(&transaction)?;
    transaction.commit()
}

fn check_integrity(database: &Database, connection: &Connection) -> Result<(), DatabaseError> {
    let check = "PRAGMA integrity_check(1)";
    let found: String = connection
        .query_row(check, [], |row| row.get(0))
        .map_err(|why| DatabaseError::sqlite(database.path(), why))?;
    if found == "ok" {
        return Ok(());
    }
    let line = found.lines().last().unwrap_or_default().to_owned();
    Err(DatabaseError::Damaged(database.path().to_owned(), line))
}

fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}
