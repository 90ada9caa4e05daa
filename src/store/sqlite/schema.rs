//! The database's tables, and the check that a file is a wscast database.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use crate::protocol::Epoch;

use super::error::DatabaseError;
use super::mark::RunId;

/// Marks a database as one of wscast (`wsca`), in the header field that SQLite reserves for this.
const APPLICATION_ID: u32 = 0x7773_6361;
/// The version of [`SCHEMA`]. A file with a higher number was written by a later version of wscast.
pub(super) const SCHEMA_VERSION: u32 = 2;

/// Row 0 of `rooms` is no room but the [`Progress`] of the database. It is in the page that publishing changes anyway, at
/// least while rooms are few.
///
/// `messages.seq` is the order of storing over all rooms, in which messages expire. `ids` holds the recent
/// publishes for deduplication.
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

/// The origin of a database file.
pub(super) enum Origin {
    /// This version of wscast or an earlier one, or nobody yet: the file is empty.
    Ours,
    /// A later version of wscast, with this schema version.
    Newer(u32),
    /// Another program.
    Foreign,
}

impl Origin {
    fn of(application_id: u32, schema_version: u32) -> Self {
        match (application_id, schema_version) {
            (APPLICATION_ID, 0..=SCHEMA_VERSION) => Self::Ours,
            (APPLICATION_ID, newer) => Self::Newer(newer),
            _ => Self::Foreign,
        }
    }

    /// Fails unless the file is one of wscast.
    pub(super) fn check(&self, path: &Path) -> Result<(), DatabaseError> {
        match self {
            Self::Ours => Ok(()),
            Self::Newer(version) => Err(DatabaseError::Newer(path.to_owned(), *version)),
            Self::Foreign => Err(DatabaseError::Foreign(path.to_owned())),
        }
    }

    /// Reads the origin from the file's header, without SQLite: SQLite may change a file merely by opening it.
    pub(super) fn read(mut file: &File) -> io::Result<Self> {
        const HEADER_BYTES: u64 = 100;
        let mut header = Vec::new();
        file.by_ref().take(HEADER_BYTES).read_to_end(&mut header)?;
        if header.is_empty() {
            return Ok(Self::Ours);
        }
        let number_at = |at: usize| {
            let bytes = header.get(at..at + 4)?.first_chunk().copied()?;
            Some(u32::from_be_bytes(bytes))
        };
        let (Some(version), Some(application_id)) = (number_at(60), number_at(68)) else {
            return Ok(Self::Foreign);
        };
        if !header.starts_with(b"SQLite format 3\0") {
            return Ok(Self::Foreign);
        }
        // A server that was killed before its first checkpoint leaves a file without tables; they are in the log.
        if (version, application_id) == (0, 0) && is_only_a_header(file) {
            return Ok(Self::Ours);
        }
        Ok(Self::of(application_id, version))
    }
}

fn is_only_a_header(file: &File) -> bool {
    const PAGE_BYTES: u64 = 4096;
    file.metadata().is_ok_and(|file| file.len() <= PAGE_BYTES)
}

/// Creates the tables if the database has none, and returns its origin.
pub(super) fn create(connection: &mut Connection) -> rusqlite::Result<Origin> {
    let transaction = start_transaction(connection)?;
    let tables: u32 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        set_state(&transaction, "epoch", &Epoch::random().to_string())?;
    }
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if (1..SCHEMA_VERSION).contains(&version) {
        // An earlier version would take row 0 of `rooms` for a room.
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    let number = |pragma| transaction.pragma_query_value(None, pragma, |row| row.get(0));
    let (application_id, version) = (number("application_id")?, number("user_version")?);
    transaction.commit()?;
    if application_id == APPLICATION_ID {
        // Writes the application id into the header, where the next start looks for it.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    Ok(Origin::of(application_id, version))
}

/// Starts a transaction that takes the write lock at once.
pub(super) fn start_transaction(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Reads a value of the `state` table.
pub(super) fn state(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    let select = "SELECT value FROM state WHERE key = ?1";
    connection
        .query_row(select, [key], |row| row.get(0))
        .optional()
}

/// Writes a value of the `state` table.
pub(super) fn set_state(
    transaction: &Transaction<'_>,
    key: &str,
    value: &str,
) -> rusqlite::Result<()> {
    let upsert = "INSERT INTO state (key, value) VALUES (?1, ?2)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    transaction.execute(upsert, [key, value]).map(drop)
}

/// The state that the database has reached, to be compared with the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// The run that wrote it last; `None` if it is a backup or of a version that kept no mark.
    pub(super) run: Option<RunId>,
    /// The number of its last batch.
    pub(super) batch: u64,
}

impl Progress {
    /// Returns `None` for a database of a version that kept no mark.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let select = "SELECT bytes, last_offset FROM rooms WHERE room = 0";
        let mut select = connection.prepare_cached(select)?;
        let progress = select.query_row([], |row| {
            Ok(Self {
                run: RunId::from_column(row.get(0)?),
                batch: row.get(1)?,
            })
        });
        progress.optional()
    }

    /// Writes this state over whatever state the database has.
    pub(super) fn write(self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let replace =
            "INSERT OR REPLACE INTO rooms (room, name, epoch, first_offset, last_offset, bytes)
            VALUES (0, '', '', 1, ?1, ?2)";
        let run = self.run.map_or(0, RunId::to_column);
        transaction.execute(replace, (self.batch, run)).map(drop)
    }
}

/// Counts a batch. Fails if the last batch is not the one before it, because another program has then replaced the
/// contents of the database.
pub(super) fn count_batch(transaction: &Transaction<'_>, batch: u64) -> rusqlite::Result<()> {
    let update = "UPDATE rooms SET last_offset = ?1 WHERE room = 0 AND last_offset = ?2";
    let mut update = transaction.prepare_cached(update)?;
    match update.execute([batch, batch - 1])? {
        1 => Ok(()),
        _ => Err(replaced()),
    }
}

/// The error of a database whose contents are not those that this server wrote.
pub(super) fn replaced() -> rusqlite::Error {
    let reason = "another program has replaced the contents of the database; restart the server";
    rusqlite::Error::ToSqlConversionFailure(reason.into())
}
