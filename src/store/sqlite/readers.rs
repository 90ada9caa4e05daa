//! Reading history: a few connections that clients' threads take turns with.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::protocol::{Page, Position, Publication, RequestId, RoomName};
use crate::rooms::RoomNumbering;
use crate::threads::REPLY_TIMEOUT;

use super::super::api::HistoryQuery;
use super::file::Database;
use super::{corrupt, kind_from};

/// Connections for reading. A page takes well below a millisecond, so few serve many.
const READERS_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Readers {
    give_back: Sender<Connection>,
    free: Receiver<Connection>,
}

impl Readers {
    pub(super) fn connect(database: &Database) -> rusqlite::Result<Self> {
        let (give_back, free) = bounded(READERS_MAX);
        for _ in 0..READERS_MAX {
            let _has_room = give_back.try_send(database.connect_read_only()?);
        }
        Ok(Self { give_back, free })
    }

    /// A page of a room, as one moment saw it. Waits for its turn while many read; `None` if that did
    /// not come in time.
    pub(super) fn page(
        &self,
        numbering: &RoomNumbering,
        query: HistoryQuery,
    ) -> Option<rusqlite::Result<Page>> {
        let mut connection = self.free.recv_timeout(REPLY_TIMEOUT).ok()?;
        let page = page(&mut connection, numbering, query);
        let _has_room = self.give_back.try_send(connection);
        Some(page)
    }
}

fn page(
    connection: &mut Connection,
    numbering: &RoomNumbering,
    query: HistoryQuery,
) -> rusqlite::Result<Page> {
    // Both statements see the same moment.
    let moment = connection.transaction()?;
    let bounds = "SELECT room, epoch, first_offset, last_offset FROM rooms WHERE name = ?1";
    let bounds = moment
        .prepare_cached(bounds)?
        .query_row([numbering.name().as_str()], Bounds::from_row)
        .optional()?;
    let Some(Bounds { room, first, last }) = bounds else {
        return Ok(Page::empty(
            numbering.name(),
            numbering.position(),
            query.since,
        ));
    };
    let since = match query.since {
        Some(since) => since,
        None => before_newest(&moment, room, last.offset, query)?,
    };
    let mut statement = moment.prepare_cached(
        "SELECT offset, ts, kind, id, sender, payload FROM messages
         WHERE room = ?1 AND offset > ?2 ORDER BY offset LIMIT ?3",
    )?;
    // SQLite has no unsigned numbers; no offset is larger than the largest it has.
    let (after, limit) = (i64::try_from(since).unwrap_or(i64::MAX), query.messages_max);
    let mut rows = statement.query(params![room, after, limit as i64])?;
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

/// The offset after which the newest messages are no more than a page holds.
fn before_newest(
    moment: &Connection,
    room: i64,
    last: u64,
    query: HistoryQuery,
) -> rusqlite::Result<u64> {
    let mut statement = moment.prepare_cached(
        "SELECT offset, octet_length(payload) FROM messages
         WHERE room = ?1 ORDER BY offset DESC LIMIT ?2",
    )?;
    let mut rows = statement.query(params![room, query.messages_max as i64])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        bytes += row.get::<_, u64>(1)?;
        if bytes > query.bytes_max as u64 {
            return Ok(row.get::<_, u64>(0)?.min(last - 1));
        }
    }
    Ok(last.saturating_sub(query.messages_max as u64))
}

struct Bounds {
    room: i64,
    first: u64,
    last: Position,
}

impl Bounds {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let epoch: String = row.get(1)?;
        Ok(Self {
            room: row.get(0)?,
            first: row.get(2)?,
            last: Position {
                epoch: epoch.parse().map_err(|()| corrupt("epoch"))?,
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
        kind: kind_from(row.get(2)?)?,
        id: id.map_err(|_| corrupt("id"))?,
        from: row.get_ref(4)?.as_str()?.into(),
        payload: row.get_ref(5)?.as_str()?.into(),
    })
}
