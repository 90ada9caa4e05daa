//! Publishes whose clients do not receive their messages: each is acknowledged once, in place of its message if possible.
//!
//! The message and the acknowledgement reach the broadcaster in any order, because with Redis they come from different
//! threads. A message that this node read from history comes without its publisher's wish, so the client receives it.

use std::collections::{HashMap, VecDeque};

use crate::protocol::{ClientId, Position, Publication, RequestId, RoomName, ServerMessage};
use crate::store::Acknowledgement;

use crate::broadcaster::state::BroadcasterState;

/// Publishes that are remembered as answered, although their clients are not in the room: they may join it again before
/// the message comes, which takes as long as Redis does.
const LEFT_MAX: usize = 1024;

type Key = (RoomName, Position);

/// The publishes of which only the message or only the acknowledgement has come.
#[derive(Default)]
pub(in crate::broadcaster) struct OwnPublishes {
    publishes: HashMap<Key, OwnPublish>,
    /// The publishes that were answered while their clients were not in the room, oldest first. Some may be forgotten already.
    left: VecDeque<Key>,
}

struct OwnPublish {
    client: ClientId,
    state: OwnPublishState,
}

enum OwnPublishState {
    /// The acknowledgement was sent in place of the message. The broker has not reported the publish yet.
    InPlace,
    /// The message has not come yet.
    Waiting(Option<RequestId>),
    /// The acknowledgement was sent because the client had left the room before the message came.
    Answered,
}

/// The frame that a member gets in place of a message.
pub(in crate::broadcaster) enum InPlace {
    /// The acknowledgement of the member's request, which may have an id.
    Answer(Option<RequestId>),
    /// An acknowledgement that only says which offset the message has.
    Marker,
}

impl OwnPublishes {
    /// Returns the frame that the publisher of a message gets in its place. The publisher is a member.
    pub(in crate::broadcaster) fn in_place(
        &mut self,
        client: ClientId,
        position: Position,
        message: &Publication,
    ) -> InPlace {
        let key = (message.room.clone(), position);
        match self.publishes.remove(&key).map(|own| own.state) {
            None => {
                let state = OwnPublishState::InPlace;
                self.publishes.insert(key, OwnPublish { client, state });
                InPlace::Answer(message.id.clone())
            }
            Some(OwnPublishState::Waiting(id)) => InPlace::Answer(id),
            Some(OwnPublishState::InPlace | OwnPublishState::Answered) => InPlace::Marker,
        }
    }

    #[cfg(test)]
    pub(in crate::broadcaster) fn is_empty(&self) -> bool {
        self.publishes.is_empty()
    }

    /// Remembers that a publish was answered while its client is not in the room.
    fn remember_answered(&mut self, key: Key, client: ClientId) {
        let state = OwnPublishState::Answered;
        self.left.push_back(key.clone());
        self.publishes.insert(key, OwnPublish { client, state });
        if self.left.len() > LEFT_MAX
            && let Some(oldest) = self.left.pop_front()
        {
            self.publishes.remove(&oldest);
        }
    }

    /// Forgets the publishes of a client that has disconnected.
    pub(in crate::broadcaster) fn forget(&mut self, client: ClientId) {
        if !self.publishes.is_empty() {
            self.publishes.retain(|_, own| own.client != client);
        }
    }

    /// Returns the requests of a client whose messages have not come yet. They count as answered from now on.
    fn take_waiting(
        &mut self,
        client: ClientId,
        room: &RoomName,
    ) -> Vec<(Position, Option<RequestId>)> {
        let mut waiting = Vec::new();
        for ((name, position), own) in &mut self.publishes {
            if own.client != client || name != room {
                continue;
            }
            if let OwnPublishState::Waiting(id) = &mut own.state {
                waiting.push((*position, id.take()));
                own.state = OwnPublishState::Answered;
            }
        }
        waiting
    }
}

impl BroadcasterState {
    /// Handles the broker's report of a publish: the client was sent the acknowledgement in place of the message, or will
    /// be, or is sent it now.
    pub(in crate::broadcaster) fn acknowledge(&mut self, acknowledgement: Acknowledgement) {
        let Acknowledgement {
            client,
            room,
            position,
            id,
        } = acknowledgement;
        let key = (room, position);
        // Nothing else is known of a publish before its report.
        if self.own_publishes.publishes.remove(&key).is_some() {
            return;
        }
        let room = self.rooms.get(&key.0);
        let has_come = room.is_some_and(|room| {
            let Position { epoch, offset } = room.position();
            epoch != position.epoch || offset >= position.offset
        });
        if !has_come && room.is_some_and(|room| room.has_member(client)) {
            let state = OwnPublishState::Waiting(id);
            let own = OwnPublish { client, state };
            self.own_publishes.publishes.insert(key, own);
            return;
        }
        self.send_ack(client, &key.0, position, id.as_ref());
        if !has_come && self.clients.contains_key(&client) {
            self.own_publishes.remember_answered(key, client);
        }
    }

    /// Acknowledges a message that reached its publisher like every other member.
    pub(in crate::broadcaster) fn acknowledge_delivered(
        &mut self,
        position: Position,
        message: &Publication,
    ) {
        if self.own_publishes.publishes.is_empty() {
            return;
        }
        let key = (message.room.clone(), position);
        let Some(own) = self.own_publishes.publishes.remove(&key) else {
            return;
        };
        if let OwnPublishState::Waiting(id) = own.state {
            self.send_ack(own.client, &message.room, position, id.as_ref());
        }
    }

    /// Acknowledges the publishes of a client that leaves the room before their messages come.
    pub(in crate::broadcaster) fn acknowledge_before_leaving(
        &mut self,
        client: ClientId,
        room: &RoomName,
    ) {
        if self.own_publishes.publishes.is_empty() {
            return;
        }
        for (position, id) in self.own_publishes.take_waiting(client, room) {
            self.send_ack(client, room, position, id.as_ref());
        }
    }

    /// Answers a request apart from its message. A request without an id gets no answer.
    fn send_ack(
        &self,
        client: ClientId,
        room: &RoomName,
        position: Position,
        id: Option<&RequestId>,
    ) {
        if let (Some(_), Some(connected)) = (id, self.clients.get(&client)) {
            let ack = ServerMessage::Ack {
                room,
                position,
                in_place: false,
            };
            connected.outbox.push(&ack.to_frames(id));
        }
    }
}
