//! The recent messages of one room, in the order of their offsets. Some in between may be gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::config::RoomHistory;
use crate::protocol::{Page, Publication, Ttl};
use crate::rooms::RoomNumbering;
use crate::store::api::HistoryQuery;

/// The recent messages of one room.
#[derive(Debug)]
pub(super) struct Ring {
    limits: RoomHistory,
    last_offset: u64,
    messages: VecDeque<StoredMessage>,
    bytes: usize,
    /// No ttl of these messages ends earlier; `None` if none has a ttl.
    next_expiry: Option<Instant>,
}

#[derive(Debug)]
struct StoredMessage {
    publication: Arc<Publication>,
    at: Instant,
    ttl: Option<Ttl>,
}

/// The amount of messages that were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl StoredMessage {
    fn offset(&self) -> u64 {
        self.publication.offset
    }

    fn bytes(&self) -> usize {
        self.publication.payload.len()
    }

    fn expiry(&self) -> Option<Instant> {
        Some(self.at + self.ttl?.duration())
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.expiry().is_some_and(|expiry| expiry <= now)
    }
}

impl Removed {
    fn add(&mut self, message: &StoredMessage) {
        self.messages += 1;
        self.bytes += message.bytes();
    }
}

impl Ring {
    /// Creates a ring without messages.
    pub(super) fn new(limits: RoomHistory) -> Self {
        Self {
            limits,
            last_offset: 0,
            messages: VecDeque::new(),
            bytes: 0,
            next_expiry: None,
        }
    }

    pub(super) fn limits(&self) -> RoomHistory {
        self.limits
    }

    /// Sets other limits, which the next [`shrink`](Self::shrink) applies.
    pub(super) fn set_limits(&mut self, limits: RoomHistory) {
        self.limits = limits;
    }

    /// Drops the oldest messages until the limits are met.
    pub(super) fn shrink(&mut self) -> Removed {
        let mut removed = Removed::default();
        while self.messages.len() > self.limits.messages || self.bytes > self.limits.bytes {
            let oldest = self.drop_oldest();
            removed.messages += oldest.messages;
            removed.bytes += oldest.bytes;
        }
        removed
    }

    /// Returns the offset of the next message.
    pub(super) fn next_offset(&self) -> u64 {
        self.last_offset + 1
    }

    /// Adds a message, which has the next offset.
    pub(super) fn push(&mut self, publication: Arc<Publication>, at: Instant, ttl: Option<Ttl>) {
        self.last_offset = publication.offset;
        let message = StoredMessage {
            publication,
            at,
            ttl,
        };
        self.bytes += message.bytes();
        if let Some(expiry) = message.expiry() {
            let next = self.next_expiry.get_or_insert(expiry);
            *next = expiry.min(*next);
        }
        self.messages.push_back(message);
    }

    /// Number of messages.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Bytes of payload.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest message was stored; `None` without messages.
    pub(super) fn oldest_at(&self) -> Option<Instant> {
        self.messages.front().map(|message| message.at)
    }

    /// When the last message was stored; `None` without messages.
    pub(super) fn last_at(&self) -> Option<Instant> {
        self.messages.back().map(|message| message.at)
    }

    /// The earliest time at which a ttl may end.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.next_expiry
    }

    /// Reads a page. A message whose ttl has ended is not in it, even if it is not removed yet.
    pub(super) fn page(
        &self,
        numbering: &RoomNumbering,
        query: HistoryQuery,
        now: Instant,
    ) -> Page {
        let has_expired = self.next_expiry.is_some_and(|expiry| expiry <= now);
        let is_live = |message: &&StoredMessage| !has_expired || !message.is_expired(now);
        let start = match query.since {
            Some(since) => self.index_after(since),
            None => self.newest(query, is_live),
        };
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let mut is_cut = false;
        for message in self.messages.range(start..).filter(is_live) {
            bytes += message.bytes();
            is_cut = bytes > query.bytes_max && !messages.is_empty();
            if is_cut {
                break;
            }
            messages.push(Arc::clone(&message.publication));
            is_cut = messages.len() == query.messages_max && query.since.is_some();
            if is_cut {
                break;
            }
        }
        let last_read = messages.last().filter(|_| is_cut);
        let reached = last_read.map_or(self.last_offset, |message| message.offset);
        let mut contiguous = Page::has_all(&messages, query.since, reached);
        if let (Some(since), Some(until)) = (query.since, query.until) {
            let range = self.index_after(since)..self.index_after(until.max(since));
            let count = match has_expired {
                true => self.messages.range(range).filter(is_live).count(),
                false => range.len(),
            };
            contiguous &= count as u64 == until.saturating_sub(since);
        }
        let first = self.messages.iter().find(is_live);
        Page {
            room: numbering.name().clone(),
            epoch: numbering.epoch(),
            first: first.map_or(self.last_offset + 1, StoredMessage::offset),
            last: self.last_offset,
            contiguous,
            messages,
        }
    }

    /// Returns the index of the first message after an offset.
    fn index_after(&self, offset: u64) -> usize {
        self.messages
            .partition_point(|message| message.offset() <= offset)
    }

    /// Returns the index of the first of the newest messages that fit in a page.
    fn newest(&self, query: HistoryQuery, is_live: impl Fn(&&StoredMessage) -> bool) -> usize {
        let (mut start, mut count, mut bytes) = (self.messages.len(), 0, 0);
        for (index, message) in self.messages.iter().enumerate().rev() {
            if !is_live(&message) {
                continue;
            }
            bytes += message.bytes();
            if count == query.messages_max || (bytes > query.bytes_max && count > 0) {
                break;
            }
            (start, count) = (index, count + 1);
        }
        start
    }

    /// Drops the oldest message, if there is one.
    pub(super) fn drop_oldest(&mut self) -> Removed {
        let mut removed = Removed::default();
        if let Some(oldest) = self.messages.pop_front() {
            removed.add(&oldest);
        }
        self.account_for(removed);
        removed
    }

    /// Deletes the oldest messages up to an offset, and at most `messages_max` of them.
    pub(super) fn delete_until(&mut self, offset: u64, messages_max: usize) -> Removed {
        let count = self.index_after(offset).min(messages_max);
        let mut removed = Removed::default();
        for message in self.messages.drain(..count) {
            removed.add(&message);
        }
        self.account_for(removed);
        removed
    }

    /// Deletes the message at an offset. Removes nothing if there is none, or if its ttl has ended.
    pub(super) fn delete(&mut self, offset: u64, now: Instant) -> Removed {
        let mut removed = Removed::default();
        let index = self.index_after(offset).checked_sub(1);
        let found = index.filter(|index| {
            let message = &self.messages[*index];
            message.offset() == offset && !message.is_expired(now)
        });
        if let Some(message) = found.and_then(|index| self.messages.remove(index)) {
            removed.add(&message);
        }
        self.account_for(removed);
        removed
    }

    /// Removes the messages whose ttl has ended.
    pub(super) fn drop_expired(&mut self, now: Instant) -> Removed {
        let mut removed = Removed::default();
        let mut next_expiry = None::<Instant>;
        self.messages.retain(|message| {
            let Some(expiry) = message.expiry() else {
                return true;
            };
            if expiry <= now {
                removed.add(message);
                return false;
            }
            next_expiry = Some(next_expiry.map_or(expiry, |next| next.min(expiry)));
            true
        });
        self.next_expiry = next_expiry;
        self.account_for(removed);
        removed
    }

    fn account_for(&mut self, removed: Removed) {
        self.bytes -= removed.bytes;
        if self.messages.is_empty() {
            // Returns the memory.
            self.messages = VecDeque::new();
            self.next_expiry = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::{Epoch, Kind, RoomName};

    const SECOND: Duration = Duration::from_secs(1);

    fn ring(count: u64, start: Instant, ttl_of: impl Fn(u64) -> Option<u64>) -> Ring {
        let mut ring = Ring::new(RoomHistory {
            messages: 100,
            bytes: 1000,
            age: 3600 * SECOND,
        });
        for offset in 1..=count {
            let publication = Publication {
                room: RoomName::lobby(),
                offset,
                id: None,
                from: "alice".into(),
                ts: 0,
                kind: Kind::Message,
                payload: "1".into(),
            };
            let ttl = ttl_of(offset).and_then(Ttl::from_seconds);
            ring.push(Arc::new(publication), start, ttl);
        }
        ring
    }

    fn read(ring: &Ring, since: Option<u64>, until: Option<u64>, now: Instant) -> Page {
        let numbering = RoomNumbering::new(RoomName::lobby(), Epoch::random(), 0);
        let query = HistoryQuery {
            since,
            messages_max: 3,
            bytes_max: 100,
            until,
        };
        ring.page(&numbering, query, now)
    }

    /// The offsets of a page, and whether it is contiguous.
    fn page(ring: &Ring, since: Option<u64>, now: Instant) -> (Vec<u64>, bool) {
        let page = read(ring, since, None, now);
        let offsets = page.messages.iter().map(|message| message.offset);
        (offsets.collect(), page.contiguous)
    }

    #[test]
    fn deleted_message_is_a_gap_of_the_pages_that_lead_over_it() {
        let start = Instant::now();
        let mut ring = ring(9, start, |_| None);
        assert_eq!(ring.delete(5, start).messages, 1);
        assert_eq!(ring.delete(5, start).messages, 0);
        assert_eq!(page(&ring, Some(1), start), (vec![2, 3, 4], true));
        assert_eq!(page(&ring, Some(3), start), (vec![4, 6, 7], false));
        assert_eq!(page(&ring, Some(4), start), (vec![6, 7, 8], false));
        assert_eq!(page(&ring, Some(5), start), (vec![6, 7, 8], true));
        assert_eq!(page(&ring, None, start), (vec![7, 8, 9], true));
        assert!(!read(&ring, Some(1), Some(9), start).contiguous);
        assert!(read(&ring, Some(5), Some(9), start).contiguous);
        ring.delete(9, start);
        assert_eq!(page(&ring, Some(7), start), (vec![8], false));
        assert_eq!(page(&ring, Some(8), start), (vec![], false));
        assert_eq!(page(&ring, None, start), (vec![6, 7, 8], false));
        ring.delete(1, start);
        assert_eq!(read(&ring, Some(1), None, start).first, 2);
        assert_eq!(ring.delete_until(9, 2).messages, 2);
        assert_eq!(ring.delete_until(9, 99).messages, 4);
        assert_eq!((ring.len(), ring.bytes(), ring.next_offset()), (0, 0, 10));
        assert_eq!(read(&ring, Some(9), None, start).first, 10);
        assert!(read(&ring, Some(9), Some(9), start).contiguous);
        assert!(!read(&ring, Some(8), Some(9), start).contiguous);
    }

    #[test]
    fn message_is_not_read_after_its_ttl_even_before_it_is_removed() {
        let start = Instant::now();
        let mut ring = ring(4, start, |offset| (offset % 2 == 1).then_some(offset));
        let (early, later) = (start + SECOND / 2, start + SECOND);
        assert_eq!(page(&ring, Some(0), early), (vec![1, 2, 3], true));
        assert_eq!(page(&ring, Some(0), later), (vec![2, 3, 4], false));
        assert_eq!(read(&ring, Some(0), None, later).first, 2);
        assert!(!read(&ring, Some(0), Some(4), later).contiguous);
        assert!(read(&ring, Some(1), Some(4), later).contiguous);
        assert_eq!(ring.drop_expired(later).messages, 1);
        assert_eq!(ring.next_expiry(), Some(start + 3 * SECOND));
        assert_eq!(page(&ring, Some(0), later), (vec![2, 3, 4], false));
        let late = start + 3 * SECOND;
        assert_eq!(page(&ring, Some(1), late), (vec![2, 4], false));
        assert!(!read(&ring, Some(1), Some(4), late).contiguous);
        assert_eq!(ring.drop_expired(late).messages, 1);
        assert_eq!((ring.len(), ring.next_expiry()), (2, None));
    }
}
