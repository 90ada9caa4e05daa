//! The values with which the broadcaster replies to requests.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::protocol::{ClientId, Position, PresentClient, RoomName};

/// The outcome of [`Event::Release`](super::Event::Release).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReleaseOutcome {
    /// The member is live: it is sent every later publication at once.
    Live,
    /// The member missed more than could be held. It is held again from this offset, and its thread must read up to
    /// this offset before it releases the member again.
    ReadOn(u64),
    /// The client has a later offset than this node has delivered, because it came from a faster node. The member
    /// is still held.
    Behind,
}

/// A connected client.
#[derive(Clone, Debug)]
pub(crate) struct ClientDetail {
    /// The client's id.
    pub client: ClientId,
    /// The `sub` of its token, if it has one.
    pub user: Option<Arc<str>>,
    /// The rooms it is a member of, in the order in which it joined them.
    pub rooms: Vec<RoomName>,
    /// The time at which it connected.
    pub connected: Instant,
}

/// A room's entry in the list of rooms.
#[derive(Clone, Debug)]
pub(crate) struct RoomSummary {
    /// The room's name.
    pub name: RoomName,
    /// The number of its members on all nodes.
    pub members: usize,
}

/// A room with its members.
#[derive(Clone, Debug)]
pub(crate) struct RoomDetail {
    /// The number of its members on all nodes.
    pub members: usize,
    /// The members in the order of their ids. `None` if there are too many to list.
    pub clients: Option<Vec<PresentClient>>,
    /// The position of the last delivered publication. `None` if the room has no members on this node.
    pub position: Option<Position>,
}

/// Replies to a request. The reply is dropped if the requester no longer waits.
pub(super) fn send_reply<T>(reply: &Sender<T>, value: T) {
    reply.try_send(value).ok();
}
