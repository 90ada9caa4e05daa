//! The life of a WebSocket session: its start, its loop, and its end.

use std::sync::Arc;
use std::time::Instant;

use crate::app::App;
use crate::auth::Identity;
use crate::broadcaster::Event;
use crate::limits::RateMeter;
use crate::metrics::GaugeGuard;
use crate::outbox::Outbox;
use crate::protocol::{
    Backlog, ClientId, CloseCode, ErrorCode, Refusal, RoomState, Scope, ServerMessage, SessionHash,
};
use crate::rooms::Seat;
use crate::session::resume::HeldRoom;
use crate::socket::Peer;
use crate::threads;

use super::rooms::{RequestedRoom, ReservedRoom, SessionStart};
use super::token_timer::TokenTimer;
use super::transport::{End, Incoming, OpenedWebSocket, Transport};

pub(super) fn serve(opened: OpenedWebSocket, start: SessionStart, scope: Option<Scope>, app: &App) {
    let OpenedWebSocket { peer, outbox, rest } = opened;
    let client = outbox.client();
    let Ok(mut transport) = Transport::new(rest, Arc::clone(&outbox), app) else {
        return;
    };
    log::debug!("{client} {peer} connected");
    let mut session = Session::new(app, peer, Arc::clone(&outbox), scope);
    session.start(start);
    let end = session.run(&mut transport);
    log::debug!("{client} {peer} disconnected: {}", session.describe(end));
    drop(session);
    let both_closed = end != End::Gone && transport.linger(end) && outbox.is_finished();
    if !both_closed {
        outbox.abort();
    }
}

/// A client's session, owned by its thread. Its memberships are the broadcaster's.
pub(super) struct Session<'a> {
    pub(super) app: &'a App,
    pub(super) peer: Peer,
    pub(super) client: ClientId,
    /// The `from` of the client's messages: its user, else its id.
    pub(super) from: Arc<str>,
    /// The scope of the client's publish ids.
    pub(super) scope: Scope,
    /// The session that the client chose, if it chose one.
    session: Option<SessionHash>,
    pub(super) outbox: Arc<Outbox>,
    /// `None` until a client that connected without a token has sent one.
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) token_timer: TokenTimer,
    pub(super) rate: RateMeter,
    /// In the order joined: a message without a room goes to the first.
    pub(super) rooms: Vec<Seat>,
    /// The rooms to join once the client has an identity.
    pub(super) requested: Vec<RequestedRoom>,
    _gauge: GaugeGuard,
}

impl<'a> Session<'a> {
    /// On the heap, like [`Transport`]: an idle client must touch no more than two pages of stack.
    #[inline(never)]
    fn new(app: &'a App, peer: Peer, outbox: Arc<Outbox>, scope: Option<Scope>) -> Box<Self> {
        app.metrics.handshakes.add(1);
        let client = outbox.client();
        let config = app.config.get();
        let limits = &config.limits;
        let now = Instant::now();
        Box::new(Self {
            app,
            peer,
            client,
            from: client.to_string().into(),
            session: scope.as_ref().and_then(SessionHash::of),
            scope: scope.unwrap_or(Scope::Connection(client)),
            outbox,
            identity: None,
            token_timer: TokenTimer::awaiting_token(now),
            rate: RateMeter::new(limits.request_rate, limits.max_message_bytes, now),
            rooms: Vec::new(),
            requested: Vec::new(),
            _gauge: app.metrics.clients.hold(),
        })
    }

    fn start(&mut self, start: SessionStart) {
        match start {
            SessionStart::Admitted { identity, rooms } => {
                self.set_identity(Arc::clone(&identity));
                self.join_first_rooms(rooms);
                self.close_if_revoked(&identity);
            }
            SessionStart::AwaitsToken { rooms } => {
                self.requested = rooms;
                let outbox = Arc::clone(&self.outbox);
                self.app.broadcaster.send(Event::AwaitAuth { outbox });
            }
        }
    }

    /// Joins the first rooms and welcomes the client. The broadcaster does both at once, unless the client
    /// must first receive stored messages.
    pub(super) fn join_first_rooms(&mut self, rooms: Vec<ReservedRoom>) {
        let backlogs: Vec<Backlog> = rooms.iter().map(|room| room.backlog).collect();
        self.rooms = rooms.into_iter().map(|room| room.seat).collect();
        let numberings = self.rooms.iter().map(|seat| Arc::clone(seat.numbering()));
        let user = self.identity.as_ref().and_then(|known| known.user.clone());
        let connect = |hold| Event::Connect {
            outbox: Arc::clone(&self.outbox),
            user,
            session: self.session,
            positions: None,
            rooms: numberings.collect(),
            hold,
        };
        if backlogs.iter().all(Backlog::is_none) {
            return self.app.broadcaster.send(connect(None));
        }
        threads::run_on_deep_stack(|| match self.app.broadcaster.hold(connect) {
            Some(states) => self.resume_first_rooms(states, &backlogs),
            None => self.outbox.close(CloseCode::InternalError),
        });
    }

    fn resume_first_rooms(&self, states: Vec<RoomState>, backlogs: &[Backlog]) {
        let held = states
            .into_iter()
            .zip(backlogs)
            .map(|(state, backlog)| HeldRoom::new(self.app, state, *backlog));
        let Some(held) = held.collect::<Option<Vec<HeldRoom>>>() else {
            return self.outbox.close(CloseCode::TryAgainLater);
        };
        let rooms: Vec<RoomState> = held.iter().map(|room| room.state.clone()).collect();
        let config = self.app.config.get();
        let welcome = ServerMessage::Welcome {
            text: &config.welcome,
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

    /// Serves the client until its connection ends.
    fn run(&mut self, transport: &mut Transport) -> End {
        loop {
            transport.wake_at(self.token_timer.next_at());
            match transport.next() {
                Incoming::Text(text) => {
                    let bytes = text.len().max(transport.weight());
                    self.request(text.as_str(), bytes);
                }
                Incoming::Binary(bytes) => self.refuse_binary(bytes.len().max(transport.weight())),
                Incoming::Control => {
                    self.count_control(transport);
                    // The thread is awake, so the token is checked now and the alarm need not wake the thread again.
                    self.check_token_timer(transport);
                }
                Incoming::Alarm => self.check_token_timer(transport),
                Incoming::End(end) => {
                    self.close(end);
                    return end;
                }
            }
        }
    }

    /// Sends the reason of an end that the server decided.
    fn close(&self, end: End) {
        match end {
            End::Failed(code) => {
                if code == CloseCode::TooBig {
                    let max = self.app.config.get().limits.max_message_bytes;
                    let message = format!("a message may have at most {max} bytes");
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

    /// The end of the session, for the log.
    fn describe(&self, end: End) -> String {
        match (self.outbox.closing(), end) {
            (Some(code), End::Silent) => format!("{} silent after a ping", code.number()),
            (Some(code), _) => format!("{} {}", code.number(), code.reason()),
            (None, End::ClosedByClient) => "closed by the client".to_owned(),
            (None, _) => "the socket ended without a close".to_owned(),
        }
    }
}

/// Runs at any end of the session, also at a panic. The broadcaster forgets the client first, so that nothing more
/// is sent to it; then the fields return its seats and decrement the gauge.
impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.app.broadcaster.send(Event::Disconnect {
            client: self.client,
        });
    }
}
