//! One client's conversation: how it begins, who the client is, and how it ends.

use std::sync::Arc;
use std::time::Instant;

use crate::app::App;
use crate::auth::Identity;
use crate::broadcaster::Event;
use crate::limits::RateMeter;
use crate::metrics::GaugeGuard;
use crate::outbox::{Outbox, Wire};
use crate::protocol::{
    ClientId, CloseCode, ErrorCode, Refusal, RequestId, RoomName, RoomState, Scope, ServerMessage,
    Since,
};
use crate::rooms::Seat;
use crate::session::new_outbox;
use crate::session::resume::HeldRoom;
use crate::socket::Peer;
use crate::threads;

use super::Upgraded;
use super::access::{Access, Due};
use super::handshake::{Entry, RoomsAsked, WantedRoom, open_later};
use super::transport::{End, Incoming, Transport};

pub(super) fn serve(upgraded: Upgraded, entry: Entry, scope: Option<Scope>, app: &App) {
    let Upgraded {
        client,
        peer,
        socket,
        rest,
    } = upgraded;
    let outbox = new_outbox(client, socket, Wire::WebSocket, app);
    let Ok(mut transport) = Transport::new(rest, Arc::clone(&outbox), app) else {
        return;
    };
    // Shutdown waits for it, so it is held until the socket is done with.
    let _slot = app.sessions.take();
    log::debug!("{client} {peer} connected");
    let mut session = Session::new(app, peer, Arc::clone(&outbox), scope);
    session.begin(entry);
    let end = session.converse(&mut transport);
    log::debug!("{client} {peer} disconnected: {}", session.reason(end));
    drop(session);
    if end != End::Gone {
        transport.linger();
    }
    outbox.abort();
}

/// What a client's thread knows of it; the members themselves are the broadcaster's.
pub(super) struct Session<'a> {
    pub(super) app: &'a App,
    peer: Peer,
    pub(super) client: ClientId,
    /// The same, as its messages bear it.
    pub(super) from: Arc<str>,
    /// Within what the ids of its publishes are compared.
    pub(super) scope: Scope,
    pub(super) outbox: Arc<Outbox>,
    pub(super) access: Access,
    pub(super) rate: RateMeter,
    /// In the order joined: the first is where a message without a room goes.
    pub(super) rooms: Vec<Seat>,
    /// What it asked for on connecting, until it is known who it is.
    asked: RoomsAsked,
    _counted: GaugeGuard,
}

impl<'a> Session<'a> {
    /// On the heap, as its [`Transport`] is: two pages of stack are to be enough for an idle client.
    #[inline(never)]
    fn new(app: &'a App, peer: Peer, outbox: Arc<Outbox>, scope: Option<Scope>) -> Box<Self> {
        app.metrics.handshakes.add(1);
        let (client, limits) = (outbox.client(), &app.config.limits);
        Box::new(Self {
            app,
            peer,
            client,
            from: client.to_string().into(),
            scope: scope.unwrap_or(Scope::Connection(client)),
            outbox,
            access: Access::new(None),
            rate: RateMeter::new(
                limits.request_rate,
                limits.max_message_bytes,
                Instant::now(),
            ),
            rooms: Vec::new(),
            asked: RoomsAsked::new(),
            _counted: app.metrics.clients.hold(),
        })
    }

    fn begin(&mut self, entry: Entry) {
        match entry {
            Entry::Known { identity, rooms } => {
                self.know(identity);
                self.enter(rooms);
            }
            Entry::Unknown { rooms } => {
                self.asked = rooms;
                let outbox = Arc::clone(&self.outbox);
                self.app.broadcaster.send(Event::AwaitAuth { outbox });
            }
            Entry::Refused(code) => self.outbox.close(code),
        }
    }

    /// From now on the client is who its token says.
    fn know(&mut self, identity: Arc<Identity>) {
        if let Some(user) = &identity.user {
            self.from = Arc::clone(user);
            self.scope = Scope::User(Arc::clone(user));
        }
        self.access = Access::new(Some(identity));
    }

    /// Joins the first rooms and welcomes the client: the broadcaster does both at once, unless the
    /// client comes back and must first be given what it missed.
    fn enter(&mut self, wanted: Vec<WantedRoom>) {
        let since: Vec<Option<Since>> = wanted.iter().map(|room| room.since).collect();
        self.rooms = wanted.into_iter().map(|room| room.seat).collect();
        let streams = self.rooms.iter().map(|seat| Arc::clone(seat.numbering()));
        let connect = |hold| Event::Connect {
            outbox: Arc::clone(&self.outbox),
            user: self.access.identity().ok().and_then(|who| who.user.clone()),
            rooms: streams.collect(),
            hold,
        };
        if since.iter().all(Option::is_none) {
            return self.app.broadcaster.send(connect(None));
        }
        threads::run_on_deep_stack(|| match self.app.broadcaster.hold(connect) {
            Some(states) => self.welcome_back(states, &since),
            None => self.outbox.close(CloseCode::InternalError),
        });
    }

    fn welcome_back(&self, states: Vec<RoomState>, since: &[Option<Since>]) {
        let held = states
            .into_iter()
            .zip(since)
            .map(|(state, since)| HeldRoom::new(self.app, state, *since));
        let Some(held) = held.collect::<Option<Vec<HeldRoom>>>() else {
            return self.outbox.close(CloseCode::TryAgainLater);
        };
        let rooms: Vec<RoomState> = held.iter().map(|room| room.state.clone()).collect();
        let welcome = ServerMessage::Welcome {
            text: &self.app.config.welcome,
            client: self.client,
            rooms: &rooms,
        };
        self.outbox.push(&welcome.to_frames(None));
        for room in held {
            if !room.go_live(self.app, &self.outbox) {
                return self.outbox.close(CloseCode::InternalError);
            }
        }
    }

    fn converse(&mut self, transport: &mut Transport) -> End {
        loop {
            transport.wake_at(self.access.next_at());
            match transport.next() {
                Incoming::Text(text) => {
                    let bytes = text.len().max(transport.weight());
                    self.request(text.as_str(), bytes);
                }
                Incoming::Binary(bytes) => self.refuse_binary(bytes.len().max(transport.weight())),
                Incoming::Control => self.count_control(transport.weight()),
                Incoming::Alarm => self.keep_appointment(),
                Incoming::End(end) => {
                    self.say_why(end);
                    return end;
                }
            }
        }
    }

    fn say_why(&self, end: End) {
        match end {
            End::Failed(code) => {
                if code == CloseCode::TooBig {
                    let most = self.app.config.limits.max_message_bytes;
                    let message = format!("a message may have at most {most} bytes");
                    self.refuse(None, &Refusal::new(ErrorCode::MessageTooLarge, message));
                }
                self.outbox.close(code);
            }
            End::Silent => {
                self.app.metrics.silent.add(1);
                self.outbox.close(CloseCode::GoingAway);
            }
            End::ClosedByClient | End::ClosedByServer | End::Gone => {}
        }
    }

    fn reason(&self, end: End) -> String {
        match (self.outbox.closing(), end) {
            (Some(code), End::Silent) => format!("{} silent after a ping", code.number()),
            (Some(code), _) => format!("{} {}", code.number(), code.reason()),
            (None, End::ClosedByClient) => "closed by the client".to_owned(),
            (None, _) => "the socket ended without a close".to_owned(),
        }
    }

    /// A first token lets the client in; a later one, of the same user, keeps it.
    pub(super) fn authenticate(
        &mut self,
        token: &str,
        id: Option<&RequestId>,
    ) -> Result<(), Refusal> {
        let identity = match self.app.admission.identify(Some(token), self.peer) {
            Ok(identity) => identity,
            Err(why) if self.access.is_known() => return Err(Refusal::from(&why)),
            Err(why) => return self.turn_away(id, &Refusal::from(&why), why.close_code()),
        };
        if let Ok(known) = self.access.identity()
            && known.user != identity.user
        {
            let message = "this token is another user's; connect anew with it";
            return Err(Refusal::new(ErrorCode::Forbidden, message));
        }
        let expires = identity.validity.map(|validity| validity.until.as_secs());
        let authenticated = ServerMessage::Authenticated {
            user: identity.user.as_deref(),
            expires,
        };
        let frames = authenticated.to_frames(id);
        if self.access.is_known() {
            self.know(Arc::clone(&identity));
            self.outbox.push(&frames);
            self.leave_what_is_lost(&identity);
            return Ok(());
        }
        let asked = std::mem::take(&mut self.asked);
        match open_later(asked, &identity, self.app) {
            Ok(rooms) => {
                self.know(identity);
                self.outbox.push(&frames);
                self.enter(rooms);
                Ok(())
            }
            Err(refusal) => {
                let code = match refusal.code {
                    ErrorCode::RoomFull => CloseCode::RoomFull,
                    ErrorCode::Forbidden => CloseCode::Forbidden,
                    // The server cannot let it in now.
                    _ => CloseCode::TryAgainLater,
                };
                self.turn_away(id, &refusal, code)
            }
        }
    }

    /// Says why, and ends the connection of one who was never let in.
    fn turn_away(
        &self,
        id: Option<&RequestId>,
        refusal: &Refusal,
        code: CloseCode,
    ) -> Result<(), Refusal> {
        self.refuse(id, refusal);
        self.outbox.close(code);
        Ok(())
    }

    /// Rooms that the new token no longer grants.
    fn leave_what_is_lost(&mut self, identity: &Identity) {
        let names = self.rooms.iter().map(|seat| seat.numbering().name());
        let lost: Vec<RoomName> = names
            .filter(|name| identity.may_subscribe(name).is_err())
            .cloned()
            .collect();
        for room in lost {
            let _is_a_member = self.leave(room, None);
        }
    }

    fn keep_appointment(&mut self) {
        match self.access.take_due(Instant::now()) {
            Some(Due::Warning(left)) => {
                let in_ms = left.as_millis() as u64;
                let warning = ServerMessage::TokenExpiring { in_ms };
                self.outbox.push(&warning.to_frames(None));
            }
            Some(Due::Close) => self.outbox.close(CloseCode::Unauthorized),
            None => {}
        }
    }
}

/// The end of a session, however it came: the broadcaster forgets the client first, so that nothing
/// more is sent to it, then whoever counts it does.
impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.app.broadcaster.send(Event::Disconnect {
            client: self.client,
        });
    }
}
