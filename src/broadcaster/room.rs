//! A room with members on this node: its numbering, its members and the batch that is to be sent to them.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use crate::outbox::Outbox;
use crate::protocol::{
    ClientId, CloseCode, EventBodies, FrameBuffer, Frames, Position, PresentClient, Publication,
    RequestId, RoomName, ServerMessage, write_event,
};
use crate::rooms::{
    LocalMembers, PRESENCE_LIST_MAX, RemoteMembers, RoomNumbering, StreamPositions,
};

use super::connected_clients::ConnectedClients;
use super::echo::{PendingPublication, Replacement, replace};
use super::fan_out::{Batch, FanOut, Helpers, abort_on_panic};
use super::held::{HeldBatch, HeldBatches};
use super::members::{Member, Members};
use super::reply::{ReleaseOutcome, RoomDetail, RoomSummary};

/// Bytes of a batch at which it is sent before more is added, so that a batch stays far smaller than an outbox.
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// A room with members on this node.
pub(super) struct LocalRoom {
    numbering: Arc<RoomNumbering>,
    members: Members,
    /// The batches of each held member.
    held: BTreeMap<ClientId, HeldBatches>,
    /// The positions of each member that reads several rooms as one event stream.
    streams: BTreeMap<ClientId, Arc<StreamPositions>>,
    remote: RemoteMembers,
    /// The pending batch as WebSocket frames.
    batch: FrameBuffer,
    /// The pending batch as Server-Sent Events; empty while no member reads them.
    events: Vec<u8>,
    /// The pending batch for members that read several rooms as one stream; empty while there are none.
    bodies: EventBodies,
    /// The publications of the pending batch that one of the members does not receive.
    replacements: Vec<Replacement>,
    /// The JSON text of one publication; reused for the next one.
    scratch: Vec<u8>,
}

impl LocalRoom {
    pub(super) fn new(numbering: Arc<RoomNumbering>, remote: RemoteMembers) -> Self {
        numbering.set_remote_members(remote.members);
        Self {
            numbering,
            members: Members::default(),
            held: BTreeMap::new(),
            streams: BTreeMap::new(),
            remote,
            batch: FrameBuffer::default(),
            events: Vec::new(),
            bodies: EventBodies::default(),
            replacements: Vec::new(),
            scratch: Vec::new(),
        }
    }

    pub(super) fn name(&self) -> &RoomName {
        self.numbering.name()
    }

    /// Returns whether `numbering` is the one whose epoch the members were sent when they joined.
    pub(super) fn has_numbering(&self, numbering: &Arc<RoomNumbering>) -> bool {
        Arc::ptr_eq(&self.numbering, numbering)
    }

    pub(super) fn position(&self) -> Position {
        self.numbering.position()
    }

    /// Returns the number of members on this node.
    pub(super) fn local_count(&self) -> usize {
        self.members.len()
    }

    pub(super) fn has_member(&self, client: ClientId) -> bool {
        self.members.get(client).is_some()
    }

    /// Returns the number of members on all nodes.
    pub(super) fn member_count(&self) -> usize {
        self.members.len() + self.remote.members
    }

    pub(super) fn set_remote_members(&mut self, remote: RemoteMembers) {
        self.numbering.set_remote_members(remote.members);
        self.remote = remote;
    }

    pub(super) fn has_watchers(&self) -> bool {
        self.members.watchers() > 0
    }

    pub(super) fn is_watched_by(&self, client: ClientId) -> bool {
        self.members
            .get(client)
            .is_some_and(|member| member.watches)
    }

    /// Adds a member or replaces its membership. Returns whether the client was not a member before.
    pub(super) fn add(
        &mut self,
        outbox: Arc<Outbox>,
        watches: bool,
        held: bool,
        positions: Option<Arc<StreamPositions>>,
    ) -> bool {
        let client = outbox.client();
        let replaced = self.remove(client);
        if held {
            let after = self.position().offset;
            self.held.insert(client, HeldBatches::after(after));
        }
        self.members.add(Member {
            outbox,
            watches,
            apart: held || positions.is_some(),
            in_stream: positions.is_some(),
        });
        if let Some(positions) = positions {
            self.streams.insert(client, positions);
        }
        !replaced
    }

    /// Removes a member. Returns whether the client was one.
    pub(super) fn remove(&mut self, client: ClientId) -> bool {
        self.held.remove(&client);
        self.streams.remove(&client);
        self.members.remove(client)
    }

    /// Makes a held member live if `reached` and its held batches together cover the room's position.
    /// The pending batch must be empty. A client that is not held or not a member counts as live.
    pub(super) fn release(&mut self, client: ClientId, reached: u64) -> ReleaseOutcome {
        let offset = self.position().offset;
        let (Some(member), Some(held)) = (self.members.get(client), self.held.get_mut(&client))
        else {
            return ReleaseOutcome::Live;
        };
        let outcome = match (held.following(reached), reached.cmp(&offset)) {
            (Some(batches), _) => {
                for batch in batches {
                    match (batch, self.streams.get(&client)) {
                        (HeldBatch::Frames(frames), _) => member.outbox.push(frames),
                        (HeldBatch::Events { bodies, skipped }, Some(positions)) => {
                            let room = self.numbering.name();
                            member.outbox.push_events(positions, room, bodies, skipped);
                        }
                        (HeldBatch::Events { .. }, None) => {}
                    }
                }
                ReleaseOutcome::Live
            }
            // The client read the held publications from the store, so it must not be sent them again.
            (None, Equal) => ReleaseOutcome::Live,
            (None, Less) => ReleaseOutcome::ReadOn(offset),
            (None, Greater) => ReleaseOutcome::Behind,
        };
        if held.following(reached).is_none() {
            held.acks().iter().for_each(|ack| member.outbox.push(ack));
        }
        if outcome == ReleaseOutcome::Live {
            self.held.remove(&client);
            if !self.streams.contains_key(&client) {
                self.members.set_live(client);
            }
        } else {
            *held = HeldBatches::after(offset);
        }
        outcome
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.batch.is_empty()
    }

    pub(super) fn pending_is_full(&self) -> bool {
        self.batch.len() >= BATCH_BYTES_MAX
    }

    /// Encodes a publication once for all members and adds it to the pending batch.
    pub(super) fn add_pending(&mut self, publication: &Publication) -> PendingPublication {
        let position = Position {
            epoch: self.numbering.epoch(),
            offset: publication.offset,
        };
        let (frames, events) = (self.batch.len(), self.events.len());
        self.scratch.clear();
        publication.write_json(&mut self.scratch);
        self.batch.push_text(&self.scratch);
        if self.members.event_readers() > 0 {
            write_event(&mut self.events, position, &self.scratch);
        }
        if !self.streams.is_empty() {
            self.bodies.push(position.offset, &self.scratch);
        }
        PendingPublication {
            frames: frames..self.batch.len(),
            events: events..self.events.len(),
            position,
        }
    }

    /// Replaces a publication of the pending batch for one member.
    pub(super) fn replace(&mut self, replacement: Replacement) {
        self.replacements.push(replacement);
    }

    /// Sends the pending batch to every live member and keeps it for every held one. Returns the number of
    /// deliveries.
    pub(super) fn flush(&mut self, helpers: &Helpers<FanOut>) -> u64 {
        if self.batch.is_empty() {
            return 0;
        }
        let (frames, publications) = self.batch.take();
        let events = mem::take(&mut self.events);
        let mut replacements = mem::take(&mut self.replacements);
        replacements.sort_by_key(|replacement| replacement.client);
        let apart = self.send_replaced(&replacements, &frames, &events);
        self.send_to_streams(&replacements);
        let has_chunks = self.members.chunk_readers() > 0;
        let batch = Batch {
            frames,
            chunk: Frames::chunk(if has_chunks { &events } else { &[] }),
            events: Frames::from(events),
        };
        for (client, held) in &mut self.held {
            if let Some(member) = self.members.get(*client)
                && apart.binary_search(client).is_err()
                && !self.streams.contains_key(client)
            {
                let frames = batch.for_wire(member.outbox.wire());
                let bytes = frames.bytes().len();
                held.add(HeldBatch::Frames(frames.clone()), bytes, &member.outbox);
            }
        }
        let members = Arc::clone(self.members.list());
        helpers.run(&FanOut {
            members,
            batch,
            apart,
        });
        publications * self.members.len() as u64 - replacements.len() as u64
    }

    /// Sends their own batches to the members that do not receive some of the publications, or keeps these batches. Returns
    /// these members in order.
    fn send_replaced(
        &mut self,
        replacements: &[Replacement],
        frames: &Frames,
        events: &[u8],
    ) -> Vec<ClientId> {
        let name = self.numbering.name();
        let mut apart = Vec::new();
        for replacements in replacements.chunk_by(|one, other| one.client == other.client) {
            let client = replacements[0].client;
            let Some(member) = self.members.get(client) else {
                continue;
            };
            if self.streams.contains_key(&client) {
                continue;
            }
            let wire = member.outbox.wire();
            let batch = replace(name, replacements, wire, frames.bytes(), events);
            match self.held.get_mut(&client) {
                Some(held) => {
                    let bytes = batch.bytes().len();
                    held.add(HeldBatch::Frames(batch.clone()), bytes, &member.outbox);
                    let acks = replacements.iter().filter_map(|own| own.late_ack(name));
                    acks.for_each(|ack| held.add_ack(ack));
                }
                None => abort_on_panic(&member.outbox, || member.outbox.push(&batch)),
            }
            apart.push(client);
        }
        apart
    }

    /// Sends the pending batch to the members that read several rooms as one stream, or keeps it for them.
    fn send_to_streams(&mut self, replacements: &[Replacement]) {
        if self.streams.is_empty() {
            return;
        }
        let bodies = Arc::new(mem::take(&mut self.bodies));
        let name = self.numbering.name();
        for (client, positions) in &self.streams {
            let Some(member) = self.members.get(*client) else {
                continue;
            };
            let own = replacements.iter().filter(|own| own.client == *client);
            let skipped: Vec<u64> = own.map(|own| own.publication.position.offset).collect();
            let outbox = &member.outbox;
            match self.held.get_mut(client) {
                Some(held) => {
                    let bytes = bodies.bytes_len() + bodies.len() * positions.id_bytes_max();
                    let bodies = Arc::clone(&bodies);
                    held.add(HeldBatch::Events { bodies, skipped }, bytes, outbox);
                }
                None => abort_on_panic(outbox, || {
                    outbox.push_events(positions, name, &bodies, &skipped);
                }),
            }
        }
    }

    pub(super) fn close_members(&self, code: CloseCode) {
        for member in self.members.iter() {
            member.outbox.close(code);
        }
    }

    pub(super) fn summary(&self) -> RoomSummary {
        RoomSummary {
            name: self.name().clone(),
            members: self.member_count(),
        }
    }

    pub(super) fn local_members(&self, clients: &ConnectedClients) -> LocalMembers {
        let can_list = self.local_count() <= PRESENCE_LIST_MAX;
        LocalMembers {
            room: self.name().clone(),
            members: self.local_count(),
            clients: can_list.then(|| self.local_clients(clients).collect()),
        }
    }

    pub(super) fn detail(&self, clients: &ConnectedClients) -> RoomDetail {
        RoomDetail {
            members: self.member_count(),
            clients: self.listed_clients(clients),
            position: Some(self.position()),
        }
    }

    pub(super) fn presence_frames(
        &self,
        clients: &ConnectedClients,
        id: Option<&RequestId>,
    ) -> Frames {
        let clients = self.listed_clients(clients);
        let presence = ServerMessage::Presence {
            room: self.name(),
            members: self.member_count(),
            clients: clients.as_deref(),
        };
        presence.to_frames(id)
    }

    pub(super) fn send_presence_to_watchers(&self, clients: &ConnectedClients) {
        let frames = self.presence_frames(clients, None);
        // A held member has not received `joined` yet.
        let is_live = |member: &Member| !self.held.contains_key(&member.outbox.client());
        let watchers = self.members.iter().filter(|member| member.watches);
        for member in watchers.filter(|member| is_live(member)) {
            member.outbox.push(&frames);
        }
    }

    /// Returns the members on all nodes in the order of their ids, or `None` if there are too many to list.
    fn listed_clients(&self, clients: &ConnectedClients) -> Option<Vec<PresentClient>> {
        let remote = self.remote.clients.as_ref()?;
        (self.member_count() <= PRESENCE_LIST_MAX).then(|| {
            let local = self.local_clients(clients);
            let mut listed: Vec<_> = local.chain(remote.iter().cloned()).collect();
            listed.sort_unstable_by_key(|member| member.client);
            listed
        })
    }

    /// Returns the members on this node. Their users and states are looked up instead of stored here, because each fan-out
    /// walks the list of members.
    fn local_clients(&self, clients: &ConnectedClients) -> impl Iterator<Item = PresentClient> {
        self.members.iter().map(|member| {
            let id = member.outbox.client();
            let client = clients.get(&id);
            let membership = client.and_then(|client| client.membership(self.name()));
            PresentClient {
                client: id,
                user: client.and_then(|client| client.user.clone()),
                since: membership.map(|one| one.since.as_millis() as u64),
                state: membership.and_then(|one| one.state.clone()),
            }
        })
    }
}
