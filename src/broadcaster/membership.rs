//! Clients connect and disconnect; members join, are held and released, and leave; rooms restart.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::outbox::Outbox;
use crate::protocol::{ClientId, CloseCode, RequestId, RoomName, RoomState, ServerMessage};
use crate::rooms::{RemoteMembers, RoomNumbering};

use super::connected_clients::ConnectedClient;
use super::reply::{ReleaseOutcome, send_reply};
use super::room::LocalRoom;
use super::state::BroadcasterState;

impl BroadcasterState {
    pub(super) fn await_auth(&mut self, outbox: Arc<Outbox>, now: Instant) {
        self.close_if_draining(&outbox);
        self.register(outbox, None, now);
    }

    pub(super) fn connect(
        &mut self,
        outbox: Arc<Outbox>,
        user: Option<Arc<str>>,
        rooms: Vec<Arc<RoomNumbering>>,
        hold: Option<&Sender<Vec<RoomState>>>,
        now: Instant,
    ) {
        let client = outbox.client();
        self.register(Arc::clone(&outbox), user, now);
        let states: Vec<RoomState> = rooms
            .into_iter()
            .filter_map(|numbering| self.add_member(client, numbering, false, hold.is_some(), now))
            .collect();
        if let Some(hold) = hold {
            send_reply(hold, states);
        } else {
            let welcome = ServerMessage::Welcome {
                text: &self.welcome,
                client,
                rooms: &states,
            };
            outbox.push(&welcome.to_frames(None));
        }
        self.close_if_draining(&outbox);
    }

    fn register(&mut self, outbox: Arc<Outbox>, user: Option<Arc<str>>, now: Instant) {
        let client = ConnectedClient {
            user,
            rooms: Vec::new(),
            connected: now,
            outbox,
        };
        self.clients.insert(client.outbox.client(), client);
    }

    pub(super) fn join(
        &mut self,
        client: ClientId,
        numbering: Arc<RoomNumbering>,
        presence: bool,
        hold: Option<&Sender<Vec<RoomState>>>,
        id: Option<&RequestId>,
        now: Instant,
    ) {
        let Some(state) = self.add_member(client, numbering, presence, hold.is_some(), now) else {
            return;
        };
        if let Some(hold) = hold {
            send_reply(hold, vec![state]);
        } else if let Some(client) = self.clients.get(&client) {
            let joined = ServerMessage::Joined(&state).to_frames(id);
            client.outbox.push(&joined);
        }
    }

    /// Makes a client a member of a room, or replaces its membership with new choices of `presence` and `held`.
    /// Returns `None` if the client has disconnected.
    fn add_member(
        &mut self,
        id: ClientId,
        numbering: Arc<RoomNumbering>,
        presence: bool,
        held: bool,
        now: Instant,
    ) -> Option<RoomState> {
        let name = numbering.name().clone();
        let restarted = |room: &LocalRoom| !room.has_numbering(&numbering);
        if self.rooms.get(&name).is_some_and(restarted) {
            // Members of the old numbering must not receive offsets of the new one.
            self.restart(&name);
        }
        let client = self.clients.get_mut(&id)?;
        let room = self.rooms.entry(name.clone()).or_insert_with(|| {
            let remote = self.remote_members.get(&name).cloned();
            LocalRoom::new(numbering, remote.unwrap_or_else(RemoteMembers::nobody))
        });
        self.metrics.deliveries.add(room.flush(&self.helpers));
        let is_new = room.add(Arc::clone(&client.outbox), presence, held);
        self.presence.changed(room, now);
        let state = RoomState {
            room: name,
            position: room.position(),
            recovered: false,
            members: room.member_count(),
        };
        if is_new {
            client.rooms.push(state.room.clone());
            self.mark_changed(&state.room);
        }
        Some(state)
    }

    pub(super) fn release(
        &mut self,
        client: ClientId,
        name: &RoomName,
        reached: u64,
    ) -> ReleaseOutcome {
        let Some(room) = self.rooms.get_mut(name) else {
            // The room restarted, which has closed the client.
            return ReleaseOutcome::Live;
        };
        self.metrics.deliveries.add(room.flush(&self.helpers));
        room.release(client, reached)
    }

    pub(super) fn leave(
        &mut self,
        id: ClientId,
        name: &RoomName,
        request: Option<&RequestId>,
        now: Instant,
    ) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.rooms.retain(|room| room != name);
        let outbox = Arc::clone(&client.outbox);
        self.remove_member(id, name, now);
        outbox.push(&ServerMessage::Left(name).to_frames(request));
    }

    pub(super) fn disconnect(&mut self, client: ClientId, now: Instant) {
        let Some(disconnected) = self.clients.remove(&client) else {
            return;
        };
        for name in &disconnected.rooms {
            self.remove_member(client, name, now);
        }
    }

    fn remove_member(&mut self, client: ClientId, name: &RoomName, now: Instant) {
        let Entry::Occupied(mut entry) = self.rooms.entry(name.clone()) else {
            return;
        };
        let room = entry.get_mut();
        self.metrics.deliveries.add(room.flush(&self.helpers));
        room.remove(client);
        if room.local_count() == 0 {
            entry.remove();
        } else {
            self.presence.changed(room, now);
        }
        self.mark_changed(name);
    }

    /// Closes a room's members and forgets the room. The members stay connected clients until their connections end.
    pub(super) fn restart(&mut self, name: &RoomName) {
        let Some(mut room) = self.rooms.remove(name) else {
            return;
        };
        self.metrics.deliveries.add(room.flush(&self.helpers));
        room.close_members(CloseCode::Restarted);
        self.mark_changed(name);
    }
}
