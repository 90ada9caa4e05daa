//! Revoked users: rows of the table `state`, which earlier versions ignore.

use std::time::Duration;

use rusqlite::{Connection, params};

use crate::auth::{Revocations, oldest_kept, unix_time};
use crate::store::sqlite::schema::start_transaction;

use super::Writer;

/// The start of the keys of revoked users.
const KEY_PREFIX: &str = "revoked:";
/// The first key after those.
const KEYS_END: &str = "revoked;";

impl Writer {
    /// Adds the revocations of earlier runs.
    pub(in crate::store::sqlite) fn load_revocations(
        &self,
        revocations: &Revocations,
    ) -> rusqlite::Result<()> {
        let select = "SELECT key, value FROM state WHERE key >= ?1 AND key < ?2 AND value >= ?3";
        let oldest = milliseconds(oldest_kept(unix_time()));
        let mut select = self.connection.prepare(select)?;
        let mut rows = select.query(params![KEY_PREFIX, KEYS_END, oldest])?;
        while let Some(row) = rows.next()? {
            let key: String = row.get(0)?;
            let at = Duration::from_millis(row.get(1)?);
            let user = key.strip_prefix(KEY_PREFIX).unwrap_or_default();
            if revocations.add(user, at).is_err() {
                log::warn!("the database has more revocations than are kept");
                break;
            }
        }
        Ok(())
    }

    /// Stores the revocation of a user so that it survives a power loss, and deletes those that are no longer kept.
    pub(in crate::store::sqlite) fn revoke(
        &mut self,
        user: &str,
        at: Duration,
    ) -> rusqlite::Result<()> {
        let synchronous: i64 = self
            .connection
            .pragma_query_value(None, "synchronous", |row| row.get(0))?;
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        let stored = store(&mut self.connection, user, at);
        let restored = self
            .connection
            .pragma_update(None, "synchronous", synchronous);
        stored.and(restored)
    }
}

fn store(connection: &mut Connection, user: &str, at: Duration) -> rusqlite::Result<()> {
    let transaction = start_transaction(connection)?;
    let upsert = "INSERT INTO state (key, value) VALUES (?1, ?2)
        ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)";
    transaction.execute(
        upsert,
        params![format!("{KEY_PREFIX}{user}"), milliseconds(at)],
    )?;
    let delete = "DELETE FROM state WHERE key >= ?1 AND key < ?2 AND value < ?3";
    let oldest = milliseconds(oldest_kept(unix_time()));
    transaction.execute(delete, params![KEY_PREFIX, KEYS_END, oldest])?;
    transaction.commit()
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
