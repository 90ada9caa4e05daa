//! The interface through which a store reaches the members on this node.

use std::sync::Arc;
use std::time::Instant;

use crate::protocol::{ClientId, CloseCode, Position, Publication, RequestId, RoomName};
use crate::rooms::{
    ClientSelector, Exclusion, LocalMembers, RemoteMembers, RoomNumbering, UserCount,
};

/// The acknowledgement of a publish whose client does not receive the message.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledgement {
    /// The client that published.
    pub(crate) client: ClientId,
    pub(crate) room: RoomName,
    /// The position at which the message was stored.
    pub(crate) position: Position,
    /// The id of the request.
    pub(crate) id: Option<RequestId>,
}

/// Delivers to the members of rooms on this node. The broadcaster implements it.
///
/// Calls take effect in the order in which one thread makes them.
pub(crate) trait Delivery: Send + Sync {
    /// Returns whether nothing waits to be delivered and little was to be delivered lately.
    fn is_idle(&self) -> bool;

    /// Adds a stored publication for its room's members. A room's publications must come in offset order. The caller
    /// then calls [`start`](Self::start), after it has added others and released its locks. `received` is when this node
    /// received the publication, for the metrics.
    fn add(
        &self,
        numbering: &Arc<RoomNumbering>,
        publication: Arc<Publication>,
        except: Option<Exclusion>,
        received: Instant,
    );

    /// Adds the acknowledgement of a publish whose client does not receive the message. The delivery sends it in place of
    /// the message, whether the message is added before or after it, or at once if this client does not get the message.
    fn acknowledge(&self, acknowledgement: Acknowledgement);

    /// Starts the delivery of the publications that were added.
    fn start(&self);

    /// Delivers a single publication; see [`add`](Self::add).
    fn deliver(
        &self,
        numbering: &Arc<RoomNumbering>,
        publication: Arc<Publication>,
        except: Option<Exclusion>,
        received: Instant,
    ) {
        self.add(numbering, publication, except, received);
        self.start();
    }

    /// Closes the members that joined a room with this numbering, because it has ended. They reconnect and receive the
    /// new position. Joins already use the new numbering, and its members stay.
    fn restart(&self, ended: &Arc<RoomNumbering>);

    /// Sets the members that a room has on other nodes.
    fn set_remote_members(&self, room: RoomName, members: RemoteMembers);

    /// Returns the rooms whose members on this node changed since the last call, or all rooms that have members.
    /// The first call starts the tracking of changes. `None` if the reply does not come in time.
    fn changed_rooms(&self, all: bool) -> Option<Vec<LocalMembers>>;

    /// Sets how many clients a user has on other nodes.
    fn set_remote_user(&self, remote: UserCount);

    /// Returns the users whose clients on this node changed since the last call, or all that have clients. There are
    /// none unless webhooks report users. `None` if the reply does not come in time.
    fn changed_users(&self, all: bool) -> Option<Vec<UserCount>>;

    /// Closes clients on this node because an operator asked for it on another.
    fn close_clients(&self, clients: ClientSelector, code: CloseCode);
}
