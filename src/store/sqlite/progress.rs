//! The progress of a database: its run and last batch, kept in row 0 of the table `rooms`.

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::files::RunId;

/// The state that the database has reached, to be compared with the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DatabaseProgress {
    /// The run that wrote it last; `None` if it is a backup or of a version that kept no mark.
    pub(super) run: Option<RunId>,
    /// The number of its last batch.
    pub(super) batch: u64,
}

impl DatabaseProgress {
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

    /// Replaces the state of the database by this state.
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

/// Returns the error for a database whose contents this server did not write.
pub(super) fn replaced() -> rusqlite::Error {
    let reason = "another program has replaced the contents of the database; restart the server";
    rusqlite::Error::ToSqlConversionFailure(reason.into())
}
