//! Members on several nodes: keeps the counts that other nodes report, and reports changes on this node to them.

use std::collections::HashSet;
use std::time::Instant;

use crate::protocol::RoomName;
use crate::rooms::{LocalMembers, RemoteMembers};

use super::room::LocalRoom;
use super::state::BroadcasterState;

impl BroadcasterState {
    pub(super) fn set_remote_members(
        &mut self,
        name: &RoomName,
        remote: RemoteMembers,
        now: Instant,
    ) {
        let nobody = RemoteMembers::nobody();
        if *self.remote_members.get(name).unwrap_or(&nobody) == remote {
            return;
        }
        let (had_members, has_members) = (self.remote_count(name) > 0, remote.members > 0);
        if remote.members == 0 {
            self.remote_members.remove(name);
        } else {
            self.remote_members.insert(name.clone(), remote.clone());
        }
        if let Some(room) = self.rooms.get_mut(name) {
            room.set_remote_members(remote);
            self.presence.changed(room, now);
        } else if had_members != has_members {
            self.record_room(name, has_members);
        }
    }

    /// Returns the rooms whose local members changed since the last call, or all rooms with local members. Starts the
    /// record of changes on the first call.
    pub(super) fn take_changed_rooms(&mut self, all: bool) -> Vec<LocalMembers> {
        let changed = self
            .changed_rooms
            .replace(HashSet::new())
            .unwrap_or_default();
        let local_members = |room: &LocalRoom| room.local_members(&self.clients);
        if all {
            return self.rooms.values().map(local_members).collect();
        }
        let nobody = |room: &RoomName| LocalMembers {
            room: room.clone(),
            members: 0,
            clients: Some(Vec::new()),
        };
        let members_of = |name| match self.rooms.get(name) {
            Some(room) => local_members(room),
            None => nobody(name),
        };
        changed.iter().map(members_of).collect()
    }
}
