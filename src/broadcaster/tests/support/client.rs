//! A client: an outbox, and the other end of its socket.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use serde_json::Value;

use crate::broadcaster::event::Event;
use crate::broadcaster::reply::ReleaseOutcome;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, OutboxLimits, Wire};
use crate::protocol::{ClientId, MemberState, RequestId, RoomState, StateChange};
use crate::socket::Socket;

use super::frame::{ReceivedFrame, parse_frame};
use super::room::TestRoom;

/// An outbox of this size takes bursts of up to 1 KiB, which is fewer than ten publications.
const OUTBOX_BYTES: usize = 4096;
/// A number of publications that exceeds the limit on held batches with such an outbox.
pub(in crate::broadcaster::tests) const TOO_MANY_TO_HOLD: usize = 20;

fn request_id(text: &str) -> RequestId {
    RequestId::parse(text).expect("a request id")
}

/// A client's outbox and the other end of its socket.
pub(in crate::broadcaster::tests) struct TestClient {
    pub(in crate::broadcaster::tests) outbox: Arc<Outbox>,
    stream: UnixStream,
}

impl TestClient {
    pub(super) fn new(id: ClientId, metrics: Arc<Metrics>, wire: Wire) -> Self {
        let (server, stream) = UnixStream::pair().expect("a socket pair");
        stream.set_nonblocking(true).expect("a non-blocking socket");
        let limits = OutboxLimits {
            bytes: OUTBOX_BYTES,
            slow_timeout: Duration::from_secs(60),
        };
        let outbox = Outbox::new(id, Socket::new(server), limits, metrics, wire);
        Self { outbox, stream }
    }

    pub(in crate::broadcaster::tests) fn id(&self) -> ClientId {
        self.outbox.client()
    }

    pub(in crate::broadcaster::tests) fn connect(&self, rooms: &[&TestRoom]) -> Event {
        self.connect_event(None, rooms, None)
    }

    pub(in crate::broadcaster::tests) fn connect_as(
        &self,
        user: &str,
        rooms: &[&TestRoom],
    ) -> Event {
        self.connect_event(Some(user), rooms, None)
    }

    pub(in crate::broadcaster::tests) fn connect_held(
        &self,
        rooms: &[&TestRoom],
        hold: Sender<Vec<RoomState>>,
    ) -> Event {
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
            session: None,
            positions: None,
            rooms: rooms.iter().map(numbering).collect(),
            hold,
        }
    }

    pub(in crate::broadcaster::tests) fn join(&self, room: &TestRoom) -> Event {
        self.join_event(room, false, None)
    }

    pub(in crate::broadcaster::tests) fn join_and_watch(&self, room: &TestRoom) -> Event {
        self.join_event(room, true, None)
    }

    pub(in crate::broadcaster::tests) fn join_held(
        &self,
        room: &TestRoom,
        hold: Sender<Vec<RoomState>>,
    ) -> Event {
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
            state: StateChange::Keep,
            id: Some(request_id("join")),
        }
    }

    /// Shows a state in a room, or none.
    pub(in crate::broadcaster::tests) fn show(
        &self,
        room: &TestRoom,
        state: Option<MemberState>,
    ) -> Event {
        Event::State {
            client: self.id(),
            room: room.name(),
            state,
            id: Some(request_id("state")),
        }
    }

    pub(in crate::broadcaster::tests) fn release(
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

    pub(in crate::broadcaster::tests) fn leave(&self, room: &TestRoom) -> Event {
        Event::Leave {
            client: self.id(),
            room: room.name(),
            id: Some(request_id("leave")),
        }
    }

    pub(in crate::broadcaster::tests) fn ask_presence(&self, room: &TestRoom) -> Event {
        Event::Presence {
            client: self.id(),
            room: room.name(),
            id: Some(request_id("presence")),
        }
    }

    pub(in crate::broadcaster::tests) fn disconnect(&self) -> Event {
        Event::Disconnect { client: self.id() }
    }

    /// Reads every frame that has arrived.
    pub(in crate::broadcaster::tests) fn frames(&mut self) -> Vec<ReceivedFrame> {
        let bytes = self.bytes();
        let mut rest = &bytes[..];
        let mut frames = Vec::new();
        while !rest.is_empty() {
            frames.push(parse_frame(&mut rest));
        }
        frames
    }

    /// Reads every frame that has arrived; none of them may be a Close frame.
    pub(in crate::broadcaster::tests) fn messages(&mut self) -> Vec<Value> {
        let text = |frame| match frame {
            ReceivedFrame::Text(message) => message,
            ReceivedFrame::Close(code) => panic!("closed with {code}"),
        };
        self.frames().into_iter().map(text).collect()
    }

    /// Reads every frame that has arrived and returns the offsets; all frames must be publications.
    pub(in crate::broadcaster::tests) fn offsets(&mut self) -> Vec<u64> {
        let offset = |message: Value| {
            let offset = message["offset"].as_u64();
            offset.unwrap_or_else(|| panic!("not a publication: {message}"))
        };
        self.messages().into_iter().map(offset).collect()
    }

    /// Reads every frame that has arrived and returns the code if that is one Close frame and nothing else.
    pub(in crate::broadcaster::tests) fn close_code(&mut self) -> Option<u16> {
        match self.frames()[..] {
            [] => None,
            [ReceivedFrame::Close(code)] => Some(code),
            ref others => panic!("more than a Close frame: {others:?}"),
        }
    }

    /// Reads all bytes that have arrived.
    pub(in crate::broadcaster::tests) fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        bytes
    }

    /// Blocks until the server has sent its last byte, then returns the frames that arrived.
    pub(in crate::broadcaster::tests) fn frames_until_end(&mut self) -> Vec<ReceivedFrame> {
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
    pub(in crate::broadcaster::tests) fn can_send(&mut self) -> bool {
        self.stream.write_all(b"x").is_ok()
    }
}
