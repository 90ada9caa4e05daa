//! The interface of every store: the trait [`Store`] and the values that its methods take and return.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::protocol::{Page, RoomName};
use crate::rooms::{ClientSelector, RoomNumbering};

use super::error::StoreError;
use super::publish::{Publish, Stored};

/// Numbers publications, keeps their history and knows the rooms: memory, SQLite or Redis.
///
/// Offsets grow by one per room and epoch. One thread at a time appends; clients' threads open rooms and read history.
pub(crate) trait Store: Send + Sync {
    /// Returns the numbering of a room for a new member, creating the room if needed.
    ///
    /// From now on every publication of the room is delivered on this node. The room is kept for as long as the
    /// numbering is held.
    fn open(&self, room: &RoomName) -> Result<Arc<RoomNumbering>, StoreError>;

    /// Returns the numbering of a room, or `None` if the store has no such room. Called on clients' threads.
    fn find(&self, room: &RoomName) -> Result<Option<Arc<RoomNumbering>>, StoreError>;

    /// Returns whether [`append`](Self::append) waits for neither a disk nor a network, so that a client's thread may
    /// call it. Otherwise only the broker thread does.
    fn appends_at_once(&self) -> bool {
        false
    }

    /// Stores a batch in order and returns one result per publish, in the same order. Creates rooms as needed.
    fn append(&self, batch: &[Publish]) -> Vec<Result<Stored, StoreError>>;

    /// Deletes messages of a room for an operator, or a part of them, so that publishing is not held up for long. The
    /// room's numbering continues. Called on the broker thread.
    fn delete(&self, room: &RoomName, deletion: Deletion) -> Result<Deleted, StoreError>;

    /// Reads a page of a room's history, ordered by offset. Called on clients' threads.
    fn history(&self, numbering: &RoomNumbering, query: HistoryQuery) -> Result<Page, StoreError>;

    /// Drops messages that are too old or whose ttl has ended, and retries a store that failed. Called about once a second on the broker thread.
    fn maintain(&self, now: Instant);

    /// Returns the amounts stored now.
    fn usage(&self) -> Usage;

    /// Makes the store answer and write a little, so that [`health`](Self::health) is that of this moment. Called on the
    /// broker thread.
    fn probe(&self) {}

    /// Checks whether the store works. The error is the reason, in words for the operator.
    fn health(&self) -> Result<(), String>;

    /// Asks the other nodes, if there are any, to close these clients too. Returns the number of nodes asked.
    /// Called on clients' threads.
    fn close_on_other_nodes(&self, _clients: &ClientSelector) -> usize {
        0
    }

    /// Keeps the revocation of a user, which this node has added to its own already, and notifies the other nodes, if
    /// there are any. Returns the number of nodes notified. Called on clients' threads.
    fn revoke(&self, _user: &str, _at: Duration) -> Result<usize, StoreError> {
        Ok(0)
    }

    /// Takes the lease of the node that sends webhooks, or renews it for the next `lifetime`. A store of a single node
    /// always grants it.
    fn hold_webhook_lease(&self, _lifetime: Duration) -> Result<Lease, StoreError> {
        Ok(Lease::Held { first_serial: 0 })
    }

    /// Ends the lease, so that another node can take it at once.
    fn release_webhook_lease(&self) {}

    /// Returns this node's view of all nodes; `None` if the store serves a single node.
    fn node_status(&self) -> Option<NodeStatus> {
        None
    }

    /// Flushes everything stored. Called once, after the last batch, on the broker thread.
    fn close(&self);
}

/// The part of a room's history to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistoryQuery {
    /// The offset before the first message to read; `None` for the newest messages.
    pub(crate) since: Option<u64>,
    /// Maximum number of messages.
    pub(crate) messages_max: usize,
    /// Maximum payload bytes. A page has at least one message even if that message is larger.
    pub(crate) bytes_max: usize,
    /// An offset that the reader needs to reach by further pages. The page is contiguous only if no message up to
    /// this offset is known to be gone or unreadable.
    pub(crate) until: Option<u64>,
}

/// The messages of a room that are to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletion {
    /// All messages up to this offset.
    Until(u64),
    /// The message at this offset.
    Message(u64),
}

/// The result of a [`Deletion`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deleted {
    /// Number of messages that were deleted.
    pub(crate) messages: u64,
    /// True if there is nothing left to delete.
    pub(crate) is_complete: bool,
}

/// The lease of the node that sends webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lease {
    /// This node has it.
    Held {
        /// A serial that is larger than those of all nodes that had the lease before; 0 if there are no other nodes.
        first_serial: u64,
    },
    /// Another node has it.
    OfOtherNode,
}

/// The amounts that a store holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Rooms that have a numbering.
    pub(crate) rooms: usize,
    /// Messages in history; `None` if unknown.
    pub(crate) messages: Option<u64>,
    /// Payload bytes in history; `None` if unknown.
    pub(crate) bytes: Option<u64>,
    /// Bytes of the store's files; `None` if it has none.
    pub(crate) disk_bytes: Option<u64>,
}

/// A node's view of all nodes that share its store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NodeStatus {
    /// Live nodes, this one included.
    pub(crate) nodes: usize,
    /// Time from a message's publication until it reaches this node's subscription.
    pub(crate) lag: Duration,
    /// Reconnects of the subscription since start.
    pub(crate) reconnects: u64,
    /// Messages read from history because the subscription missed them.
    pub(crate) gap_fills: u64,
    /// Servers of a Redis Cluster whose sharded channels this node receives; 0 if it receives no sharded channels.
    pub(crate) shards: usize,
}
