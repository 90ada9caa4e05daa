//! What a client may ask once it is there: each request is understood, answered or handed on.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::broadcaster::Event;
use crate::broker::ReplyTo;
use crate::limits::Exceeded;
use crate::protocol::{
    ClientMessage, ClientRequest, CloseCode, ErrorCode, PAGE_BYTES_MAX, PAGE_MESSAGES_DEFAULT,
    PAGE_MESSAGES_MAX, PublishRequest, Refusal, RequestId, RoomName, RoomState, ServerMessage,
    Since,
};
use crate::rooms::{RoomNumbering, Seat};
use crate::session::resume::HeldRoom;
use crate::store::{HistoryQuery, Publish};
use crate::threads;

use super::session::Session;

impl Session<'_> {
    /// Not inlined, so that a client that only listens never touches the stack it takes.
    #[inline(never)]
    pub(super) fn request(&mut self, text: &str, bytes: usize) {
        self.app.metrics.requests.add(1);
        let understood = ClientMessage::parse(text);
        if let Err(exceeded) = self.rate.count(bytes, Instant::now()) {
            let id = match &understood {
                Ok(request) => request.id.as_ref(),
                Err(refused) => refused.id.as_ref(),
            };
            return self.slow_down(id, exceeded);
        }
        match understood {
            Ok(ClientRequest { id, message }) => {
                if let Err(refusal) = self.act(message, id.clone()) {
                    self.refuse(id.as_ref(), &refusal);
                }
            }
            Err(refused) => self.refuse(refused.id.as_ref(), &refused.refusal),
        }
    }

    /// What is refused has been read, and so counts.
    pub(super) fn refuse_binary(&mut self, bytes: usize) {
        if let Err(exceeded) = self.rate.count(bytes, Instant::now()) {
            return self.slow_down(None, exceeded);
        }
        let message = "send text; binary frames are not relayed";
        self.refuse(None, &Refusal::new(ErrorCode::BinaryUnsupported, message));
    }

    /// Pings count as requests do. One too many is answered all the same, as RFC 6455 §5.5.2 wants it;
    /// who goes on is closed.
    pub(super) fn count_control(&mut self, bytes: usize) {
        if let Err(exceeded) = self.rate.count(bytes, Instant::now()) {
            self.app.metrics.rate_limited.add(1);
            if exceeded.is_abuse {
                self.outbox.close(CloseCode::RateLimited);
            }
        }
    }

    fn slow_down(&self, id: Option<&RequestId>, exceeded: Exceeded) {
        self.app.metrics.rate_limited.add(1);
        let message = "too much in too short a time; nothing was done";
        let mut refusal = Refusal::new(ErrorCode::RateLimited, message);
        refusal.retry_after = Some(exceeded.retry_after);
        self.refuse(id, &refusal);
        if exceeded.is_abuse {
            self.outbox.close(CloseCode::RateLimited);
        }
    }

    pub(super) fn refuse(&self, id: Option<&RequestId>, refusal: &Refusal) {
        self.app.metrics.requests_refused.add(1);
        self.outbox
            .push(&ServerMessage::Error(refusal).to_frames(id));
    }

    /// `Err` is answered by the caller; every `Ok` has been or will be answered once by whoever took
    /// the request on.
    fn act(&mut self, message: ClientMessage<'_>, id: Option<RequestId>) -> Result<(), Refusal> {
        if !matches!(message, ClientMessage::Auth { .. } | ClientMessage::Ping) {
            self.access.identity()?;
        }
        match message {
            ClientMessage::Publish(publish) => self.publish(publish, id),
            ClientMessage::Join {
                room,
                presence,
                since,
            } => self.join(room, presence, since, id),
            ClientMessage::History { room, since, limit } => {
                self.history(&room, since, limit, id.as_ref())
            }
            ClientMessage::Leave { room } => self.leave(room, id),
            ClientMessage::Presence { room } => {
                self.joined(&room)?;
                let client = self.client;
                self.app
                    .broadcaster
                    .send(Event::Presence { client, room, id });
                Ok(())
            }
            ClientMessage::Auth { token } => self.authenticate(&token, id.as_ref()),
            ClientMessage::Ping => {
                self.outbox
                    .push(&ServerMessage::Pong.to_frames(id.as_ref()));
                Ok(())
            }
        }
    }

    fn publish(&self, publish: PublishRequest<'_>, id: Option<RequestId>) -> Result<(), Refusal> {
        let stream = match &publish.room {
            Some(room) => self.joined(room)?,
            None => self.rooms.first().ok_or_else(not_in_any_room)?.numbering(),
        };
        self.access.identity()?.may_publish(stream.name())?;
        let publish = Publish {
            room: stream.name().clone(),
            from: Arc::clone(&self.from),
            kind: publish.kind,
            payload: publish.payload.into(),
            id,
            scope: Some(self.scope.clone()),
        };
        let reply_to = ReplyTo::Outbox(Arc::clone(&self.outbox));
        self.app
            .broker
            .publish(publish, reply_to)
            .map_err(Refusal::from)
    }

    fn join(
        &mut self,
        room: RoomName,
        presence: bool,
        since: Option<Since>,
        id: Option<RequestId>,
    ) -> Result<(), Refusal> {
        let stream = match self.joined(&room) {
            Ok(stream) => Arc::clone(stream),
            Err(_) => {
                self.app.admission.check_room_count(self.rooms.len() + 1)?;
                self.access.identity()?.may_subscribe(&room)?;
                let seat = self.app.admission.take_seat(&room)?;
                let stream = Arc::clone(seat.numbering());
                self.rooms.push(seat);
                stream
            }
        };
        let client = self.client;
        let answer_id = id.clone();
        let join = |hold| Event::Join {
            client,
            numbering: stream,
            presence,
            hold,
            id,
        };
        match since {
            None => self.app.broadcaster.send(join(None)),
            Some(since) => {
                threads::run_on_deep_stack(|| self.resume(join, since, answer_id.as_ref()))
            }
        }
        Ok(())
    }

    fn resume(
        &self,
        join: impl FnOnce(Option<Sender<Vec<RoomState>>>) -> Event,
        since: Since,
        id: Option<&RequestId>,
    ) {
        let held = self.app.broadcaster.hold(join);
        let Some(state) = held.and_then(|mut states| states.pop()) else {
            return self.outbox.close(CloseCode::InternalError);
        };
        let Some(room) = HeldRoom::new(self.app, state, Some(since)) else {
            return self.outbox.close(CloseCode::TryAgainLater);
        };
        self.outbox
            .push(&ServerMessage::Joined(&room.state).to_frames(id));
        if !room.go_live(self.app, &self.outbox) {
            self.outbox.close(CloseCode::InternalError);
        }
    }

    fn history(
        &self,
        room: &RoomName,
        since: Option<u64>,
        limit: Option<usize>,
        id: Option<&RequestId>,
    ) -> Result<(), Refusal> {
        let stream = self.joined(room)?;
        let limit = limit.unwrap_or(PAGE_MESSAGES_DEFAULT);
        let slice = HistoryQuery {
            since,
            messages_max: limit.clamp(1, PAGE_MESSAGES_MAX),
            bytes_max: PAGE_BYTES_MAX,
        };
        threads::run_on_deep_stack(|| {
            let page = self.app.broker.history(stream, slice)?;
            self.outbox
                .push_or_wait(&ServerMessage::History(&page).to_frames(id));
            Ok(())
        })
    }

    pub(super) fn leave(&mut self, room: RoomName, id: Option<RequestId>) -> Result<(), Refusal> {
        self.joined(&room)?;
        self.app.broadcaster.send(Event::Leave {
            client: self.client,
            room: room.clone(),
            id,
        });
        // Whoever takes the seat next joins after this one has left.
        self.rooms.retain(|seat| *seat.numbering().name() != room);
        Ok(())
    }

    fn joined(&self, room: &RoomName) -> Result<&Arc<RoomNumbering>, Refusal> {
        let mut streams = self.rooms.iter().map(Seat::numbering);
        let stream = streams.find(|stream| stream.name() == room);
        stream.ok_or_else(|| {
            Refusal::new(
                ErrorCode::NotInRoom,
                format!("you are not in {room}; join it first"),
            )
        })
    }
}

fn not_in_any_room() -> Refusal {
    Refusal::new(ErrorCode::NotInRoom, "you are in no room; join one first")
}
