//! The clients, rooms and pending work that the broadcaster thread owns.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::auth::unix_time;
use crate::metrics::Metrics;
use crate::protocol::{ClientId, RoomName, SessionHash};
use crate::rooms::{PresenceChanges, RemoteMembers};

use super::connected_clients::ConnectedClients;
use super::drain::Drain;
use super::echo::OwnPublishes;
use super::fan_out::{FanOut, Helpers};
use super::presence::PresenceSchedule;
use super::room::LocalRoom;
use super::users::ConnectedUsers;

/// Returns whether the members of a room hear who else is in it, which the settings decide.
pub(crate) type ShowsPresence = Box<dyn Fn(&RoomName) -> bool + Send>;

/// Everything the broadcaster thread owns.
pub(super) struct BroadcasterState {
    /// The text of every client's welcome.
    pub(super) welcome: String,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clients: ConnectedClients,
    /// The clients that chose a session.
    pub(super) sessions: BTreeSet<(SessionHash, ClientId)>,
    /// Rooms with members on this node.
    pub(super) rooms: HashMap<RoomName, LocalRoom>,
    /// Members on other nodes, of each room that has any. The room may have no members on this node.
    pub(super) remote_members: HashMap<RoomName, RemoteMembers>,
    /// Rooms whose local members changed since they were last requested. `None` until the first request, because a
    /// server without other nodes makes none.
    pub(super) changed_rooms: Option<HashSet<RoomName>>,
    /// Rooms with a batch that was not sent yet.
    pub(super) pending: Vec<RoomName>,
    pub(super) own_publishes: OwnPublishes,
    pub(super) helpers: Helpers<FanOut>,
    pub(super) presence: PresenceSchedule,
    /// Returns whether the members of a room hear who else is in it.
    pub(super) shows_presence: ShowsPresence,
    /// The wall clock, as time since the Unix epoch.
    pub(super) unix_time: fn() -> Duration,
    pub(super) users: ConnectedUsers,
    /// The record for the webhooks, if there are any.
    pub(super) presence_changes: Option<Arc<PresenceChanges>>,
    /// `Some` from the start of the shutdown on.
    pub(super) drain: Option<Drain>,
}

impl BroadcasterState {
    pub(super) fn new(
        welcome: String,
        shows_presence: ShowsPresence,
        metrics: Arc<Metrics>,
        helpers: Helpers<FanOut>,
    ) -> Self {
        Self {
            welcome,
            metrics,
            clients: HashMap::new(),
            sessions: BTreeSet::new(),
            rooms: HashMap::new(),
            remote_members: HashMap::new(),
            changed_rooms: None,
            pending: Vec::new(),
            own_publishes: OwnPublishes::default(),
            helpers,
            presence: PresenceSchedule::default(),
            shows_presence,
            unix_time,
            users: ConnectedUsers::default(),
            presence_changes: None,
            drain: None,
        }
    }

    /// Records rooms and users that become present or absent from now on.
    pub(super) fn recording(self, presence_changes: Option<Arc<PresenceChanges>>) -> Self {
        Self {
            presence_changes,
            ..self
        }
    }

    /// Records that a room's local members changed, if changes are ever requested.
    pub(super) fn mark_changed(&mut self, room: &RoomName) {
        if let Some(changed) = &mut self.changed_rooms {
            changed.insert(room.clone());
        }
    }
}
