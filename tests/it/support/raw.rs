//! A bare TCP connection: bytes out, and HTTP answers or WebSocket frames in.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use serde_json::Value;

use super::Socket;

/// The key and answer of RFC 6455 §1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A socket and what was read from it but not asked for yet.
pub struct RawConnection {
    pub socket: Socket,
    buffer: Vec<u8>,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub struct RawFrame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// The code of a Close frame.
    pub fn close_code(&self) -> u16 {
        assert_eq!(self.opcode, 8, "{self:?}");
        u16::from_be_bytes([self.payload[0], self.payload[1]])
    }
}

impl RawConnection {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(Socket::tcp(address))
    }

    pub fn over(socket: Socket) -> Self {
        Self {
            socket,
            buffer: Vec::new(),
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).expect("send");
    }

    /// Sends bytes to a server that may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.socket.write_all(bytes.as_ref()).is_ok()
    }

    /// One `GET` and its answer.
    pub fn get(&mut self, target: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.response()
    }

    /// The next HTTP answer; its body is as long as Content-Length says.
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// The next answer to a request with this method: one to HEAD has no body.
    pub fn response_to(&mut self, method: &str) -> Response {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(
                self.fill(),
                "closed before an answer; got {:?}",
                lossy(&self.buffer)
            );
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head).expect("head is text");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .expect("status");
        let mut response = Response {
            status,
            head,
            body: Vec::new(),
        };
        let bodyless = method == "HEAD" || status < 200 || status == 204 || status == 304;
        let length = response
            .header("Content-Length")
            .and_then(|l| l.parse().ok())
            .unwrap_or(0);
        if !bodyless {
            while self.buffer.len() < length {
                assert!(self.fill(), "closed in the middle of a body");
            }
            response.body = self.buffer.drain(..length).collect();
        }
        response
    }

    /// Completes a WebSocket handshake; what follows is frames.
    pub fn upgrade(&mut self, target: &str) {
        self.send(handshake(target));
        let response = self.response();
        assert_eq!(response.status, 101, "{}", response.head);
    }

    /// Sends one masked frame.
    pub fn send_frame(&mut self, fin: bool, opcode: u8, payload: &[u8]) {
        self.send(frame(fin, opcode, payload));
    }

    /// The next frame; `None` when the server has closed.
    pub fn frame(&mut self) -> Option<RawFrame> {
        loop {
            if let Some((frame, length)) = parse_frame(&self.buffer) {
                self.buffer.drain(..length);
                return Some(frame);
            }
            if !self.fill() {
                assert!(self.buffer.is_empty(), "a frame broke off");
                return None;
            }
        }
    }

    /// Reads frames until a Close; gives its code and asserts that nothing follows it.
    pub fn close_code(&mut self) -> u16 {
        loop {
            let frame = self.frame().expect("closed without a Close frame");
            if frame.opcode == 8 {
                self.assert_closed();
                return frame.close_code();
            }
        }
    }

    /// Asserts that the server closes and sends nothing before it does.
    pub fn assert_closed(&mut self) {
        assert!(self.buffer.is_empty(), "unread: {:?}", lossy(&self.buffer));
        assert!(!self.fill(), "unexpected: {:?}", lossy(&self.buffer));
    }

    pub fn shutdown_write(&self) {
        self.socket.shutdown(Shutdown::Write).expect("shutdown");
    }

    /// `false` when the server has closed; panics when patience ends.
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.socket.read(&mut chunk) {
            Ok(0) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("read: {error}; so far {:?}", lossy(&self.buffer)),
        }
    }
}

impl Response {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> String {
        lossy(&self.body)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// `error.code` of a JSON error.
    pub fn error_code(&self) -> String {
        self.json()["error"]["code"]
            .as_str()
            .expect("a code")
            .to_owned()
    }
}

/// A correct handshake request.
pub fn handshake(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// A client's frame, masked with zeros.
pub fn frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![if fin { 0x80 } else { 0 } | opcode];
    match payload.len() {
        n @ 0..=125 => bytes.push(0x80 | n as u8),
        n @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

fn parse_frame(buffer: &[u8]) -> Option<(RawFrame, usize)> {
    let (&[first, second], rest) = buffer.split_first_chunk::<2>()?;
    assert_eq!(second & 0x80, 0, "server frames are unmasked");
    let (length, header) = match second {
        126 => (u16::from_be_bytes(*rest.first_chunk()?) as usize, 4),
        127 => (u64::from_be_bytes(*rest.first_chunk()?) as usize, 10),
        n => (n as usize, 2),
    };
    let payload = buffer.get(header..header + length)?.to_vec();
    Some((
        RawFrame {
            opcode: first & 0xF,
            payload,
        },
        header + length,
    ))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
