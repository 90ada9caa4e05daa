//! A room with members on this node: its numbering, its members and the batch that is to be sent to them.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use crate::outbox::Outbox;
use crate::protocol::{
    ClientId, CloseCode, FrameBuffer, Frames, Position, PresentClient, Publication, RequestId,
    RoomName, ServerMessage, write_event,
};
use crate::rooms::{LocalMembers, PRESENCE_LIST_MAX, RemoteMembers, RoomNumbering};

use super::connected_clients::ConnectedClients;
use super::fan_out::{Batch, FanOut, Helpers};
use super::held::HeldBatches;
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
    remote: RemoteMembers,
    /// The pending batch as WebSocket frames.
    batch: FrameBuffer,
    /// The pending batch as Server-Sent Events; empty while no member reads them.
    events: Vec<u8>,
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
            remote,
            batch: FrameBuffer::default(),
            events: Vec::new(),
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

    /// Adds a member or replaces its membership. Returns whether the client was not a member before.
    pub(super) fn add(&mut self, outbox: Arc<Outbox>, watches: bool, held: bool) -> bool {
        let client = outbox.client();
        let replaced = self.remove(client);
        if held {
            let after = self.position().offset;
            self.held.insert(client, HeldBatches::after(after));
        }
        self.members.add(Member {
            outbox,
            watches,
            held,
        });
        !replaced
    }

    /// Removes a member. Returns whether the client was one.
    pub(super) fn remove(&mut self, client: ClientId) -> bool {
        self.held.remove(&client);
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
                    member.outbox.push(batch);
                }
                ReleaseOutcome::Live
            }
            // The client read the held publications from the store, so it must not be sent them again.
            (None, Equal) => ReleaseOutcome::Live,
            (None, Less) => ReleaseOutcome::ReadOn(offset),
            (None, Greater) => ReleaseOutcome::Behind,
        };
        if outcome == ReleaseOutcome::Live {
            self.held.remove(&client);
            self.members.set_live(client);
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
    pub(super) fn add_pending(&mut self, publication: &Publication) {
        self.scratch.clear();
        publication.write_json(&mut self.scratch);
        self.batch.push_text(&self.scratch);
        if self.members.event_readers() > 0 {
            let position = Position {
                epoch: self.numbering.epoch(),
                offset: publication.offset,
            };
            write_event(&mut self.events, position, &self.scratch);
        }
    }

    /// Sends the pending batch to every live member and keeps it for every held one. Returns the number of
    /// deliveries.
    pub(super) fn flush(&mut self, helpers: &Helpers<FanOut>) -> u64 {
        if self.batch.is_empty() {
            return 0;
        }
        let (frames, publications) = self.batch.take();
        let events = mem::take(&mut self.events);
        let has_chunks = self.members.chunk_readers() > 0;
        let batch = Batch {
            frames,
            chunk: Frames::chunk(if has_chunks { &events } else { &[] }),
            events: Frames::from(events),
        };
        for (client, held) in &mut self.held {
            if let Some(member) = self.members.get(*client) {
                held.add(batch.for_wire(member.outbox.wire()), &member.outbox);
            }
        }
        let members = Arc::clone(self.members.list());
        helpers.run(&FanOut { members, batch });
        publications * self.members.len() as u64
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
        for member in self.members.iter().filter(|member| member.watches) {
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

    /// Returns the members on this node. Their users are looked up instead of stored, because a member takes memory in
    /// every room.
    fn local_clients(&self, clients: &ConnectedClients) -> impl Iterator<Item = PresentClient> {
        self.members.iter().map(|member| {
            let id = member.outbox.client();
            PresentClient {
                client: id,
                user: clients.get(&id).and_then(|client| client.user.clone()),
            }
        })
    }
}
