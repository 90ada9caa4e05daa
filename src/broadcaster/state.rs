//! The clients, rooms and pending work that the broadcaster thread owns.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::metrics::Metrics;
use crate::protocol::RoomName;
use crate::rooms::RemoteMembers;

use super::connected_clients::ConnectedClients;
use super::drain::Drain;
use super::fan_out::{FanOut, Helpers};
use super::presence::PresenceSchedule;
use super::room::LocalRoom;

/// Everything the broadcaster thread owns.
pub(super) struct BroadcasterState {
    /// The text of every client's welcome.
    pub(super) welcome: String,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clients: ConnectedClients,
    /// Rooms with members on this node.
    pub(super) rooms: HashMap<RoomName, LocalRoom>,
    /// Members on other nodes, of each room that has any. The room may have no members on this node.
    pub(super) remote_members: HashMap<RoomName, RemoteMembers>,
    /// Rooms whose local members changed since they were last requested. `None` until the first request, because a
    /// server without other nodes makes none.
    pub(super) changed_rooms: Option<HashSet<RoomName>>,
    /// Rooms with a batch that was not sent yet.
    pub(super) pending: Vec<RoomName>,
    pub(super) helpers: Helpers<FanOut>,
    pub(super) presence: PresenceSchedule,
    /// `Some` from the start of the shutdown on.
    pub(super) drain: Option<Drain>,
}

impl BroadcasterState {
    pub(super) fn new(welcome: String, metrics: Arc<Metrics>, helpers: Helpers<FanOut>) -> Self {
        Self {
            welcome,
            metrics,
            clients: HashMap::new(),
            rooms: HashMap::new(),
            remote_members: HashMap::new(),
            changed_rooms: None,
            pending: Vec::new(),
            helpers,
            presence: PresenceSchedule::default(),
            drain: None,
        }
    }

    /// Records that a room's local members changed, if changes are ever requested.
    pub(super) fn mark_changed(&mut self, room: &RoomName) {
        if let Some(changed) = &mut self.changed_rooms {
            changed.insert(room.clone());
        }
    }
}
