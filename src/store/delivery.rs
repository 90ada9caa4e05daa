//! The interface through which a store reaches the members on this node.

use std::sync::Arc;
use std::time::Instant;

use crate::protocol::{Publication, RoomName};
use crate::rooms::{ClientSelector, LocalMembers, RemoteMembers, RoomNumbering};

/// Delivers to the members of rooms on this node. The broadcaster implements it.
///
/// Calls take effect in the order in which one thread makes them.
pub(crate) trait Delivery: Send + Sync {
    /// Returns whether nothing waits to be delivered and little was to be delivered lately.
    fn is_idle(&self) -> bool;

    /// Adds a stored publication for its room's members. A room's publications must come in offset order. The caller
    /// then calls [`start`](Self::start), after it has added others and released its locks. `received` is when this node
    /// received the publication, for the metrics.
    fn add(&self, numbering: &Arc<RoomNumbering>, publication: Arc<Publication>, received: Instant);

    /// Starts the delivery of the publications that were added.
    fn start(&self);

    /// Delivers a single publication; see [`add`](Self::add).
    fn deliver(
        &self,
        numbering: &Arc<RoomNumbering>,
        publication: Arc<Publication>,
        received: Instant,
    ) {
        self.add(numbering, publication, received);
        self.start();
    }

    /// Closes a room's members because its numbering restarted or messages were lost. They reconnect and receive the
    /// new position; later joins use the new numbering.
    fn restart(&self, room: &RoomName);

    /// Sets the members that a room has on other nodes.
    fn set_remote_members(&self, room: RoomName, members: RemoteMembers);

    /// Returns the rooms whose members on this node changed since the last call, or all rooms that have members.
    /// The first call starts the tracking of changes. `None` if the reply does not come in time.
    fn changed_rooms(&self, all: bool) -> Option<Vec<LocalMembers>>;

    /// Closes clients on this node because an operator asked for it on another.
    fn close_clients(&self, clients: ClientSelector);
}
