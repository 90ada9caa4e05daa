//! One room: its numbering, its members, and the batch that waits to go out to them.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{HELD_BYTES_MAX, PRESENCE_LIST_MAX};
use crate::outbox::{Outbox, Wire};
use crate::protocol::{
    ClientId, CloseCode, FrameBuffer, Frames, Position, Publication, RequestId, RoomName,
    ServerMessage, write_event,
};

use super::events::{Released, RoomDetail, RoomSummary};
use crate::rooms::RoomNumbering;
use crate::rooms::{LocalMembers, RemoteMembers};

/// Bytes of a batch that go out before more are added, so that a batch stays far below an outbox.
const BATCH_BYTES_MAX: usize = 64 * 1024;

struct Member {
    outbox: Arc<Outbox>,
    /// Whether it is sent presence updates.
    watches: bool,
    /// What waits until its thread has read what it missed.
    held: Option<Box<Held>>,
}

/// Batches that a member gets later, as far as they fit.
struct Held {
    /// The offset after which they begin.
    from: u64,
    batches: Vec<Frames>,
    bytes: usize,
    /// Whether some had to be dropped; then all are, and the store has them.
    overflowed: bool,
}

impl Held {
    fn after(offset: u64) -> Box<Self> {
        Box::new(Self {
            from: offset,
            batches: Vec::new(),
            bytes: 0,
            overflowed: false,
        })
    }

    /// What is held follows in one burst, so it must fit the outbox with room to spare.
    fn add(&mut self, batch: &Frames, outbox: &Outbox) {
        self.bytes += batch.bytes().len();
        if self.bytes > HELD_BYTES_MAX.min(outbox.burst_bytes()) {
            self.overflowed = true;
            self.batches = Vec::new();
        }
        if !self.overflowed {
            self.batches.push(batch.clone());
        }
    }
}

/// A room that has members.
pub(super) struct Room {
    stream: Arc<RoomNumbering>,
    members: HashMap<ClientId, Member>,
    elsewhere: RemoteMembers,
    watchers: usize,
    batch: FrameBuffer,
    /// The same batch for those who read Server-Sent Events, if there are any.
    events: Vec<u8>,
    event_readers: usize,
    /// Reused for encoding one message after the other.
    scratch: Vec<u8>,
}

impl Room {
    pub(super) fn new(stream: Arc<RoomNumbering>, elsewhere: RemoteMembers) -> Self {
        stream.set_elsewhere(elsewhere.members);
        Self {
            stream,
            members: HashMap::new(),
            elsewhere,
            watchers: 0,
            batch: FrameBuffer::default(),
            events: Vec::new(),
            event_readers: 0,
            scratch: Vec::new(),
        }
    }

    pub(super) fn name(&self) -> &RoomName {
        self.stream.name()
    }

    /// Whether this is the numbering that the members were told.
    pub(super) fn follows(&self, stream: &Arc<RoomNumbering>) -> bool {
        Arc::ptr_eq(&self.stream, stream)
    }

    pub(super) fn position(&self) -> Position {
        self.stream.position()
    }

    /// Members on this node.
    pub(super) fn local_members(&self) -> usize {
        self.members.len()
    }

    /// Members on all nodes.
    pub(super) fn members(&self) -> usize {
        self.members.len() + self.elsewhere.members
    }

    pub(super) fn set_elsewhere(&mut self, elsewhere: RemoteMembers) {
        self.stream.set_elsewhere(elsewhere.members);
        self.elsewhere = elsewhere;
    }

    pub(super) fn has_watchers(&self) -> bool {
        self.watchers > 0
    }

    /// Says whether the client is new here.
    pub(super) fn add(&mut self, outbox: Arc<Outbox>, watches: bool, held: bool) -> bool {
        let client = outbox.client();
        self.event_readers += usize::from(outbox.wire() == Wire::Events);
        let member = Member {
            outbox,
            watches,
            held: held.then(|| Held::after(self.position().offset)),
        };
        let replaced = self.members.insert(client, member);
        if let Some(replaced) = &replaced {
            self.event_readers -= usize::from(replaced.outbox.wire() == Wire::Events);
        }
        self.watchers += usize::from(watches);
        self.watchers -= usize::from(replaced.as_ref().is_some_and(|member| member.watches));
        replaced.is_none()
    }

    pub(super) fn remove(&mut self, client: ClientId) {
        if let Some(member) = self.members.remove(&client) {
            self.watchers -= usize::from(member.watches);
            self.event_readers -= usize::from(member.outbox.wire() == Wire::Events);
        }
    }

    /// Nothing may be pending. A member that is not held, or not there, is as live as it can be.
    pub(super) fn release(&mut self, client: ClientId, reached: u64) -> Released {
        let offset = self.position().offset;
        let Some(member) = self.members.get_mut(&client) else {
            return Released::Live;
        };
        let Some(held) = member.held.take() else {
            return Released::Live;
        };
        if held.from == reached && !held.overflowed {
            for batch in &held.batches {
                member.outbox.push(batch);
            }
            return Released::Live;
        }
        match reached.cmp(&offset) {
            // What is held would be the second copy.
            Equal => Released::Live,
            Less => {
                member.held = Some(Held::after(offset));
                Released::ReadOn(offset)
            }
            Greater => {
                member.held = Some(Held::after(offset));
                Released::Behind
            }
        }
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.batch.is_empty()
    }

    pub(super) fn pending_is_full(&self) -> bool {
        self.batch.len() >= BATCH_BYTES_MAX
    }

    pub(super) fn add_pending(&mut self, publication: &Publication) {
        self.scratch.clear();
        publication.write_json(&mut self.scratch);
        self.batch.push_text(&self.scratch);
        if self.event_readers > 0 {
            let position = Position {
                epoch: self.stream.epoch(),
                offset: publication.offset,
            };
            write_event(&mut self.events, position, &self.scratch);
        }
    }

    /// Sends the batch to every member; says how many deliveries that were.
    pub(super) fn flush(&mut self) -> u64 {
        if self.batch.is_empty() {
            return 0;
        }
        let (frames, messages) = self.batch.take();
        let events = Frames::from(std::mem::take(&mut self.events));
        for member in self.members.values_mut() {
            let batch = match member.outbox.wire() {
                Wire::WebSocket => &frames,
                Wire::Events => &events,
            };
            match &mut member.held {
                None => member.outbox.push(batch),
                Some(held) => held.add(batch, &member.outbox),
            }
        }
        messages * self.members.len() as u64
    }

    pub(super) fn close_members(&self, code: CloseCode) {
        for member in self.members.values() {
            member.outbox.close(code);
        }
    }

    pub(super) fn summary(&self) -> RoomSummary {
        RoomSummary {
            name: self.name().clone(),
            members: self.members(),
        }
    }

    pub(super) fn local(&self) -> LocalMembers {
        LocalMembers {
            room: self.name().clone(),
            members: self.local_members(),
            clients: (self.local_members() <= PRESENCE_LIST_MAX)
                .then(|| self.members.keys().copied().collect()),
        }
    }

    pub(super) fn detail(&self) -> RoomDetail {
        RoomDetail {
            members: self.members(),
            clients: self.listed_clients(),
            position: Some(self.position()),
        }
    }

    pub(super) fn presence_frames(&self, id: Option<&RequestId>) -> Frames {
        let clients = self.listed_clients();
        let (room, members) = (self.name(), self.members());
        ServerMessage::Presence {
            room,
            members,
            clients: clients.as_deref(),
        }
        .to_frames(id)
    }

    pub(super) fn send_presence_to_watchers(&self) {
        let frames = self.presence_frames(None);
        for member in self.members.values().filter(|member| member.watches) {
            member.outbox.push(&frames);
        }
    }

    fn listed_clients(&self) -> Option<Vec<ClientId>> {
        let elsewhere = self.elsewhere.clients.as_ref()?;
        (self.members() <= PRESENCE_LIST_MAX).then(|| {
            let here = self.members.keys();
            let mut clients: Vec<_> = here.chain(elsewhere).copied().collect();
            clients.sort_unstable();
            clients
        })
    }
}
