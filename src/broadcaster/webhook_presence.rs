//! The presence that webhooks report: records each room and user that becomes present or absent, and lists those that are
//! present. Does nothing without webhooks.

use std::sync::Arc;

use crate::protocol::RoomName;
use crate::rooms::{PresenceSubject, UserCount};

use super::state::BroadcasterState;

impl BroadcasterState {
    /// Records that a room got its first member, or lost its last, on all nodes.
    pub(super) fn record_room(&self, room: &RoomName, is_present: bool) {
        if let Some(changes) = &self.presence_changes
            && changes.kinds().rooms
        {
            changes.record(PresenceSubject::Room(room.clone()), is_present);
        }
    }

    /// Returns the number of a room's members on other nodes.
    pub(super) fn remote_count(&self, room: &RoomName) -> usize {
        let remote = self.remote_members.get(room);
        remote.map_or(0, |remote| remote.members)
    }

    pub(super) fn count_user(&mut self, user: Option<&Arc<str>>) {
        if let Some(user) = user.filter(|_| self.tells_users())
            && self.users.add(user)
        {
            self.record_user(user, true);
        }
    }

    pub(super) fn discount_user(&mut self, user: Option<&Arc<str>>) {
        if let Some(user) = user.filter(|_| self.tells_users())
            && self.users.remove(user)
        {
            self.record_user(user, false);
        }
    }

    /// Sets how many clients a user has on other nodes.
    pub(super) fn set_remote_user(&mut self, remote: &UserCount) {
        let UserCount { user, clients } = remote;
        if self.tells_users()
            && let Some(is_present) = self.users.set_remote(user, *clients)
        {
            self.record_user(user, is_present);
        }
    }

    /// Returns the rooms and users of interest that are present on any node.
    pub(super) fn present_subjects(&self) -> Vec<PresenceSubject> {
        let Some(changes) = &self.presence_changes else {
            return Vec::new();
        };
        let mut present = Vec::new();
        if changes.kinds().rooms {
            let rooms = self.list_rooms().into_iter();
            present.extend(rooms.map(|room| PresenceSubject::Room(room.name)));
        }
        let users = self.users.present().cloned();
        present.extend(users.map(PresenceSubject::User));
        present
    }

    fn tells_users(&self) -> bool {
        let changes = self.presence_changes.as_ref();
        changes.is_some_and(|changes| changes.kinds().users)
    }

    fn record_user(&self, user: &Arc<str>, is_present: bool) {
        if let Some(changes) = &self.presence_changes {
            changes.record(PresenceSubject::User(Arc::clone(user)), is_present);
        }
    }
}
