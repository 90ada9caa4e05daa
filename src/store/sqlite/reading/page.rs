//! Reads one page of history, and finds the messages that are missing from it.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::IgnoredAny;

use crate::protocol::{Page, Position, Publication, RequestId, RoomName};
use crate::rooms::RoomNumbering;

use super::super::columns::{corrupt, epoch_at, kind_at};
use super::super::error::{is_damage, reason};
use super::damage::Unreadable;
use crate::store::api::HistoryQuery;

/// A page, and the part of it that could not be read.
#[derive(Debug)]
pub(super) struct ReadPage {
    pub(super) page: Page,
    /// The offsets that are missing or unreadable, and the reason in words for the operator.
    pub(super) damage: Option<(Unreadable, String)>,
}

/// Reads a page. Damage within it is a gap: the messages that can be read are in the page, which is not contiguous.
pub(super) fn read_page(
    connection: &mut Connection,
    numbering: &RoomNumbering,
    query: HistoryQuery,
) -> rusqlite::Result<ReadPage> {
    // A transaction, so that all statements read one snapshot.
    let snapshot = connection.transaction()?;
    let select = "SELECT room, epoch, first_offset, last_offset FROM rooms WHERE name = ?1";
    let range = snapshot
        .prepare_cached(select)?
        .query_row([numbering.name().as_str()], StoredRange::from_row)
        .optional()?;
    let Some(range) = range else {
        let page = Page::empty(numbering.name(), numbering.position(), query.since);
        return Ok(ReadPage { page, damage: None });
    };
    let StoredRange { room, first, last } = range;
    let since = match query.since {
        Some(since) => since,
        None => before_newest(&snapshot, room, last.offset, query)?,
    };
    let mut rows = Rows {
        room: numbering.name(),
        key: room,
        expected: since.max(first - 1).saturating_add(1),
        messages: Vec::new(),
        damage: None,
    };
    rows.read(&snapshot, since, last.offset, query)?;
    let starts_in_range = since >= first - 1 && since <= last.offset;
    Ok(ReadPage {
        page: Page {
            room: numbering.name().clone(),
            epoch: last.epoch,
            first,
            last: last.offset,
            contiguous: starts_in_range && rows.damage.is_none(),
            messages: rows.messages,
        },
        damage: rows.damage,
    })
}

/// The rows of a page, compared with the offsets that the page must have.
struct Rows<'a> {
    room: &'a RoomName,
    key: i64,
    /// The offset that the next row must have.
    expected: u64,
    messages: Vec<Arc<Publication>>,
    damage: Option<(Unreadable, String)>,
}

impl Rows<'_> {
    fn read(
        &mut self,
        snapshot: &Connection,
        since: u64,
        last: u64,
        query: HistoryQuery,
    ) -> rusqlite::Result<()> {
        // The offset is read from the index and again from the table, which may disagree in a damaged file.
        let mut select = snapshot.prepare_cached(
            "SELECT found.offset, ts, kind, id, sender, payload, messages.room, messages.offset
             FROM (SELECT seq, offset FROM messages WHERE room = ?1 AND offset > ?2 ORDER BY offset LIMIT ?3)
             AS found CROSS JOIN messages ON messages.seq = found.seq",
        )?;
        // SQLite has no unsigned integers. No offset exceeds the largest signed one.
        let after = i64::try_from(since).unwrap_or(i64::MAX);
        let mut rows = select.query(params![self.key, after, query.messages_max as i64])?;
        let (mut count, mut bytes) = (0, 0);
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(why) if is_damage(&why) => {
                    self.add_damage(self.expected, self.expected, reason(&why));
                    return Ok(());
                }
                Err(why) => return Err(why),
            };
            count += 1;
            match self.publication(row) {
                Ok(None) => {}
                Ok(Some(publication)) => {
                    bytes += publication.payload.len();
                    if bytes > query.bytes_max && !self.messages.is_empty() {
                        return Ok(());
                    }
                    self.expected = publication.offset + 1;
                    self.messages.push(Arc::new(publication));
                }
                Err(why) if is_damage(&why) => {
                    let damaged = self.expected;
                    self.add_damage(damaged, damaged, reason(&why));
                    self.expected = damaged.saturating_add(1);
                }
                Err(why) => return Err(why),
            }
        }
        if count < query.messages_max && self.expected <= last {
            self.add_damage(self.expected, last, "messages are missing".to_owned());
        }
        Ok(())
    }

    /// Converts a row; `None` if it is not one of this page.
    fn publication(&mut self, row: &Row<'_>) -> rusqlite::Result<Option<Publication>> {
        let offset = row.get::<_, u64>(0)?;
        if offset < self.expected {
            self.add_damage(offset, self.expected, "an offset is repeated".to_owned());
            return Ok(None);
        }
        if offset > self.expected {
            self.add_damage(self.expected, offset - 1, "messages are missing".to_owned());
            self.expected = offset;
        }
        if (row.get::<_, i64>(6)?, row.get::<_, u64>(7)?) != (self.key, offset) {
            return Err(corrupt("offset"));
        }
        let publication = publication(row, self.room)?;
        if serde_json::from_str::<IgnoredAny>(&publication.payload).is_err() {
            return Err(corrupt("payload"));
        }
        Ok(Some(publication))
    }

    fn add_damage(&mut self, first: u64, last: u64, reason: String) {
        let (first, reason) = match self.damage.take() {
            Some((known, reason)) => (known.first.min(first), reason),
            None => (first, reason),
        };
        let part = Unreadable {
            first,
            last,
            is_damaged: true,
        };
        self.damage = Some((part, reason));
    }
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
            return Ok(row.get::<_, u64>(0)?.min(last.saturating_sub(1)));
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
        let (first, offset) = (row.get(2)?, row.get(3)?);
        if first == 0 || first > offset + 1 {
            return Err(corrupt("room"));
        }
        let epoch = epoch_at(row, 1)?;
        Ok(Self {
            room: row.get(0)?,
            first,
            last: Position { epoch, offset },
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
