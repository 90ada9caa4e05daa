//! A well-behaved WebSocket client that speaks the product's words.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tungstenite::{Error, Message, WebSocket};

use super::Socket;

/// A client that is connected and has read its welcome.
pub struct TestClient {
    websocket: WebSocket<Socket>,
    welcome: Value,
}

impl TestClient {
    pub fn connect(address: SocketAddr, target: &str) -> Self {
        Self::enter(Socket::tcp(address), target)
    }

    /// Reads the welcome as well.
    pub fn enter(socket: Socket, target: &str) -> Self {
        let mut client = Self::over(socket, target);
        client.welcome = client.next();
        assert_eq!(client.welcome["from"], "server", "{}", client.welcome);
        client
    }

    /// For `/echo`, which welcomes nobody.
    pub fn connect_unwelcomed(address: SocketAddr, target: &str) -> Self {
        Self::over(Socket::tcp(address), target)
    }

    fn over(socket: Socket, target: &str) -> Self {
        // Whether TLS is spoken below is not its concern.
        let url = format!("ws://localhost{target}");
        let (websocket, _) = tungstenite::client(url, socket).expect("handshake");
        Self {
            websocket,
            welcome: Value::Null,
        }
    }

    /// The first frame.
    pub fn welcome(&self) -> &Value {
        &self.welcome
    }

    /// The name the server gave it.
    pub fn id(&self) -> String {
        self.welcome["client"]
            .as_str()
            .expect("a client id")
            .to_owned()
    }

    /// Sends a text frame as it is.
    pub fn send_text(&mut self, text: &str) {
        self.websocket.send(Message::text(text)).expect("send");
    }

    pub fn send(&mut self, frame: Value) {
        self.send_text(&frame.to_string());
    }

    /// Publishes to the first room joined.
    pub fn say(&mut self, payload: impl Into<Value>) {
        self.send(json!({"type": "message", "payload": payload.into()}));
    }

    /// Publishes to a room.
    pub fn say_in(&mut self, room: &str, payload: impl Into<Value>) {
        self.send(json!({"type": "message", "room": room, "payload": payload.into()}));
    }

    /// Joins a room and gives the payload of `joined`.
    pub fn join(&mut self, room: &str) -> Value {
        self.send(json!({"type": "join", "room": room}));
        let joined = self.next_of("joined");
        assert_eq!(joined["room"], room);
        joined["payload"].clone()
    }

    /// Leaves a room and waits for `left`.
    pub fn leave(&mut self, room: &str) {
        self.send(json!({"type": "leave", "room": room}));
        assert_eq!(self.next_of("left")["room"], room);
    }

    /// The next text frame, as it came.
    pub fn next_text(&mut self) -> String {
        loop {
            match self.websocket.read() {
                Ok(Message::Text(text)) => return text.to_string(),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("expected a text frame, got {other:?}"),
            }
        }
    }

    pub fn next(&mut self) -> Value {
        let text = self.next_text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The next frame, which must be of this type.
    pub fn next_of(&mut self, kind: &str) -> Value {
        let frame = self.next();
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    /// The next frame must be this message from a client.
    pub fn expect(&mut self, payload: impl Into<Value>) -> Value {
        let frame = self.next_of("message");
        assert_eq!(frame["payload"], payload.into(), "{frame}");
        frame
    }

    /// The next frame must be an error; gives its code.
    pub fn expect_error(&mut self) -> String {
        let frame = self.next_of("error");
        let message = frame["payload"]["message"].as_str().expect("a sentence");
        assert!(message.len() > 8, "{frame}");
        frame["payload"]["code"]
            .as_str()
            .expect("a code")
            .to_owned()
    }

    /// Asserts that nothing came before the answer to a ping sent now.
    pub fn expect_nothing(&mut self) {
        self.send(json!({"type": "ping", "id": "nothing-else"}));
        let frame = self.next();
        assert_eq!(
            (&frame["type"], &frame["id"]),
            (&json!("pong"), &json!("nothing-else"))
        );
    }

    /// Reads until the server closes; gives the code, and asserts that a Close frame came.
    pub fn close_code(&mut self) -> u16 {
        loop {
            match self.websocket.read() {
                Ok(Message::Close(Some(close))) => {
                    let _answered = self.websocket.flush();
                    return close.code.into();
                }
                Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("expected a Close frame, got {other:?}"),
            }
        }
    }

    /// Closes and waits until the server has answered.
    pub fn close(mut self) {
        self.websocket.close(None).expect("close");
        loop {
            match self.websocket.read() {
                Ok(_) => {}
                Err(Error::ConnectionClosed) => return,
                Err(error) => panic!("close: {error}"),
            }
        }
    }

    /// The socket below.
    pub fn socket(&mut self) -> &mut Socket {
        self.websocket.get_mut()
    }

    /// The protocol above.
    pub fn websocket(&mut self) -> &mut WebSocket<Socket> {
        &mut self.websocket
    }
}
