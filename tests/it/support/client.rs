//! A WebSocket client with a method for each request and reply of the protocol.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use serde_json::{Value, json};

use super::connection::{CLOSE, PING, PONG, RawFrame, TEXT};
use super::{RawConnection, Welcome, frame};

/// The fields after the payload fit into this many bytes at the end of a relayed message.
const TAIL_BYTES: usize = 160;

/// How a client behaves in its session.
#[derive(Clone, Copy)]
pub struct ClientOptions {
    answers: bool,
    welcomed: bool,
}

impl ClientOptions {
    /// A client that answers Ping and Close frames and reads its welcome.
    pub fn new() -> Self {
        Self {
            answers: true,
            welcomed: true,
        }
    }

    /// Never answers a Ping or a Close by itself. For clients that stall, flood or break the protocol.
    pub fn passive(self) -> Self {
        Self {
            answers: false,
            ..self
        }
    }

    /// Does not wait for a welcome: on `/echo`, or before a token was sent, none comes.
    pub fn without_welcome(self) -> Self {
        Self {
            welcomed: false,
            ..self
        }
    }

    /// Performs the handshake.
    pub fn open(self, connection: impl Into<RawConnection>, target: &str) -> TestClient {
        let mut raw = connection.into();
        raw.upgrade(target);
        self.after_handshake(raw)
    }

    /// Starts the session on a connection whose handshake is complete.
    pub fn after_handshake(self, raw: RawConnection) -> TestClient {
        let mut client = TestClient {
            raw,
            answers: self.answers,
            welcome: Welcome::new(Value::Null),
        };
        if self.welcomed {
            let welcome = client.next();
            assert_eq!(welcome["from"], "server", "{welcome}");
            client.welcome = Welcome::new(welcome);
        }
        client
    }
}

/// A client in a session. The bytes and frames below are reached by dereferencing.
pub struct TestClient {
    raw: RawConnection,
    answers: bool,
    welcome: Welcome,
}

impl TestClient {
    /// Connects over plain TCP and reads the welcome.
    pub fn connect(address: SocketAddr, target: &str) -> Self {
        ClientOptions::new().open(address, target)
    }

    /// Connects to a server that may be down or refuse; `None` if it does, or if the first frame is no welcome.
    pub fn try_connect(address: SocketAddr, target: &str) -> Option<Self> {
        let mut raw = RawConnection::try_connect(address)?;
        raw.try_upgrade(target)?;
        let options = ClientOptions::new().without_welcome();
        let mut client = options.after_handshake(raw);
        let welcome = client.try_next()?;
        client.welcome = Welcome::new(welcome);
        (client.welcome["from"] == "server").then_some(client)
    }

    /// The first frame.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// The id that the server gave the client.
    pub fn id(&self) -> String {
        let id = self.welcome["client"].as_str();
        id.expect("a client id in the welcome").to_owned()
    }

    /// Sends a text frame as it is.
    pub fn send_text(&mut self, text: &str) {
        self.raw.send_frame(true, TEXT, text.as_bytes());
    }

    pub fn send_json(&mut self, request: Value) {
        self.send_text(&request.to_string());
    }

    /// Sends to a server that may be gone; `None` if it is.
    pub fn try_send_json(&mut self, request: &Value) -> Option<()> {
        let bytes = frame(true, TEXT, request.to_string().as_bytes());
        self.raw.try_send(bytes).then_some(())
    }

    /// Publishes to the first room joined.
    pub fn say(&mut self, payload: impl Into<Value>) {
        self.send_json(json!({"type": "message", "payload": payload.into()}));
    }

    /// Publishes to a room.
    pub fn say_in(&mut self, room: &str, payload: impl Into<Value>) {
        self.send_json(json!({"type": "message", "room": room, "payload": payload.into()}));
    }

    /// Joins a room and returns the payload of `joined`.
    pub fn join(&mut self, room: &str) -> Value {
        self.send_json(json!({"type": "join", "room": room}));
        let joined = self.next_of("joined");
        assert_eq!(joined["room"], room);
        joined["payload"].clone()
    }

    /// Leaves a room and waits for `left`.
    pub fn leave(&mut self, room: &str) {
        self.send_json(json!({"type": "leave", "room": room}));
        assert_eq!(self.next_of("left")["room"], room);
    }

    /// Publishes a message with an id and returns the offset in its `ack`. Skips all other frames.
    pub fn publish_and_await_ack(&mut self, request: &Value) -> u64 {
        self.send_json(request.clone());
        loop {
            let frame = self.next();
            if frame["type"] == "ack" {
                let offset = frame["payload"]["offset"].as_u64();
                return offset.expect("an offset in the ack");
            }
        }
    }

    /// Returns the next text frame.
    pub fn next_text(&mut self) -> String {
        String::from_utf8(self.next_text_bytes()).expect("text frames are UTF-8")
    }

    /// Returns the next text frame as JSON.
    pub fn next(&mut self) -> Value {
        let text = self.next_text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Returns the next frame, which must be of this type.
    pub fn next_of(&mut self, kind: &str) -> Value {
        let frame = self.next();
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    /// Reads frames up to the first of this type and returns that one.
    pub fn skip_to(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next();
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Returns the next frame as JSON; `None` when the connection has ended, however it ended.
    pub fn try_next(&mut self) -> Option<Value> {
        loop {
            let frame = self.raw.try_frame()?;
            match frame.opcode {
                TEXT => return serde_json::from_slice(&frame.payload).ok(),
                CLOSE => return None,
                _ => self.answer_control_frame(&frame),
            }
        }
    }

    /// Returns the offset of the next text frame, a relayed message. Does not parse the payload, so that a
    /// scenario of a million messages spends its time in the server.
    pub fn next_offset(&mut self) -> u64 {
        offset_of(&self.next_text_bytes())
    }

    /// The next frame must be this message from a client.
    pub fn expect(&mut self, payload: impl Into<Value>) -> Value {
        let frame = self.next_of("message");
        assert_eq!(frame["payload"], payload.into(), "{frame}");
        frame
    }

    /// The next frame must be an error; returns its code.
    pub fn expect_error(&mut self) -> String {
        let frame = self.next_of("error");
        let message = frame["payload"]["message"].as_str();
        assert!(message.is_some_and(|text| text.len() > 8), "{frame}");
        let code = frame["payload"]["code"].as_str();
        code.expect("a code in the error").to_owned()
    }

    /// Asserts that no frame comes before the pong to a ping sent now.
    pub fn expect_nothing(&mut self) {
        self.send_json(json!({"type": "ping", "id": "nothing-else"}));
        let frame = self.next();
        assert_eq!(
            (&frame["type"], &frame["id"]),
            (&json!("pong"), &json!("nothing-else"))
        );
    }

    /// Reads until the server closes and returns the close code. Asserts that nothing follows the Close frame.
    pub fn close_code(&mut self) -> u16 {
        loop {
            let frame = self.frame().expect("closed without a Close frame");
            self.answer_control_frame(&frame);
            if frame.opcode == CLOSE {
                self.assert_closed();
                return frame.close_code();
            }
        }
    }

    /// Reads messages until a Close and returns its code. The offsets must continue after `last`.
    pub fn close_code_after_offset(&mut self, mut last: u64) -> u16 {
        loop {
            let frame = self.frame().expect("closed without a Close frame");
            self.answer_control_frame(&frame);
            match frame.opcode {
                TEXT => {
                    last += 1;
                    assert_eq!(offset_of(&frame.payload), last);
                }
                CLOSE => {
                    self.assert_closed();
                    return frame.close_code();
                }
                PING => {}
                _ => panic!("unexpected {frame:?}"),
            }
        }
    }

    /// Closes and waits until the server has closed too.
    pub fn close(mut self) {
        self.raw.send_frame(true, CLOSE, &1000u16.to_be_bytes());
        while self.frame().expect("a Close frame").opcode != CLOSE {}
        self.assert_closed();
    }

    /// Ends the connection with a reset, as a client that crashed does.
    pub fn reset(self) {
        self.raw.reset();
    }

    fn next_text_bytes(&mut self) -> Vec<u8> {
        loop {
            let frame = self.frame().expect("closed instead of a text frame");
            self.answer_control_frame(&frame);
            match frame.opcode {
                TEXT => return frame.payload,
                PING | PONG => {}
                _ => panic!("expected a text frame, got {frame:?}"),
            }
        }
    }

    /// Answers a Ping or Close, unless the client is passive.
    fn answer_control_frame(&mut self, frame: &RawFrame) {
        let opcode = match frame.opcode {
            PING => PONG,
            CLOSE => CLOSE,
            _ => return,
        };
        if self.answers {
            // The server may be gone: a Close may have been its last frame.
            self.raw
                .try_send(super::frame(true, opcode, &frame.payload));
        }
    }
}

impl Deref for TestClient {
    type Target = RawConnection;

    fn deref(&self) -> &RawConnection {
        &self.raw
    }
}

impl DerefMut for TestClient {
    fn deref_mut(&mut self) -> &mut RawConnection {
        &mut self.raw
    }
}

/// The frame with which a client publishes text to the first room it joined.
pub fn message_frame(text: &str) -> Vec<u8> {
    let request = json!({"type": "message", "payload": text}).to_string();
    frame(true, TEXT, request.as_bytes())
}

fn offset_of(message: &[u8]) -> u64 {
    let tail = &message[message.len().saturating_sub(TAIL_BYTES)..];
    let tail = String::from_utf8_lossy(tail);
    let offset = tail.rsplit_once(r#","offset":"#).and_then(|(_, rest)| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    });
    offset.unwrap_or_else(|| panic!("no offset in …{tail}"))
}
