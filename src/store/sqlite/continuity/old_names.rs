//! Room names that an earlier version stored as the clients spelled them, without a normal form.

use rusqlite::Transaction;

use crate::protocol::RoomName;

/// Renames each room to its normal form, so that clients find its history. A room whose new name is taken keeps the
/// old one: its messages expire there.
pub(super) fn normalize(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut select = transaction.prepare("SELECT name FROM rooms")?;
    let names = select.query_map([], |row| row.get::<_, String>(0))?;
    for old in names.collect::<rusqlite::Result<Vec<String>>>()? {
        let Some(new) = RoomName::parse(&old).ok().filter(|new| new.as_str() != old) else {
            continue;
        };
        let rename = "UPDATE OR IGNORE rooms SET name = ?2 WHERE name = ?1";
        if transaction.execute(rename, [&old, new.as_str()])? > 0 {
            let rename = "UPDATE ids SET room = ?2 WHERE room = ?1";
            transaction.execute(rename, [&old, new.as_str()])?;
        }
    }
    Ok(())
}
