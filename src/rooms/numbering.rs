//! A room's numbering: its epoch and the last offset delivered on this node.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::protocol::{Epoch, Position, RoomName};

/// A room's numbering, shared by the store, sessions and the broadcaster.
///
/// The store keeps a room for as long as anyone else holds its numbering. When numbering restarts, the room gets a
/// new `RoomNumbering`, so two handles are of one numbering exactly if they point to the same value.
#[derive(Debug)]
pub(crate) struct RoomNumbering {
    name: RoomName,
    epoch: Epoch,
    /// The last offset the broadcaster has taken, even if the room had no members then. Only the broadcaster's
    /// thread writes it.
    delivered: AtomicU64,
    has_ended: AtomicBool,
    /// Seats taken on this node.
    pub(super) seats: AtomicU32,
    /// Members on other nodes.
    pub(super) remote_members: AtomicU32,
}

impl RoomNumbering {
    /// A numbering whose last offset so far is `delivered`.
    pub(crate) fn new(name: RoomName, epoch: Epoch, delivered: u64) -> Self {
        Self {
            name,
            epoch,
            delivered: AtomicU64::new(delivered),
            has_ended: AtomicBool::new(false),
            seats: AtomicU32::new(0),
            remote_members: AtomicU32::new(0),
        }
    }

    /// The room's name.
    pub(crate) fn name(&self) -> &RoomName {
        &self.name
    }

    /// The epoch of every offset in this numbering.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The position of the last publication the broadcaster has taken.
    pub(crate) fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            offset: self.delivered.load(Ordering::Acquire),
        }
    }

    /// Sets the last offset the broadcaster has taken.
    pub(crate) fn set_delivered(&self, offset: u64) {
        self.delivered.store(offset, Ordering::Release);
    }

    /// Ends the numbering, because the room has a new one or has lost messages. The store first replaces it, so that
    /// only clients that hold it already can still join with it.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    /// Returns whether the numbering has ended, so that nobody may join the room with it.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Sets the number of members on other nodes, which count against the room's limit.
    pub(crate) fn set_remote_members(&self, members: usize) {
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        self.remote_members.store(members, Ordering::Relaxed);
    }
}
