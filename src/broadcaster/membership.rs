//! Clients connect and disconnect; members join, are held and released, and leave; rooms restart.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::outbox::Outbox;
use crate::protocol::{
    ClientId, CloseCode, ErrorCode, MemberState, Refusal, RequestId, RoomName, RoomState,
    ServerMessage, SessionHash, StateChange,
};
use crate::rooms::{PRESENCE_LIST_MAX, RemoteMembers, RoomNumbering, StreamPositions};

use super::connected_clients::{ConnectedClient, Membership};
use super::reply::{ReleaseOutcome, send_reply};
use super::room::LocalRoom;
use super::state::BroadcasterState;

/// The choices of a client that joins a room. A client that joins again replaces them.
#[derive(Default)]
pub(super) struct MembershipChoices {
    /// True if the member is subscribed to presence updates.
    pub(super) watches: bool,
    /// True if the member's batches are kept for it instead of being sent.
    pub(super) held: bool,
    /// The positions of a member that reads several rooms as one event stream.
    pub(super) positions: Option<Arc<StreamPositions>>,
    pub(super) state: StateChange,
}

impl BroadcasterState {
    pub(super) fn await_auth(&mut self, outbox: Arc<Outbox>, now: Instant) {
        self.close_if_draining(&outbox);
        self.register(outbox, None, None, now);
    }

    pub(super) fn connect(
        &mut self,
        outbox: &Arc<Outbox>,
        positions: Option<&Arc<StreamPositions>>,
        rooms: Vec<Arc<RoomNumbering>>,
        hold: Option<&Sender<Vec<RoomState>>>,
        now: Instant,
    ) {
        let client = outbox.client();
        let states: Vec<RoomState> = rooms
            .into_iter()
            .filter_map(|numbering| {
                let choices = MembershipChoices {
                    held: hold.is_some(),
                    positions: positions.cloned(),
                    ..MembershipChoices::default()
                };
                self.add_member(client, numbering, choices, now)
            })
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
        self.close_if_draining(outbox);
    }

    pub(super) fn register(
        &mut self,
        outbox: Arc<Outbox>,
        user: Option<Arc<str>>,
        session: Option<SessionHash>,
        now: Instant,
    ) {
        self.sessions
            .extend(session.map(|session| (session, outbox.client())));
        self.count_user(user.as_ref());
        let client = ConnectedClient {
            user,
            session,
            memberships: Vec::new(),
            connected: now,
            outbox,
        };
        let replaced = self.clients.insert(client.outbox.client(), client);
        self.discount_user(replaced.and_then(|replaced| replaced.user).as_ref());
    }

    pub(super) fn join(
        &mut self,
        client: ClientId,
        numbering: Arc<RoomNumbering>,
        choices: MembershipChoices,
        hold: Option<&Sender<Vec<RoomState>>>,
        id: Option<&RequestId>,
        now: Instant,
    ) {
        let Some(state) = self.add_member(client, numbering, choices, now) else {
            return;
        };
        if let Some(hold) = hold {
            send_reply(hold, vec![state]);
        } else if let Some(client) = self.clients.get(&client) {
            let joined = ServerMessage::Joined(&state).to_frames(id);
            client.outbox.push(&joined);
        }
    }

    /// Makes a client a member of a room, or replaces its choices. Returns `None` if the client has disconnected, or is
    /// closed because the numbering has ended.
    fn add_member(
        &mut self,
        id: ClientId,
        numbering: Arc<RoomNumbering>,
        choices: MembershipChoices,
        now: Instant,
    ) -> Option<RoomState> {
        let name = numbering.name().clone();
        if numbering.has_ended() {
            // The client's thread opened the room just before it restarted.
            self.clients.get(&id)?.outbox.close(CloseCode::Restarted);
            return None;
        }
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
        let MembershipChoices {
            watches,
            held,
            positions,
            state,
        } = choices;
        let is_new = room.add(Arc::clone(&client.outbox), watches, held, positions);
        if is_new {
            client.memberships.push(Membership {
                room: name.clone(),
                since: (self.unix_time)(),
                state: None,
            });
        }
        let shown = client.membership_mut(&name).map(|one| &mut one.state);
        let is_shown_anew = match (shown, state) {
            (Some(shown), StateChange::Set(state)) => replace_if_other(shown, state),
            _ => false,
        };
        self.presence.changed(room, now);
        let state = RoomState {
            room: name,
            position: room.position(),
            recovered: false,
            live_after: None,
            members: room.member_count(),
        };
        if is_new || is_shown_anew {
            self.mark_changed(&state.room);
            if state.members == 1 {
                self.record_room(&state.room, true);
            }
        }
        Some(state)
    }

    /// Changes the state that a member shows. In a room with too many members to list, nobody sees it.
    pub(super) fn set_state(
        &mut self,
        id: ClientId,
        name: &RoomName,
        state: Option<MemberState>,
        request: Option<&RequestId>,
        now: Instant,
    ) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let room = self.rooms.get(name).filter(|room| room.has_member(id));
        let (Some(room), Some(membership)) = (room, client.membership_mut(name)) else {
            let refusal = Refusal::new(ErrorCode::NotInRoom, "you are not in that room");
            let refused = ServerMessage::Error(&refusal).to_frames(request);
            return client.outbox.push(&refused);
        };
        let is_other = replace_if_other(&mut membership.state, state);
        client
            .outbox
            .push(&ServerMessage::StateSet(name).to_frames(request));
        if is_other && room.member_count() <= PRESENCE_LIST_MAX {
            self.presence.changed(room, now);
        }
        if is_other && room.local_count() <= PRESENCE_LIST_MAX {
            self.mark_changed(name);
        }
    }

    pub(super) fn release(
        &mut self,
        client: ClientId,
        name: &RoomName,
        reached: u64,
        now: Instant,
    ) -> ReleaseOutcome {
        let Some(room) = self.rooms.get_mut(name) else {
            // The room restarted, which has closed the client.
            return ReleaseOutcome::Live;
        };
        self.metrics.deliveries.add(room.flush(&self.helpers));
        let outcome = room.release(client, reached);
        if outcome == ReleaseOutcome::Live && room.is_watched_by(client) {
            // While it was held it received no updates.
            self.presence.changed(room, now);
        }
        outcome
    }

    pub(super) fn leave(
        &mut self,
        id: ClientId,
        name: &RoomName,
        request: Option<&RequestId>,
        now: Instant,
    ) {
        self.acknowledge_before_leaving(id, name);
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.memberships.retain(|one| one.room != *name);
        let outbox = Arc::clone(&client.outbox);
        self.remove_member(id, name, now);
        outbox.push(&ServerMessage::Left(name).to_frames(request));
    }

    pub(super) fn disconnect(&mut self, client: ClientId, now: Instant) {
        let Some(disconnected) = self.clients.remove(&client) else {
            return;
        };
        self.own_publishes.forget(client);
        if let Some(session) = disconnected.session {
            self.sessions.remove(&(session, client));
        }
        for membership in &disconnected.memberships {
            self.remove_member(client, &membership.room, now);
        }
        self.discount_user(disconnected.user.as_ref());
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
            if self.remote_count(name) == 0 {
                self.record_room(name, false);
            }
        } else {
            self.presence.changed(room, now);
        }
        self.mark_changed(name);
    }

    /// Restarts a room whose members joined with this numbering. Members of a newer numbering stay.
    pub(super) fn end_numbering(&mut self, ended: &Arc<RoomNumbering>) {
        let room = self.rooms.get(ended.name());
        if room.is_some_and(|room| room.has_numbering(ended)) {
            self.restart(ended.name());
        }
    }

    /// Closes a room's members and forgets the room. The members stay connected clients until their connections end.
    pub(super) fn restart(&mut self, name: &RoomName) {
        let Some(mut room) = self.rooms.remove(name) else {
            return;
        };
        self.metrics.deliveries.add(room.flush(&self.helpers));
        room.close_members(CloseCode::Restarted);
        self.mark_changed(name);
        if self.remote_count(name) == 0 {
            self.record_room(name, false);
        }
    }
}

/// Replaces a state. Returns whether it was another one.
fn replace_if_other(shown: &mut Option<MemberState>, state: Option<MemberState>) -> bool {
    let is_other = *shown != state;
    *shown = state;
    is_other
}
