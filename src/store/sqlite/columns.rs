//! Conversion between column values and protocol values.

use rusqlite::Row;

use crate::protocol::{Epoch, Kind, RoomName};

pub(super) fn kind_to_column(kind: Kind) -> u8 {
    match kind {
        Kind::Message => 0,
        Kind::CustomEvent => 1,
    }
}

pub(super) fn kind_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Kind> {
    match row.get::<_, u8>(column)? {
        0 => Ok(Kind::Message),
        1 => Ok(Kind::CustomEvent),
        _ => Err(corrupt("kind")),
    }
}

pub(super) fn room_at(row: &Row<'_>, column: usize) -> rusqlite::Result<RoomName> {
    RoomName::from_store(row.get_ref(column)?.as_str()?).ok_or_else(|| corrupt("room"))
}

pub(super) fn epoch_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Epoch> {
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|()| corrupt("epoch"))
}

/// The error for a value that no version of wscast writes.
pub(super) fn corrupt(value: &str) -> rusqlite::Error {
    let reason = format!("it has an invalid {value}");
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, reason.into())
}
