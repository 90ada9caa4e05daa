//! Comparison of the database file, its log and the mark, and the reasons to start new epochs.

use std::fmt;
use std::io;

use rusqlite::Connection;

use crate::config::Durability;

use super::super::files::{Database, FileState, Record};
use super::super::progress::DatabaseProgress;
use super::super::schema;

/// A reason to start new epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
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
    /// The mark was changed after the server wrote it.
    MarkTouched,
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
            Self::MarkTouched => "the -mark file beside the database was put back or moved, or its owner or rights were set",
            Self::MarkPutBack => "the -mark file beside the database is older than the database",
            Self::PowerLost => "the machine went down while a server ran",
            Self::Copied => "this database is a copy of one that was in use",
        })
    }
}

impl Break {
    /// Returns whether the database may be a mixture of several moments, or damaged.
    pub(super) fn needs_integrity_check(self) -> bool {
        self != Self::PowerLost
    }
}

/// Compares the file, without its log, with the record of the last run.
pub(super) fn compare_file(
    database: &Database,
    record: &Record,
    boot: &str,
) -> io::Result<Option<Break>> {
    let alone = read_alone(database);
    // A new database has new epochs in any case.
    let state = database.file_state()?;
    if state.bytes == 0 {
        return Ok(None);
    }
    let found = FoundFile {
        state,
        progress: alone.ok(),
        has_foreign_journal: database.has_foreign_journal(),
    };
    Ok(found.compare(record, boot))
}

/// The database file without its log, before SQLite opens it.
#[derive(Clone, Copy, Debug)]
struct FoundFile {
    state: FileState,
    /// `None` if it cannot be read, `Some(None)` in a file of a version that kept no mark.
    progress: Option<Option<DatabaseProgress>>,
    has_foreign_journal: bool,
}

impl FoundFile {
    fn compare(&self, record: &Record, boot: &str) -> Option<Break> {
        let is_put_back = self
            .progress
            .is_some_and(|progress| is_put_back(progress, record));
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

/// Reads the progress of the file without its log.
pub(super) fn read_alone(database: &Database) -> rusqlite::Result<Option<DatabaseProgress>> {
    DatabaseProgress::read(&database.connect_to_file_alone()?)
}

/// Returns whether a file without its log is older than the last checkpoint, or of another run.
pub(super) fn is_put_back(alone: Option<DatabaseProgress>, record: &Record) -> bool {
    let is_current = alone.is_some_and(|progress| {
        let is_of_run = progress.run.is_some_and(|run| record.is_of(run));
        is_of_run && progress.batch >= record.copied_batch
    });
    record.copied_batch > 0 && !is_current
}

/// Compares the database, with its log, with the record of the last run. The database may have one batch more: a
/// server that is killed after it stored a batch has not acknowledged that batch.
pub(super) fn compare_progress(
    progress: Option<DatabaseProgress>,
    record: &Record,
    boot: &str,
) -> Option<Break> {
    let Some(DatabaseProgress { run, batch }) = progress else {
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

/// Returns whether the machine went down during the run. A disk that was set back looks the same, so this holds for
/// every durability.
fn lost_power(record: &Record, boot: &str) -> bool {
    !record.is_clean && (boot.is_empty() || record.boot != boot)
}

/// Compares a database of a version that kept no mark with the entries that this version made.
pub(super) fn compare_without_mark(
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
