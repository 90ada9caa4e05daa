//! Reads pages of history, on clients' threads, through a few read-only connections.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::protocol::{Page, Position, Publication, RequestId, RoomName};
use crate::rooms::RoomNumbering;

use super::super::api::HistoryQuery;
use super::super::pool::Pool;
use super::columns::{corrupt, epoch_at, kind_at};
use super::database::Database;

/// Number of read-only connections. A page takes well below a millisecond, so few connections serve many clients.
const CONNECTIONS: usize = 4;

/// The connections that read history.
#[derive(Debug)]
pub(super) struct HistoryReader(Pool<Connection>);

impl HistoryReader {
    pub(super) fn connect(database: &Database) -> rusqlite::Result<Self> {
        let connections: rusqlite::Result<Vec<_>> = (0..CONNECTIONS)
            .map(|_| database.connect_read_only())
            .collect();
        Ok(Self(Pool::new(connections?)))
    }

    /// Reads a page of a room. Returns `None` if no connection becomes free in time.
    pub(super) fn page(
        &self,
        numbering: &RoomNumbering,
        query: HistoryQuery,
    ) -> Option<rusqlite::Result<Page>> {
        self.0
            .with(|connection| read_page(connection, numbering, query))
    }
}

fn read_page(
    connection: &mut Connection,
    numbering: &RoomNumbering,
    query: HistoryQuery,
) -> rusqlite::Result<Page> {
    // A transaction, so that all statements read one snapshot.
    let snapshot = connection.transaction()?;
    let select = "SELECT room, epoch, first_offset, last_offset FROM rooms WHERE name = ?1";
    let range = snapshot
        .prepare_cached(select)?
        .query_row([numbering.name().as_str()], StoredRange::from_row)
        .optional()?;
    let Some(StoredRange { room, first, last }) = range else {
        return Ok(Page::empty(
            numbering.name(),
            numbering.position(),
            query.since,
        ));
    };
    let since = match query.since {
        Some(since) => since,
        None => before_newest(&snapshot, room, last.offset, query)?,
    };
    let mut select = snapshot.prepare_cached(
        "SELECT offset, ts, kind, id, sender, payload FROM messages
         WHERE room = ?1 AND offset > ?2 ORDER BY offset LIMIT ?3",
    )?;
    // SQLite has no unsigned integers. No offset exceeds the largest signed one.
    let after = i64::try_from(since).unwrap_or(i64::MAX);
    let mut rows = select.query(params![room, after, query.messages_max as i64])?;
    let (mut messages, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let publication = publication(row, numbering.name())?;
        bytes += publication.payload.len();
        if bytes > query.bytes_max && !messages.is_empty() {
            break;
        }
        messages.push(Arc::new(publication));
    }
    Ok(Page {
        room: numbering.name().clone(),
        epoch: last.epoch,
        first,
        last: last.offset,
        contiguous: since >= first - 1 && since <= last.offset,
        messages,
    })
}

/// Returns the offset before the newest messages that fit in a page.
fn before_newest(
    snapshot: &Connection,
    room: i64,
    last: u64,
    query: HistoryQuery,
) -> rusqlite::Result<u64> {
    let mut select = snapshot.prepare_cached(
        "SELECT offset, octet_length(payload) FROM messages
         WHERE room = ?1 ORDER BY offset DESC LIMIT ?2",
    )?;
    let mut rows = select.query(params![room, query.messages_max as i64])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        bytes += row.get::<_, u64>(1)?;
        if bytes > query.bytes_max as u64 {
            return Ok(row.get::<_, u64>(0)?.min(last - 1));
        }
    }
    Ok(last.saturating_sub(query.messages_max as u64))
}

/// A room's row and the offsets in it.
struct StoredRange {
    room: i64,
    first: u64,
    last: Position,
}

impl StoredRange {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            room: row.get(0)?,
            first: row.get(2)?,
            last: Position {
                epoch: epoch_at(row, 1)?,
                offset: row.get(3)?,
            },
        })
    }
}

fn publication(row: &Row<'_>, room: &RoomName) -> rusqlite::Result<Publication> {
    let id = row.get_ref(3)?.as_str_or_null()?;
    let id = id.map(RequestId::parse).transpose();
    Ok(Publication {
        room: room.clone(),
        offset: row.get(0)?,
        ts: row.get(1)?,
        kind: kind_at(row, 2)?,
        id: id.map_err(|_| corrupt("id"))?,
        from: row.get_ref(4)?.as_str()?.into(),
        payload: row.get_ref(5)?.as_str()?.into(),
    })
}
