//! A broadcaster whose clock, events and clients belong to the test.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use serde_json::Value;

use crate::broadcaster::event::Event;
use crate::broadcaster::reply::ReleaseOutcome;
use crate::broadcaster::state::BroadcasterState;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, OutboxLimits, Wire};
use crate::protocol::{
    ClientId, Epoch, Kind, PresentClient, Publication, RequestId, RoomName, RoomState,
};
use crate::rooms::{RemoteMembers, RoomNumbering};
use crate::socket::Socket;

/// The text of the welcome.
pub(super) const WELCOME: &str = "hello";
/// An outbox of this size takes bursts of up to 1 KiB, which is fewer than ten publications.
const OUTBOX_BYTES: usize = 4096;
/// A number of publications that exceeds the limit on held batches with such an outbox.
pub(super) const TOO_MANY_TO_HOLD: usize = 20;

/// The broadcaster's state, stepped by the test.
pub(super) struct TestBroadcaster {
    pub(super) state: BroadcasterState,
    pub(super) metrics: Arc<Metrics>,
    pub(super) now: Instant,
    clients_started: u64,
}

impl TestBroadcaster {
    pub(super) fn new() -> Self {
        let metrics = Arc::new(Metrics::default());
        Self {
            state: BroadcasterState::new(WELCOME.to_owned(), Arc::clone(&metrics)),
            metrics,
            now: Instant::now(),
            clients_started: 0,
        }
    }

    /// Handles events that arrive together, as the loop does.
    pub(super) fn handle(&mut self, events: impl IntoIterator<Item = Event>) {
        let flow = self.state.handle_batch(events.into_iter(), self.now);
        assert!(flow.is_continue(), "only Stop ends the loop");
    }

    /// Lets time pass, then does the work that is due, as the loop does when no event arrives.
    pub(super) fn advance(&mut self, time: Duration) {
        self.now += time;
        self.state.do_due_work(self.now);
    }

    /// Handles a request and returns the reply.
    pub(super) fn request<T>(&mut self, event: impl FnOnce(Sender<T>) -> Event) -> T {
        let (reply, receiver) = bounded(1);
        self.handle([event(reply)]);
        receiver.try_recv().expect("the request has a reply")
    }

    /// A client that has a socket but was not yet made known to the broadcaster.
    pub(super) fn client(&mut self) -> TestClient {
        self.client_with(Wire::WebSocket)
    }

    pub(super) fn client_with(&mut self, wire: Wire) -> TestClient {
        self.clients_started += 1;
        let id = ClientId::new(7, self.clients_started);
        TestClient::new(id, Arc::clone(&self.metrics), wire)
    }

    /// A client that is a live member of these rooms and has read its welcome.
    pub(super) fn member_of(&mut self, rooms: &[&TestRoom]) -> TestClient {
        let mut client = self.client();
        self.handle([client.connect(rooms)]);
        assert_eq!(client.frames().len(), 1, "the welcome");
        client
    }

    /// A client that is a held member of a room, with the state that its thread received.
    pub(super) fn held_member_of(&mut self, room: &TestRoom) -> (TestClient, RoomState) {
        let client = self.client();
        let mut states = self.request(|hold| client.connect_held(&[room], hold));
        (client, states.pop().expect("the state of the room"))
    }

    pub(super) fn release(
        &mut self,
        client: &TestClient,
        room: &TestRoom,
        reached: u64,
    ) -> ReleaseOutcome {
        self.request(|reply| client.release(room, reached, reply))
    }
}

/// A room's numbering, with the last assigned offset, which a store would keep.
pub(super) struct TestRoom {
    pub(super) numbering: Arc<RoomNumbering>,
    last: Cell<u64>,
}

impl TestRoom {
    pub(super) fn new(name: &str) -> Self {
        let name = RoomName::parse(name).expect("a room name");
        Self {
            numbering: Arc::new(RoomNumbering::new(name, Epoch::random(), 0)),
            last: Cell::new(0),
        }
    }

    /// The same room with a new epoch.
    pub(super) fn renumbered(&self) -> Self {
        Self::new(self.name().as_str())
    }

    pub(super) fn name(&self) -> RoomName {
        self.numbering.name().clone()
    }

    pub(super) fn epoch(&self) -> String {
        self.numbering.epoch().to_string()
    }

    /// The delivery of the next publication, whose payload is its offset.
    pub(super) fn publish(&self) -> Event {
        self.publish_json(&(self.last.get() + 1).to_string())
    }

    pub(super) fn publish_json(&self, payload: &str) -> Event {
        let offset = self.last.get() + 1;
        self.last.set(offset);
        Event::Deliver {
            numbering: Arc::clone(&self.numbering),
            publication: Arc::new(Publication {
                room: self.name(),
                offset,
                id: None,
                from: "publisher".into(),
                ts: 1,
                kind: Kind::Message,
                payload: payload.into(),
            }),
        }
    }

    /// The deliveries of the next `count` publications.
    pub(super) fn publish_many(&self, count: usize) -> Vec<Event> {
        (0..count).map(|_| self.publish()).collect()
    }

    pub(super) fn restart(&self) -> Event {
        Event::Restart { room: self.name() }
    }

    /// These members on other nodes.
    pub(super) fn remote(&self, clients: &[PresentClient]) -> Event {
        let remote = RemoteMembers {
            members: clients.len(),
            clients: Some(clients.to_vec()),
        };
        Event::RemoteMembers {
            room: self.name(),
            remote,
        }
    }
}

/// Returns `count` clients without a user on another node.
pub(super) fn remote_clients(count: u64) -> Vec<PresentClient> {
    let id = |n| ClientId::new(9, n);
    (1..=count).map(|n| without_user(id(n))).collect()
}

/// Returns a client as lists of members show it.
pub(super) fn with_user(client: ClientId, user: &str) -> PresentClient {
    let user = Some(user.into());
    PresentClient { client, user }
}

/// Returns a client without a user as lists of members show it.
pub(super) fn without_user(client: ClientId) -> PresentClient {
    PresentClient { client, user: None }
}

pub(super) fn request_id(text: &str) -> RequestId {
    RequestId::parse(text).expect("a request id")
}

/// A frame that a client received.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ReceivedFrame {
    Text(Value),
    /// A Close frame with this code.
    Close(u16),
}

/// A client's outbox and the other end of its socket.
pub(super) struct TestClient {
    pub(super) outbox: Arc<Outbox>,
    stream: UnixStream,
}

impl TestClient {
    fn new(id: ClientId, metrics: Arc<Metrics>, wire: Wire) -> Self {
        let (server, stream) = UnixStream::pair().expect("a socket pair");
        stream.set_nonblocking(true).expect("a non-blocking socket");
        let limits = OutboxLimits {
            bytes: OUTBOX_BYTES,
            slow_timeout: Duration::from_secs(60),
        };
        let outbox = Outbox::new(id, Socket::new(server), limits, metrics, wire);
        Self { outbox, stream }
    }

    pub(super) fn id(&self) -> ClientId {
        self.outbox.client()
    }

    pub(super) fn connect(&self, rooms: &[&TestRoom]) -> Event {
        self.connect_event(None, rooms, None)
    }

    pub(super) fn connect_as(&self, user: &str, rooms: &[&TestRoom]) -> Event {
        self.connect_event(Some(user), rooms, None)
    }

    pub(super) fn connect_held(&self, rooms: &[&TestRoom], hold: Sender<Vec<RoomState>>) -> Event {
        self.connect_event(None, rooms, Some(hold))
    }

    fn connect_event(
        &self,
        user: Option<&str>,
        rooms: &[&TestRoom],
        hold: Option<Sender<Vec<RoomState>>>,
    ) -> Event {
        let numbering = |room: &&TestRoom| Arc::clone(&room.numbering);
        Event::Connect {
            outbox: Arc::clone(&self.outbox),
            user: user.map(Into::into),
            rooms: rooms.iter().map(numbering).collect(),
            hold,
        }
    }

    pub(super) fn join(&self, room: &TestRoom) -> Event {
        self.join_event(room, false, None)
    }

    pub(super) fn join_and_watch(&self, room: &TestRoom) -> Event {
        self.join_event(room, true, None)
    }

    pub(super) fn join_held(&self, room: &TestRoom, hold: Sender<Vec<RoomState>>) -> Event {
        self.join_event(room, false, Some(hold))
    }

    fn join_event(
        &self,
        room: &TestRoom,
        presence: bool,
        hold: Option<Sender<Vec<RoomState>>>,
    ) -> Event {
        Event::Join {
            client: self.id(),
            numbering: Arc::clone(&room.numbering),
            presence,
            hold,
            id: Some(request_id("join")),
        }
    }

    pub(super) fn release(
        &self,
        room: &TestRoom,
        reached: u64,
        reply: Sender<ReleaseOutcome>,
    ) -> Event {
        Event::Release {
            client: self.id(),
            room: room.name(),
            reached,
            reply,
        }
    }

    pub(super) fn leave(&self, room: &TestRoom) -> Event {
        Event::Leave {
            client: self.id(),
            room: room.name(),
            id: Some(request_id("leave")),
        }
    }

    pub(super) fn ask_presence(&self, room: &TestRoom) -> Event {
        Event::Presence {
            client: self.id(),
            room: room.name(),
            id: Some(request_id("presence")),
        }
    }

    pub(super) fn disconnect(&self) -> Event {
        Event::Disconnect { client: self.id() }
    }

    /// Reads every frame that has arrived.
    pub(super) fn frames(&mut self) -> Vec<ReceivedFrame> {
        let bytes = self.bytes();
        let mut rest = &bytes[..];
        let mut frames = Vec::new();
        while !rest.is_empty() {
            frames.push(parse_frame(&mut rest));
        }
        frames
    }

    /// Reads every frame that has arrived; none of them may be a Close frame.
    pub(super) fn messages(&mut self) -> Vec<Value> {
        let text = |frame| match frame {
            ReceivedFrame::Text(message) => message,
            ReceivedFrame::Close(code) => panic!("closed with {code}"),
        };
        self.frames().into_iter().map(text).collect()
    }

    /// Reads every frame that has arrived and returns the offsets; all frames must be publications.
    pub(super) fn offsets(&mut self) -> Vec<u64> {
        let offset = |message: Value| {
            let offset = message["offset"].as_u64();
            offset.unwrap_or_else(|| panic!("not a publication: {message}"))
        };
        self.messages().into_iter().map(offset).collect()
    }

    /// Reads every frame that has arrived and returns the code if that is one Close frame and nothing else.
    pub(super) fn close_code(&mut self) -> Option<u16> {
        match self.frames()[..] {
            [] => None,
            [ReceivedFrame::Close(code)] => Some(code),
            ref others => panic!("more than a Close frame: {others:?}"),
        }
    }

    /// Reads all bytes that have arrived.
    pub(super) fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        bytes
    }

    /// Blocks until the server has sent its last byte, then returns the frames that arrived.
    pub(super) fn frames_until_end(&mut self) -> Vec<ReceivedFrame> {
        self.stream
            .set_nonblocking(false)
            .expect("a blocking socket");
        let timeout = Some(Duration::from_secs(60));
        self.stream.set_read_timeout(timeout).expect("a time-out");
        let frames = self.frames();
        let more = self.stream.read(&mut [0]).expect("the end");
        assert_eq!(more, 0, "the server sent its last byte");
        frames
    }

    /// Returns whether the server still reads from the connection.
    pub(super) fn can_send(&mut self) -> bool {
        self.stream.write_all(b"x").is_ok()
    }
}

/// Removes the first frame from `bytes`: unmasked and whole, as the server sends every frame (RFC 6455 §5.2).
fn parse_frame(bytes: &mut &[u8]) -> ReceivedFrame {
    let (opcode, length_byte) = (bytes[0] & 0x0F, bytes[1]);
    let (header, length) = match length_byte {
        126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
        127 => {
            let length = bytes[2..10].iter().fold(0, |n, b| n << 8 | usize::from(*b));
            (10, length)
        }
        short => (2, usize::from(short)),
    };
    let payload = &bytes[header..header + length];
    *bytes = &bytes[header + length..];
    match opcode {
        0x1 => ReceivedFrame::Text(serde_json::from_slice(payload).expect("JSON")),
        0x8 => ReceivedFrame::Close(u16::from_be_bytes([payload[0], payload[1]])),
        other => panic!("unexpected opcode {other}"),
    }
}

/// Returns the client ids in a presence message, in the order sent.
pub(super) fn listed(presence: &Value) -> Vec<String> {
    let clients = presence["payload"]["clients"].as_array();
    let id = |client: &Value| client["client"].as_str().expect("an id").to_owned();
    clients.expect("a list").iter().map(id).collect()
}

/// Indexes values by a key that must be unique.
pub(super) fn by_key<K: std::hash::Hash + Eq, V>(
    values: impl IntoIterator<Item = V>,
    key: impl Fn(&V) -> K,
) -> HashMap<K, V> {
    let mut indexed = HashMap::new();
    for value in values {
        let previous = indexed.insert(key(&value), value);
        assert!(previous.is_none(), "a key that exists twice");
    }
    indexed
}
