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
use crate::store::publish::unix_milliseconds;

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
    let now_ts = unix_milliseconds();
    let oldest = first_live(&snapshot, room, first, last.offset, now_ts)?;
    let since = match query.since {
        Some(since) => since,
        None => before_newest(&snapshot, room, oldest, query, now_ts)?,
    };
    let mut rows = Rows {
        room: numbering.name(),
        key: room,
        now_ts,
        expected: since.max(first - 1).saturating_add(1),
        messages: Vec::new(),
        damage: None,
    };
    let read = rows.read(&snapshot, since, last.offset, query)?;
    // The newest messages have a gap if the last ones are gone.
    let reached = query.since.map_or(last.offset, |_| read);
    let mut contiguous =
        rows.damage.is_none() && Page::has_all(&rows.messages, query.since, reached);
    if let Some(until) = query.until {
        contiguous &= since >= first - 1 && !has_gone(&snapshot, room, since, until, now_ts)?;
    }
    Ok(ReadPage {
        page: Page {
            room: numbering.name().clone(),
            epoch: last.epoch,
            first: oldest,
            last: last.offset,
            contiguous,
            messages: rows.messages,
        },
        damage: rows.damage,
    })
}

/// Returns the oldest offset whose message is not expired. The expired messages before it are few, because they are
/// removed about once a second.
fn first_live(
    snapshot: &Connection,
    room: i64,
    first: u64,
    last: u64,
    now_ts: u64,
) -> rusqlite::Result<u64> {
    if !has_expired(snapshot, room, first - 1, last, now_ts)? {
        return Ok(first);
    }
    let select = "SELECT offset FROM messages
        WHERE room = ?1 AND (expires IS NULL OR expires > ?2) ORDER BY offset LIMIT 1";
    let live = snapshot
        .prepare_cached(select)?
        .query_row(params![room, now_ts], |row| row.get(0))
        .optional()?;
    Ok(live.unwrap_or(last + 1))
}

/// Returns whether messages after `since` and up to `until` have expired and are not removed yet.
fn has_expired(
    snapshot: &Connection,
    room: i64,
    since: u64,
    until: u64,
    now_ts: u64,
) -> rusqlite::Result<bool> {
    let select = "SELECT 1 FROM messages INDEXED BY expiring
        WHERE expires <= ?1 AND room = ?2 AND offset > ?3 AND offset <= ?4 LIMIT 1";
    let [since, until] = [since, until].map(|offset| i64::try_from(offset).unwrap_or(i64::MAX));
    snapshot
        .prepare_cached(select)?
        .exists(params![now_ts, room, since, until])
}

/// Returns whether messages after `since` and up to `until` were removed on purpose, or have expired.
fn has_gone(
    snapshot: &Connection,
    room: i64,
    since: u64,
    until: u64,
    now_ts: u64,
) -> rusqlite::Result<bool> {
    let gone = last_gone(snapshot, room, until)?;
    Ok(gone.is_some_and(|last| last > since) || has_expired(snapshot, room, since, until, now_ts)?)
}

/// Returns the end of the last range of gone offsets that starts at or before an offset.
fn last_gone(snapshot: &Connection, room: i64, offset: u64) -> rusqlite::Result<Option<u64>> {
    let select =
        "SELECT last FROM gone WHERE room = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1";
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    snapshot
        .prepare_cached(select)?
        .query_row(params![room, offset], |row| row.get(0))
        .optional()
}

/// The rows of a page, compared with the offsets that the page must have.
struct Rows<'a> {
    room: &'a RoomName,
    key: i64,
    /// The time at which messages count as expired.
    now_ts: u64,
    /// The offset that the next row must have.
    expected: u64,
    messages: Vec<Arc<Publication>>,
    damage: Option<(Unreadable, String)>,
}

impl Rows<'_> {
    /// Reads the rows after `since` and returns the offset up to which the page reaches.
    fn read(
        &mut self,
        snapshot: &Connection,
        since: u64,
        last: u64,
        query: HistoryQuery,
    ) -> rusqlite::Result<u64> {
        // The offset is read from the index and again from the table, which may disagree in a damaged file.
        let mut select = snapshot.prepare_cached(
            "SELECT found.offset, ts, kind, id, sender, payload, messages.room, messages.offset, expires
             FROM (SELECT seq, offset FROM messages WHERE room = ?1 AND offset > ?2 ORDER BY offset LIMIT -1)
             AS found CROSS JOIN messages ON messages.seq = found.seq",
        )?;
        // SQLite has no unsigned integers. No offset exceeds the largest signed one.
        let after = i64::try_from(since).unwrap_or(i64::MAX);
        let mut rows = select.query(params![self.key, after])?;
        let mut bytes = 0;
        while self.messages.len() < query.messages_max {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => {
                    if self.expected <= last {
                        self.add_missing(snapshot, last)?;
                    }
                    return Ok(last);
                }
                Err(why) if is_damage(&why) => {
                    self.add_damage(self.expected, self.expected, reason(&why));
                    return Ok(self.reached(last));
                }
                Err(why) => return Err(why),
            };
            match self.publication(snapshot, row) {
                Ok(None) => {}
                Ok(Some(publication)) => {
                    bytes += publication.payload.len();
                    if bytes > query.bytes_max && !self.messages.is_empty() {
                        return Ok(self.reached(last));
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
        Ok(self.reached(last))
    }

    /// The offset that a page reaches that is cut after its last message.
    fn reached(&self, last: u64) -> u64 {
        self.messages.last().map_or(last, |message| message.offset)
    }

    /// Handles the expected offsets up to this one, of which no message is stored. They are damage unless their
    /// messages were removed on purpose.
    fn add_missing(&mut self, snapshot: &Connection, until: u64) -> rusqlite::Result<()> {
        let gone = last_gone(snapshot, self.key, self.expected)?;
        if gone.is_none_or(|last| last < until) {
            self.add_damage(self.expected, until, "messages are missing".to_owned());
        }
        Ok(())
    }

    /// Converts a row; `None` if it is not one of this page.
    fn publication(
        &mut self,
        snapshot: &Connection,
        row: &Row<'_>,
    ) -> rusqlite::Result<Option<Publication>> {
        let offset = row.get::<_, u64>(0)?;
        if offset < self.expected {
            self.add_damage(offset, self.expected, "an offset is repeated".to_owned());
            return Ok(None);
        }
        if offset > self.expected {
            self.add_missing(snapshot, offset - 1)?;
            self.expected = offset;
        }
        if (row.get::<_, i64>(6)?, row.get::<_, u64>(7)?) != (self.key, offset) {
            return Err(corrupt("offset"));
        }
        if row
            .get::<_, Option<u64>>(8)?
            .is_some_and(|at| at <= self.now_ts)
        {
            self.expected = offset + 1;
            return Ok(None);
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

/// Returns the offset before the newest messages that fit in a page; that before `first` if all of them fit.
fn before_newest(
    snapshot: &Connection,
    room: i64,
    first: u64,
    query: HistoryQuery,
    now_ts: u64,
) -> rusqlite::Result<u64> {
    let mut select = snapshot.prepare_cached(
        "SELECT offset, octet_length(payload) FROM messages
         WHERE room = ?1 AND (expires IS NULL OR expires > ?2) ORDER BY offset DESC",
    )?;
    let mut rows = select.query(params![room, now_ts])?;
    let (mut start, mut count, mut bytes) = (None, 0, 0);
    while let Some(row) = rows.next()? {
        bytes += row.get::<_, u64>(1)?;
        if count == query.messages_max || (bytes > query.bytes_max as u64 && count > 0) {
            return Ok(start.unwrap_or(first) - 1);
        }
        (start, count) = (Some(row.get::<_, u64>(0)?), count + 1);
    }
    Ok(first - 1)
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
