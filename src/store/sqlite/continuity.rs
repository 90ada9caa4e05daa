//! Decides at start whether the database continues where clients left off, and starts a run of the server on it.
//!
//! The database file, its log and the mark may come from different moments: a backup was put back, the log was lost,
//! the machine lost power. Unless all three agree, offsets that clients have seen could be used again, so every room
//! then gets a new epoch.

use std::fmt;
use std::io;

use rusqlite::Connection;

use super::checkpoint::checkpoint;
use super::database::Database;
use super::error::DatabaseError;
use super::file_state::FileState;
use super::mark::{FoundMark, Mark, Record, RunId};
use super::old_names;
use super::schema::{self, Progress, set_state, start_transaction};
use crate::config::Durability;
use crate::protocol::Epoch;

/// A reason to start new epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    MarkMissing,
    MarkDamaged,
    /// The last run saw another program write to the database.
    WrittenDuringRun,
    ForeignJournal,
    /// The file is older than the last checkpoint, or of another run.
    FilePutBack,
    FileChanged,
    /// The last acknowledged batches are missing.
    BatchesLost,
    /// The mark is older than the database.
    MarkPutBack,
    PowerLost,
    /// A version that kept no mark wrote the database, and noticed a copy.
    Copied,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MarkMissing => "the -mark file beside the database is missing",
            Self::MarkDamaged => "the -mark file beside the database is damaged",
            Self::WrittenDuringRun => "another program wrote to the database while a server ran",
            Self::ForeignJournal => "the database has a -journal file of another program",
            Self::FilePutBack => "the database is an earlier copy or a backup",
            Self::FileChanged => "the database was replaced or changed by another program",
            Self::BatchesLost => "acknowledged messages are missing: the database or its -wal file is an earlier copy, damaged or lost",
            Self::MarkPutBack => "the -mark file beside the database is older than the database",
            Self::PowerLost => "the machine went down while a server ran",
            Self::Copied => "this database is a copy of one that was in use",
        })
    }
}

impl Break {
    /// Whether the database may be a mixture of several moments, or damaged.
    fn needs_integrity_check(self) -> bool {
        self != Self::PowerLost
    }

    /// Whether the log belongs to another file.
    fn separates_log(self) -> bool {
        self == Self::FilePutBack
    }
}

/// Starts a run: compares file, log and mark, creates the tables and the mark if needed, and starts new epochs if
/// messages may have been lost. Returns the connection that writes, the mark, and the number of the last batch.
pub(super) fn start_run(
    database: &Database,
    durability: Durability,
) -> Result<(Connection, Mark, u64), DatabaseError> {
    let sqlite_error = |why| DatabaseError::sqlite(database.path(), why);
    let file_error = |why| DatabaseError::File(database.path().to_owned(), why);

    let found = FoundMark::read(database.real_path()).map_err(file_error)?;
    let boot = boot_id();
    let mut reason = match &found {
        FoundMark::Missing => None,
        FoundMark::Damaged => Some(Break::MarkDamaged),
        FoundMark::Valid(record) => compare_file(database, record, &boot).map_err(file_error)?,
    };
    let (run, last_run) = match &found {
        // An earlier start was interrupted. The database names either run.
        FoundMark::Valid(record) if record.run != record.last_run => (record.run, record.last_run),
        FoundMark::Valid(record) => (RunId::random(), record.run),
        FoundMark::Missing | FoundMark::Damaged => {
            let run = RunId::random();
            (run, run)
        }
    };
    // From here on the database is written to. A start that is interrupted must not hide the reason from the next.
    let mark = match &found {
        FoundMark::Valid(record) => {
            let record = Record {
                is_copying: true,
                is_void: reason.is_some_and(Break::needs_integrity_check),
                run,
                last_run,
                ..record.clone()
            };
            Some(Mark::create(database.real_path(), record).map_err(file_error)?)
        }
        FoundMark::Missing | FoundMark::Damaged => None,
    };
    if reason.is_some_and(Break::separates_log)
        && let Some(aside) = database.set_log_aside().map_err(file_error)?
    {
        log::warn!("the log of the database belongs to another file and is now {aside:?}");
    }
    // A log that filled the disk leaves no space for anything else. An error recurs below.
    database.empty_log().ok();

    let mut connection = database.connect(durability).map_err(sqlite_error)?;
    schema::create(&mut connection)
        .map_err(sqlite_error)?
        .check(database.path())?;
    let progress = Progress::read(&connection).map_err(sqlite_error)?;
    reason = match &found {
        FoundMark::Valid(record) => reason.or_else(|| compare_progress(progress, record, &boot)),
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
        update.map_err(file_error)?;
    }
    let batch = last + 1;
    let started = Progress {
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
    };
    let mark = Mark::create(database.real_path(), record).map_err(file_error)?;
    checkpoint(database, &mark, &connection, "TRUNCATE");
    mark.update_synced(|_| ()).map_err(file_error)?;
    Ok((connection, mark, batch))
}

/// Compares the file, without its log, with the record of the last run.
fn compare_file(database: &Database, record: &Record, boot: &str) -> io::Result<Option<Break>> {
    let alone = database
        .connect_to_file_alone()
        .and_then(|connection| Progress::read(&connection));
    // A database that is created anew has new epochs in any case.
    let state = database.file_state()?;
    if state.bytes == 0 {
        return Ok(None);
    }
    let found = FoundFile {
        state,
        progress: alone.ok().flatten(),
        has_foreign_journal: database.has_foreign_journal(),
    };
    Ok(found.compare(record, boot))
}

/// The database file without its log, before SQLite opens it.
#[derive(Clone, Copy, Debug)]
struct FoundFile {
    state: FileState,
    /// `None` if it has none or cannot be read.
    progress: Option<Progress>,
    has_foreign_journal: bool,
}

impl FoundFile {
    fn compare(&self, record: &Record, boot: &str) -> Option<Break> {
        let is_put_back = self.progress.is_some_and(|progress| {
            let is_of_run = progress.run.is_some_and(|run| record.is_of(run));
            record.copied_batch > 0 && (!is_of_run || progress.batch < record.copied_batch)
        });
        if record.is_void {
            Some(Break::WrittenDuringRun)
        } else if is_put_back {
            Some(Break::FilePutBack)
        } else if lost_power(record, boot) {
            Some(Break::PowerLost)
        } else if self.has_foreign_journal {
            Some(Break::ForeignJournal)
        } else if !record.is_copying && self.state != record.file {
            Some(Break::FileChanged)
        } else {
            None
        }
    }
}

/// Compares the database, with its log, with the record of the last run. The database may have one batch more: a
/// server that is killed after it stored a batch has not acknowledged that batch.
fn compare_progress(progress: Option<Progress>, record: &Record, boot: &str) -> Option<Break> {
    let Some(Progress { run, batch }) = progress else {
        return Some(Break::BatchesLost);
    };
    let is_of_run = run.is_some_and(|run| record.is_of(run));
    if lost_power(record, boot) {
        Some(Break::PowerLost)
    } else if !is_of_run || batch < record.batch {
        Some(Break::BatchesLost)
    } else if batch > record.batch + 1 {
        Some(Break::MarkPutBack)
    } else {
        None
    }
}

/// Whether the machine went down during the run. A disk that was set back looks the same, so this holds for every
/// durability.
fn lost_power(record: &Record, boot: &str) -> bool {
    !record.is_clean && (boot.is_empty() || record.boot != boot)
}

/// Compares a database of a version that kept no mark with the entries that this version made.
fn compare_without_mark(
    connection: &Connection,
    database: &Database,
    boot: &str,
) -> rusqlite::Result<Option<Break>> {
    let file = schema::state(connection, "file")?;
    let is_copy = file.is_some_and(|last| {
        let state = database.file_state();
        state.is_ok_and(|state| last != format!("{} {}", state.inode, state.created_ns))
    });
    let last_run = schema::state(connection, "run")?;
    let lost_power = last_run.is_some_and(|last| {
        let (last_boot, durability) = last.split_once(' ').unwrap_or_default();
        last_boot != boot && durability != Durability::Full.to_string()
    });
    Ok(match (is_copy, lost_power) {
        (true, _) => Some(Break::Copied),
        (false, true) => Some(Break::PowerLost),
        (false, false) => None,
    })
}

fn record_start(
    connection: &mut Connection,
    started: Progress,
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
