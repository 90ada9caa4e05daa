//! The database's tables, and the table `state` of single values.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use crate::protocol::Epoch;

use super::files::{APPLICATION_ID, Origin, SCHEMA_VERSION};

/// Row 0 of `rooms` holds the progress of the database instead of a room. While rooms are few, this row is in the
/// page that publishing changes anyway.
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

/// The additions of version 3. `expires` is the Unix time in milliseconds at which the ttl of a message ends; `gone` has
/// the ranges of offsets whose messages were removed although older ones are stored.
const SCHEMA_3: &str = "
    ALTER TABLE messages ADD COLUMN expires INTEGER;
    CREATE INDEX expiring ON messages (expires, room, offset) WHERE expires IS NOT NULL;
    CREATE TABLE gone (
        room INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (room, first)
    ) STRICT, WITHOUT ROWID;
";

/// Creates the tables if the database has none, and returns its origin.
pub(super) fn create(connection: &mut Connection) -> rusqlite::Result<Origin> {
    let transaction = start_transaction(connection)?;
    let tables: u32 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.execute_batch(SCHEMA_3)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        set_state(&transaction, "epoch", &Epoch::random().to_string())?;
    }
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if (1..SCHEMA_VERSION).contains(&version) {
        // Version 1 would take row 0 of `rooms` for a room; version 2 would take removed messages for damage.
        transaction.execute_batch(SCHEMA_3)?;
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
