//! Expiry of old rows and the return of free pages to the file system.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::super::schema::start_transaction;
use crate::store::dedupe::DEDUPE_IDS_MAX;

/// A timestamp further in the future than this was written while the machine's clock was wrong.
const CLOCK_ERROR_MIN: Duration = Duration::from_secs(3600);
/// Free pages that stay in the file for reuse.
const FREE_PAGES_MIN: i64 = 1024;
/// Maximum number of free pages returned at once.
const VACUUM_PAGES_MAX: i64 = 1024;

/// Returns the Unix time in milliseconds that lies `age` before `now_ts`.
pub(super) fn before(now_ts: u64, age: Duration) -> u64 {
    now_ts.saturating_sub(age.as_millis() as u64)
}

/// Returns whether the oldest row of a table was stored at or before `ts`.
pub(super) fn oldest_is_until(
    connection: &Connection,
    table: &str,
    ts: u64,
) -> rusqlite::Result<bool> {
    Ok(oldest_ts(connection, table)?.is_some_and(|oldest| oldest <= ts))
}

fn oldest_ts(connection: &Connection, table: &str) -> rusqlite::Result<Option<u64>> {
    let select = format!("SELECT ts FROM {table} ORDER BY seq LIMIT 1");
    let mut select = connection.prepare_cached(&select)?;
    select.query_row([], |row| row.get(0)).optional()
}

/// Sets timestamps of the far future to `now_ts`. Otherwise neither these rows nor the rows after them would expire.
pub(super) fn correct_future_timestamps(
    connection: &Connection,
    table: &str,
    now_ts: u64,
) -> rusqlite::Result<()> {
    let ts_max = now_ts + CLOCK_ERROR_MIN.as_millis() as u64;
    if oldest_ts(connection, table)?.is_some_and(|oldest| oldest > ts_max) {
        let set = match table {
            "messages" => "expires = expires - ts + ?1, ts = ?1",
            _ => "ts = ?1",
        };
        let update = format!("UPDATE {table} SET {set} WHERE ts > ?2");
        connection.execute(&update, params![now_ts, ts_max])?;
    }
    Ok(())
}

/// Returns whether the ttl of a message ended at or before `ts`.
pub(super) fn has_expired(connection: &Connection, ts: u64) -> rusqlite::Result<bool> {
    let select = "SELECT 1 FROM messages INDEXED BY expiring WHERE expires <= ?1 LIMIT 1";
    let mut select = connection.prepare_cached(select)?;
    select.exists([ts])
}

/// Returns the newest id's row.
pub(super) fn last_id(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let mut select = connection.prepare_cached("SELECT max(seq) FROM ids")?;
    select.query_row([], |row| row.get(0))
}

/// Drops the deduplication ids up to a row, and those that are too many.
pub(super) fn drop_ids(connection: &mut Connection, until: Option<i64>) -> rusqlite::Result<()> {
    if until.is_none() && !has_too_many_ids(connection)? {
        return Ok(());
    }
    let transaction = start_transaction(connection)?;
    let delete =
        "DELETE FROM ids WHERE seq <= max(coalesce(?1, 0), (SELECT max(seq) FROM ids) - ?2)";
    transaction.execute(delete, params![until, DEDUPE_IDS_MAX as i64])?;
    transaction.commit()
}

/// Compares the number of ids with the limit. Their `seq` has no gaps, so no row has to be counted.
fn has_too_many_ids(connection: &Connection) -> rusqlite::Result<bool> {
    let select = "SELECT coalesce((SELECT max(seq) FROM ids) - (SELECT min(seq) FROM ids), 0)";
    let mut select = connection.prepare_cached(select)?;
    let count: i64 = select.query_row([], |row| row.get(0))?;
    Ok(count >= DEDUPE_IDS_MAX as i64)
}

/// Returns the bytes of free pages in the file.
pub(super) fn free_page_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    const PAGE_BYTES: u64 = 4096;
    let pages =
        connection.pragma_query_value(None, "freelist_count", |row| row.get::<_, u64>(0))?;
    Ok(pages * PAGE_BYTES)
}

/// Returns surplus free pages to the file system.
pub(super) fn release_free_pages(connection: &Connection) -> rusqlite::Result<()> {
    let pages = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (free, all) = (pages("freelist_count")?, pages("page_count")?);
    let surplus = free - FREE_PAGES_MIN.max(all / 8);
    if surplus > 0 {
        let pages = surplus.min(VACUUM_PAGES_MAX);
        let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        // Each step frees one page.
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
    }
    Ok(())
}
