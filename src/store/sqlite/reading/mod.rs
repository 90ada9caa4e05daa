//! Reads pages of history, on clients' threads, through a few read-only connections, and keeps the parts that cannot be
//! read.

mod damage;
mod page;

use rusqlite::Connection;

use crate::protocol::{PAGE_BYTES_MAX, PAGE_MESSAGES_MAX, Page};
use crate::rooms::RoomNumbering;
use crate::store::api::HistoryQuery;
use crate::store::directory::Directory;
use crate::store::error::StoreError;
use crate::store::health::Health;
use crate::store::pool::Pool;

use self::damage::{Unreadable, UnreadableParts};
use self::page::{ReadPage, read_page};
use super::error::{is_damage, reason};
use super::files::Database;

/// Number of read-only connections. A page takes well below a millisecond, so few connections serve many clients.
const CONNECTIONS: usize = 4;

/// The connections that read history, and the parts of it that they could not read.
#[derive(Debug)]
pub(super) struct HistoryReader {
    connections: Pool<Connection>,
    unreadable: UnreadableParts,
    health: Health,
}

impl HistoryReader {
    pub(super) fn connect(database: &Database) -> rusqlite::Result<Self> {
        let connections: rusqlite::Result<Vec<_>> = (0..CONNECTIONS)
            .map(|_| database.connect_read_only())
            .collect();
        Ok(Self {
            connections: Pool::new(connections?),
            unreadable: UnreadableParts::default(),
            health: Health::new(
                "some messages cannot be read and are missing from history",
                "all of history can be read again",
            ),
        })
    }

    /// Reads a page of a room. Damage is a gap in it.
    pub(super) fn page(
        &self,
        numbering: &RoomNumbering,
        query: HistoryQuery,
    ) -> Result<Page, StoreError> {
        match self.read(numbering, query) {
            Some(Ok(read)) => Ok(self.check_page(read, query)),
            Some(Err(why)) => self.page_failed(numbering, query, &why),
            None => Err(StoreError::Unavailable),
        }
    }

    /// Returns an error while a part of history cannot be read.
    pub(super) fn health(&self) -> Result<(), String> {
        self.health.check()
    }

    /// Reads a page. Returns `None` if no connection becomes free in time.
    fn read(
        &self,
        numbering: &RoomNumbering,
        query: HistoryQuery,
    ) -> Option<rusqlite::Result<ReadPage>> {
        self.connections
            .with(|connection| read_page(connection, numbering, query))
    }

    /// Records the unreadable part of a page. A page that leads to a known unreadable part is not contiguous.
    fn check_page(&self, read: ReadPage, query: HistoryQuery) -> Page {
        let ReadPage { mut page, damage } = read;
        if let Some((part, why)) = damage {
            self.unreadable.add(&page.room, part);
            let (room, first) = (&page.room, part.first);
            self.health
                .failed(format!("{room} at offset {first}: {why}"));
        }
        if let (Some(since), Some(until)) = (query.since, query.until) {
            page.contiguous &= !self.unreadable.are_between(&page.room, since, until);
        }
        page
    }

    /// Records a page that could not be read at all.
    fn page_failed(
        &self,
        numbering: &RoomNumbering,
        query: HistoryQuery,
        why: &rusqlite::Error,
    ) -> Result<Page, StoreError> {
        let room = numbering.name();
        let offset = query.since.unwrap_or(0).saturating_add(1);
        let is_damaged = is_damage(why);
        self.unreadable
            .add(room, Unreadable::at(offset, is_damaged));
        self.health.failed(format!(
            "{room} after offset {}: {}",
            offset - 1,
            reason(why)
        ));
        if !is_damaged {
            return Err(StoreError::Unavailable);
        }
        Ok(Page {
            contiguous: false,
            ..Page::empty(room, numbering.position(), query.since)
        })
    }

    /// Reads a part of history again that could not be read.
    pub(super) fn read_again(&self, directory: &Directory) {
        let Some((room, part)) = self.unreadable.next() else {
            return self.health.succeeded();
        };
        let Some(numbering) = directory.find(&room) else {
            return self.unreadable.remove_until(&room, u64::MAX);
        };
        let query = HistoryQuery {
            since: Some(part.first.saturating_sub(1)),
            messages_max: PAGE_MESSAGES_MAX,
            bytes_max: PAGE_BYTES_MAX,
            until: None,
        };
        let Some(Ok(ReadPage { page, damage })) = self.read(&numbering, query) else {
            return;
        };
        let readable_until = match (damage, page.messages.last()) {
            (Some((found, _)), _) => found.first - 1,
            (None, Some(last)) => last.offset,
            (None, None) => u64::MAX,
        };
        self.unreadable.remove_until(&room, readable_until);
        if self.unreadable.are_none() {
            self.health.succeeded();
        }
    }
}
