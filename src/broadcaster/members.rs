//! The members of a room on this node, in a list that is walked in the order of memory.

use std::sync::Arc;

use crate::outbox::{Outbox, Wire};
use crate::protocol::ClientId;

/// A client in a room.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) outbox: Arc<Outbox>,
    /// True if the member is subscribed to presence updates.
    pub(super) watches: bool,
    /// True if the member is not sent the batches of the others: it is held, or it reads several rooms as one stream.
    pub(super) apart: bool,
    /// True if the member reads several rooms as one event stream.
    pub(super) in_stream: bool,
}

impl Member {
    /// Returns whether the member is sent the batches of all members that read Server-Sent Events.
    fn reads_events(&self) -> bool {
        self.outbox.wire().has_events() && !self.in_stream
    }

    fn reads_chunks(&self) -> bool {
        self.outbox.wire() == Wire::ChunkedEvents && !self.in_stream
    }
}

/// The members of a room, in the order of their ids.
///
/// Ids grow with each connection, so this is also the order in which most outboxes were allocated, and a new member is
/// appended. Removing one moves the members after it: 16 bytes each, which is faster than the cache misses of a hash
/// map would be in each fan-out.
#[derive(Default)]
pub(super) struct Members {
    /// Helper threads share the list during a fan-out, and release it before the fan-out ends. A change therefore
    /// never copies it.
    list: Arc<Vec<Member>>,
    /// The number of members subscribed to presence updates.
    watchers: usize,
    /// The number of members that read Server-Sent Events.
    event_readers: usize,
    /// The number of those readers whose events are sent in chunks.
    chunk_readers: usize,
}

impl Members {
    /// Returns the list, for a fan-out.
    pub(super) fn list(&self) -> &Arc<Vec<Member>> {
        &self.list
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.list.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn watchers(&self) -> usize {
        self.watchers
    }

    pub(super) fn event_readers(&self) -> usize {
        self.event_readers
    }

    pub(super) fn chunk_readers(&self) -> usize {
        self.chunk_readers
    }

    pub(super) fn get(&self, client: ClientId) -> Option<&Member> {
        self.find(client).ok().map(|at| &self.list[at])
    }

    /// Adds a client that is not a member.
    pub(super) fn add(&mut self, member: Member) {
        self.watchers += usize::from(member.watches);
        self.event_readers += usize::from(member.reads_events());
        self.chunk_readers += usize::from(member.reads_chunks());
        let at = self.find(member.outbox.client()).unwrap_or_else(|at| at);
        Arc::make_mut(&mut self.list).insert(at, member);
    }

    /// Removes a member. Returns whether the client was one.
    pub(super) fn remove(&mut self, client: ClientId) -> bool {
        let Ok(at) = self.find(client) else {
            return false;
        };
        let member = Arc::make_mut(&mut self.list).remove(at);
        self.watchers -= usize::from(member.watches);
        self.event_readers -= usize::from(member.reads_events());
        self.chunk_readers -= usize::from(member.reads_chunks());
        true
    }

    /// Sends a member the batches of the others from now on.
    pub(super) fn set_live(&mut self, client: ClientId) {
        if let Ok(at) = self.find(client) {
            Arc::make_mut(&mut self.list)[at].apart = false;
        }
    }

    /// Returns the index of a member, or the one at which it would be inserted.
    fn find(&self, client: ClientId) -> Result<usize, usize> {
        self.list
            .binary_search_by_key(&client, |member| member.outbox.client())
    }
}
