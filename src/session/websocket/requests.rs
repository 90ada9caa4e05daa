//! The requests of a session's client: each is parsed, counted, and carried out or refused.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::admission::PublishedOver;
use crate::broadcaster::Event;
use crate::broker::ReplyTo;
use crate::limits::Exceeded;
use crate::protocol::{
    Backlog, ClientMessage, ClientRequest, CloseCode, ErrorCode, MemberState, PAGE_BYTES_MAX,
    PAGE_MESSAGES_DEFAULT, PAGE_MESSAGES_MAX, PublishRequest, Refusal, RequestId, RoomName,
    RoomState, ServerMessage, StateChange,
};
use crate::rooms::{Exclusion, RoomNumbering, Seat};
use crate::session::resume::HeldRoom;
use crate::store::{HistoryQuery, Publish};
use crate::threads;

use super::session::Session;
use super::transport::Transport;

impl Session<'_> {
    /// Handles one text frame, which counts as `bytes` bytes.
    ///
    /// Not inlined, so that a client that sends nothing never touches the stack that this takes.
    #[inline(never)]
    pub(super) fn request(&mut self, text: &str, bytes: usize) {
        self.app.metrics.requests.add(1);
        let parsed = ClientMessage::parse(text);
        let now = Instant::now();
        if let Err(exceeded) = self.rate.count(bytes, now) {
            let id = match &parsed {
                Ok(request) => request.id.as_ref(),
                Err(error) => error.id.as_ref(),
            };
            return self.refuse_rate_limited(id, exceeded);
        }
        match parsed {
            Ok(ClientRequest { id, message }) => {
                if let Err(refusal) = self.act(message, id.clone(), now) {
                    self.refuse(id.as_ref(), &refusal);
                }
            }
            Err(error) => self.refuse(error.id.as_ref(), &error.refusal),
        }
    }

    /// Refuses a binary frame, which counts against the rate because it was read.
    pub(super) fn refuse_binary(&mut self, bytes: usize) {
        if let Err(exceeded) = self.rate.count(bytes, Instant::now()) {
            return self.refuse_rate_limited(None, exceeded);
        }
        let message = "send text; binary frames are not relayed";
        self.refuse(None, &Refusal::new(ErrorCode::BinaryUnsupported, message));
    }

    /// Counts a Ping or Pong like a request. A Ping over the rate still gets its Pong (RFC 6455 §5.5.2), but a client
    /// that does not stop is closed.
    pub(super) fn count_control(&mut self, transport: &mut Transport) {
        if let Err(exceeded) = self.rate.count(transport.weight(), Instant::now()) {
            self.app.metrics.rate_limited.add(1);
            if exceeded.is_abuse {
                transport.send_pongs();
                self.outbox.close(CloseCode::RateLimited);
            }
        }
    }

    fn refuse_rate_limited(&self, id: Option<&RequestId>, exceeded: Exceeded) {
        self.app.metrics.rate_limited.add(1);
        let message = "too many requests; this one was not carried out";
        let mut refusal = Refusal::new(ErrorCode::RateLimited, message);
        refusal.retry_after = Some(exceeded.retry_after);
        self.refuse(id, &refusal);
        if exceeded.is_abuse {
            self.outbox.close(CloseCode::RateLimited);
        }
    }

    /// Sends an `error` for a request.
    pub(super) fn refuse(&self, id: Option<&RequestId>, refusal: &Refusal) {
        self.app.metrics.requests_refused.add(1);
        self.outbox
            .push(&ServerMessage::Error(refusal).to_frames(id));
    }

    /// Carries out a request. On `Err` the caller replies; on `Ok` this method, the broadcaster or the broker replies,
    /// exactly once.
    fn act(
        &mut self,
        message: ClientMessage<'_>,
        id: Option<RequestId>,
        now: Instant,
    ) -> Result<(), Refusal> {
        if !matches!(message, ClientMessage::Auth { .. } | ClientMessage::Ping) {
            self.identity()?;
        }
        match message {
            ClientMessage::Publish(publish) => self.publish(publish, id, now),
            ClientMessage::Join {
                room,
                presence,
                backlog,
                state,
            } => self.join(room, presence, backlog, state, id),
            ClientMessage::State { room, state } => self.set_state(room, state, id),
            ClientMessage::History { room, since, limit } => {
                self.history(&room, since, limit, id.as_ref())
            }
            ClientMessage::Leave { room } => self.leave(room, id),
            ClientMessage::Presence { room } => self.presence(room, id),
            ClientMessage::Auth { token } => self.authenticate(&token, id.as_ref()),
            ClientMessage::Ping => {
                self.outbox
                    .push(&ServerMessage::Pong.to_frames(id.as_ref()));
                Ok(())
            }
        }
    }

    fn publish(
        &self,
        publish: PublishRequest<'_>,
        id: Option<RequestId>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let numbering = match &publish.room {
            Some(room) => self.joined(room)?,
            None => self.rooms.first().ok_or_else(not_in_any_room)?.numbering(),
        };
        let room = numbering.name();
        let identity = self.identity()?;
        identity.may_publish(room)?;
        let bytes = publish.payload.len();
        self.app
            .admission
            .check_publish(room, identity, PublishedOver::Session, bytes)?;
        let publish = Publish {
            room: room.clone(),
            from: Arc::clone(&self.from),
            kind: publish.kind,
            payload: publish.payload.into(),
            id,
            scope: Some(self.scope.clone()),
            ttl: publish.ttl,
            except: (!publish.echo).then_some(Exclusion::Client(self.client)),
            received: now,
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
        backlog: Backlog,
        state: StateChange,
        id: Option<RequestId>,
    ) -> Result<(), Refusal> {
        let numbering = match self.joined(&room) {
            Ok(numbering) => Arc::clone(numbering),
            Err(_) => self.take_seat(&room)?,
        };
        let client = self.client;
        let reply_id = id.clone();
        let join = |hold| Event::Join {
            client,
            numbering,
            presence,
            hold,
            state,
            id,
        };
        if backlog.is_none() {
            self.app.broadcaster.send(join(None));
        } else {
            threads::run_on_deep_stack(|| self.resume(join, backlog, reply_id.as_ref()));
        }
        Ok(())
    }

    /// Takes a seat in one more room.
    fn take_seat(&mut self, room: &RoomName) -> Result<Arc<RoomNumbering>, Refusal> {
        let admission = &self.app.admission;
        admission.check_room_count(self.rooms.len() + 1)?;
        self.identity()?.may_subscribe(room)?;
        let seat = admission.take_seat(room, self.peer)?;
        let numbering = Arc::clone(seat.numbering());
        self.rooms.push(seat);
        Ok(numbering)
    }

    fn resume(
        &self,
        join: impl FnOnce(Option<Sender<Vec<RoomState>>>) -> Event,
        backlog: Backlog,
        id: Option<&RequestId>,
    ) {
        let held = self.app.broadcaster.hold(join);
        let Some(state) = held.and_then(|mut states| states.pop()) else {
            return self.outbox.close(CloseCode::InternalError);
        };
        let Some(room) = HeldRoom::new(self.app, state, backlog) else {
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
        let numbering = self.joined(room)?;
        let limit = limit.unwrap_or(PAGE_MESSAGES_DEFAULT);
        let query = HistoryQuery {
            since,
            messages_max: limit.clamp(1, PAGE_MESSAGES_MAX),
            bytes_max: PAGE_BYTES_MAX,
            until: None,
        };
        threads::run_on_deep_stack(|| {
            let page = self.app.broker.history(numbering, query)?;
            self.outbox
                .push_or_wait(&ServerMessage::History(&page).to_frames(id));
            Ok(())
        })
    }

    fn presence(&self, room: RoomName, id: Option<RequestId>) -> Result<(), Refusal> {
        self.joined(&room)?;
        self.app.admission.check_presence(&room)?;
        let client = self.client;
        self.app
            .broadcaster
            .send(Event::Presence { client, room, id });
        Ok(())
    }

    fn set_state(
        &self,
        room: RoomName,
        state: Option<MemberState>,
        id: Option<RequestId>,
    ) -> Result<(), Refusal> {
        self.joined(&room)?;
        self.app.admission.check_presence(&room)?;
        let client = self.client;
        self.app.broadcaster.send(Event::State {
            client,
            room,
            state,
            id,
        });
        Ok(())
    }

    pub(super) fn leave(&mut self, room: RoomName, id: Option<RequestId>) -> Result<(), Refusal> {
        self.joined(&room)?;
        self.app.broadcaster.send(Event::Leave {
            client: self.client,
            room: room.clone(),
            id,
        });
        // The seat is returned last, because its next owner must join after this client has left.
        self.rooms.retain(|seat| *seat.numbering().name() != room);
        Ok(())
    }

    /// Returns the numbering of a room that the client is in.
    fn joined(&self, room: &RoomName) -> Result<&Arc<RoomNumbering>, Refusal> {
        self.rooms
            .iter()
            .map(Seat::numbering)
            .find(|numbering| numbering.name() == room)
            .ok_or_else(|| {
                let message = format!("you are not in {room}; join it first");
                Refusal::new(ErrorCode::NotInRoom, message)
            })
    }
}

fn not_in_any_room() -> Refusal {
    Refusal::new(ErrorCode::NotInRoom, "you are in no room; join one first")
}
