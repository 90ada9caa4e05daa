//! The reasons why a database cannot be opened.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Error, ErrorCode, ffi};

use crate::os_error;

/// The reason why a database cannot be opened; its `Display` is one line for the operator.
#[derive(Debug)]
pub(in crate::store) enum DatabaseError {
    /// The file cannot be created, read or written.
    File(PathBuf, io::Error),
    /// The mark beside the database cannot be created, read or written.
    Mark(PathBuf, io::Error),
    /// The file that has the name of the mark is none.
    NotAMark(PathBuf),
    /// The path names a directory, pipe or device.
    NotAFile(PathBuf),
    /// The file belongs to another program.
    Foreign(PathBuf),
    /// The file was written by a later version of wscast.
    Newer {
        path: PathBuf,
        /// The schema version of the file.
        schema: u32,
        /// The latest schema version that is supported.
        schema_max: u32,
    },
    /// Another server has locked the file.
    InUse(PathBuf),
    /// The file does not have the structure that SQLite gave it, or has values that wscast does not write.
    Damaged(PathBuf, String),
    /// SQLite reported an error.
    Sqlite(PathBuf, rusqlite::Error),
    /// The checkpoint thread cannot be started.
    Thread(io::Error),
}

impl DatabaseError {
    /// Returns the error for a database that SQLite cannot open or load.
    pub(super) fn sqlite(path: &Path, why: Error) -> Self {
        let is_out_of_reach = why.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
        if is_damage(&why) && !is_out_of_reach {
            Self::Damaged(path.to_owned(), reason(&why))
        } else {
            Self::Sqlite(path.to_owned(), why)
        }
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, why) => {
                write!(f, "--db {path:?}: {}", os_error::explain(path, why))
            }
            Self::Mark(path, why) => write!(
                f,
                "--db: the file {path:?} beside the database: {}",
                os_error::explain(path, why)
            ),
            Self::NotAMark(path) => write!(
                f,
                "--db: {path:?} is not a file of wscast (it was left as it is), but the server needs that name for its \
                 mark beside the database; move it away, or name another database"
            ),
            Self::NotAFile(path) => write!(f, "--db {path:?}: not a regular file; name another"),
            Self::Foreign(path) => write!(
                f,
                "--db {path:?}: not a wscast database; name another file (this one was left as it is)"
            ),
            Self::Newer {
                path,
                schema,
                schema_max,
            } => write!(
                f,
                "--db {path:?}: written by a later version of wscast (schema {schema}; this version \
                 supports up to {schema_max}); use that version (the file was left as it is)"
            ),
            Self::InUse(path) => write!(
                f,
                "--db {path:?}: another server uses it; stop that server or name another file"
            ),
            Self::Damaged(path, why) => write!(
                f,
                "--db {path:?}: the database is damaged ({why}); put a backup in its place, or move it away and \
                 recover what is left with `sqlite3 FILE .recover`"
            ),
            Self::Sqlite(path, why) => {
                write!(f, "--db {path:?}: {why}")?;
                // SQLite creates two more files, and does not name the directory where it cannot.
                let is_refused = matches!(
                    why.sqlite_error_code(),
                    Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied)
                );
                match os_error::explain_directory(path).filter(|_| is_refused) {
                    Some(reason) => write!(f, "; {reason}"),
                    None => Ok(()),
                }
            }
            Self::Thread(why) => write!(f, "cannot start a thread: {why}"),
        }
    }
}

impl std::error::Error for DatabaseError {}

/// Returns an error in words for the operator.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::FromSqlConversionFailure(_, _, why) => why.to_string(),
        _ => error.to_string(),
    }
}

/// Returns whether an error means that the file is damaged, rather than busy, full or out of reach.
pub(super) fn is_damage(error: &Error) -> bool {
    match error {
        Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::SystemIoFailure
        ),
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..) => true,
        _ => false,
    }
}

/// Returns whether the transaction that failed with this error may be stored nevertheless: SQLite has written it and
/// does not know whether it is on the disk. A server that is killed then finds it in the log.
pub(super) fn is_outcome_unknown(error: &Error) -> bool {
    let code = error.sqlite_error().map(|failure| failure.extended_code);
    matches!(
        code,
        Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)
    )
}
