//! The connected clients, whether they are members of a room or not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::outbox::Outbox;
use crate::protocol::{ClientId, MemberState, RoomName, SessionHash};

/// The connected clients, by id.
pub(super) type ConnectedClients = HashMap<ClientId, ConnectedClient>;

/// A connected client.
pub(super) struct ConnectedClient {
    pub(super) outbox: Arc<Outbox>,
    /// The `sub` of the client's token, if it has one.
    pub(super) user: Option<Arc<str>>,
    /// The session that the client chose, if it chose one.
    pub(super) session: Option<SessionHash>,
    /// Its memberships, in the order in which it joined. A room that restarted stays here until the client's connection
    /// ends.
    pub(super) memberships: Vec<Membership>,
    pub(super) connected: Instant,
}

/// A client's membership of a room, as far as lists of members show it. It is not in the room's own list of members,
/// which each fan-out walks.
pub(super) struct Membership {
    pub(super) room: RoomName,
    /// When the client joined, as time since the Unix epoch.
    pub(super) since: Duration,
    pub(super) state: Option<MemberState>,
}

impl ConnectedClient {
    /// Returns the client's membership of a room. A client has few.
    pub(super) fn membership(&self, room: &RoomName) -> Option<&Membership> {
        self.memberships.iter().find(|one| one.room == *room)
    }

    pub(super) fn membership_mut(&mut self, room: &RoomName) -> Option<&mut Membership> {
        self.memberships.iter_mut().find(|one| one.room == *room)
    }
}
