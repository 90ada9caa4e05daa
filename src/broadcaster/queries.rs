//! Replies to requests for clients, rooms and their members.

use std::time::Instant;

use crate::protocol::{ClientId, ErrorCode, Refusal, RequestId, RoomName, ServerMessage};
use crate::rooms::RemoteMembers;

use super::reply::{ClientDetail, RoomDetail, RoomSummary};
use super::room::LocalRoom;
use super::state::BroadcasterState;

impl BroadcasterState {
    pub(super) fn list_clients(&self, after: Option<ClientId>, limit: usize) -> Vec<ClientDetail> {
        let mut ids: Vec<ClientId> = self
            .clients
            .keys()
            .copied()
            .filter(|id| after.is_none_or(|after| *id > after))
            .collect();
        ids.sort_unstable();
        ids.truncate(limit);
        let detail = |id| {
            let client = self.clients.get(&id)?;
            Some(ClientDetail {
                client: id,
                user: client.user.clone(),
                rooms: client
                    .memberships
                    .iter()
                    .map(|one| one.room.clone())
                    .collect(),
                connected: client.connected,
            })
        };
        ids.into_iter().filter_map(detail).collect()
    }

    pub(super) fn list_rooms(&self) -> Vec<RoomSummary> {
        let local = self.rooms.values().map(LocalRoom::summary);
        let remote = self.remote_members.iter();
        let only_remote = remote.filter(|(name, _)| !self.rooms.contains_key(*name));
        let summary = |(name, remote): (&RoomName, &RemoteMembers)| RoomSummary {
            name: name.clone(),
            members: remote.members,
        };
        local.chain(only_remote.map(summary)).collect()
    }

    pub(super) fn room_detail(&self, name: &RoomName) -> Option<RoomDetail> {
        if let Some(room) = self.rooms.get(name) {
            return Some(room.detail(&self.clients));
        }
        let remote = self.remote_members.get(name)?;
        Some(RoomDetail {
            members: remote.members,
            clients: remote.clients.clone(),
            position: None,
        })
    }

    /// Sends a client the members of a room that has members on this node.
    pub(super) fn send_presence(&self, client: ClientId, name: &RoomName, id: Option<&RequestId>) {
        let Some(client) = self.clients.get(&client) else {
            return;
        };
        let frames = match self.rooms.get(name) {
            Some(room) => room.presence_frames(&self.clients, id),
            None => {
                let refusal = Refusal::new(ErrorCode::NotInRoom, "you are not in that room");
                ServerMessage::Error(&refusal).to_frames(id)
            }
        };
        client.outbox.push(&frames);
    }

    /// Sends presence updates to the watchers of every room whose update is due.
    pub(super) fn send_due_presence(&mut self, now: Instant) {
        for name in self.presence.take_due(now) {
            if let Some(room) = self.rooms.get(&name)
                && (self.shows_presence)(&name)
            {
                room.send_presence_to_watchers(&self.clients);
            }
        }
    }
}
