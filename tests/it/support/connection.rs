//! A bare connection: bytes out; HTTP responses and WebSocket frames in.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use super::Socket;

/// Opcodes of RFC 6455 §5.2.
pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// The key of RFC 6455 §1.3, and its accept value.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The masking key of RFC 6455 §5.7.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A socket, and the bytes that were read from it but not consumed yet.
pub struct RawConnection {
    pub socket: Socket,
    buffer: Vec<u8>,
}

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub struct RawFrame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// Returns the code of a Close frame.
    pub fn close_code(&self) -> u16 {
        assert_eq!(self.opcode, CLOSE, "{self:?}");
        u16::from_be_bytes([self.payload[0], self.payload[1]])
    }

    /// Returns the reason of a Close frame.
    pub fn close_reason(&self) -> String {
        String::from_utf8(self.payload[2..].to_vec()).expect("a reason is UTF-8")
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.opcode, TEXT, "{self:?}");
        serde_json::from_slice(&self.payload).expect("text frames are JSON")
    }
}

impl From<Socket> for RawConnection {
    fn from(socket: Socket) -> Self {
        Self {
            socket,
            buffer: Vec::new(),
        }
    }
}

impl From<SocketAddr> for RawConnection {
    fn from(address: SocketAddr) -> Self {
        Self::connect(address)
    }
}

impl RawConnection {
    pub fn connect(address: SocketAddr) -> Self {
        Socket::tcp(address).into()
    }

    /// Connects to a server that may be down.
    pub fn try_connect(address: SocketAddr) -> Option<Self> {
        let tcp = TcpStream::connect(address).ok()?;
        Some(Socket::from(tcp).into())
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).expect("send");
    }

    /// Sends bytes to a server that may have closed already; `false` if it has.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.socket.write_all(bytes.as_ref()).is_ok()
    }

    /// Completes a WebSocket handshake; what follows is frames.
    pub fn upgrade(&mut self, target: &str) {
        self.send(handshake(target));
        let response = self.response();
        assert_eq!(response.status, 101, "{}", response.head);
        assert_eq!(response.header("Sec-WebSocket-Accept"), Some(ACCEPT));
    }

    /// Completes a handshake with a server that may refuse it or end.
    pub fn try_upgrade(&mut self, target: &str) -> Option<()> {
        if !self.try_send(handshake(target)) {
            return None;
        }
        let response = self.try_response("GET")?;
        (response.status == 101).then_some(())
    }

    /// Sends one masked frame.
    pub fn send_frame(&mut self, fin: bool, opcode: u8, payload: &[u8]) {
        self.send(frame(fin, opcode, payload));
    }

    /// Returns the next frame; `None` when the server has closed.
    pub fn frame(&mut self) -> Option<RawFrame> {
        loop {
            if let Some(frame) = self.buffered_frame() {
                return Some(frame);
            }
            if !self.fill() {
                assert!(self.buffer.is_empty(), "the last frame is incomplete");
                return None;
            }
        }
    }

    /// Returns the next frame from a server that may end at any time, in the middle of a frame too.
    pub fn try_frame(&mut self) -> Option<RawFrame> {
        loop {
            if let Some(frame) = self.buffered_frame() {
                return Some(frame);
            }
            if !self.try_fill().unwrap_or(false) {
                return None;
            }
        }
    }

    /// Returns the next text frame as JSON, however many Pings and Pongs come before it.
    pub fn next_json(&mut self) -> Value {
        loop {
            let frame = self.frame().expect("closed instead of a text frame");
            match frame.opcode {
                PING | PONG => {}
                _ => return frame.json(),
            }
        }
    }

    /// Reads frames until a Close and returns its code. `None` if the connection ends without a Close, even in the middle
    /// of a frame.
    pub fn close_code_if_any(&mut self) -> Option<u16> {
        loop {
            match self.buffered_frame() {
                Some(frame) if frame.opcode == CLOSE => return Some(frame.close_code()),
                Some(_) => {}
                None if self.fill() => {}
                None => return None,
            }
        }
    }

    /// Reads frames until a Close, or a Pong with this payload, and returns that frame. `None` if the connection ends
    /// without a Close, even in the middle of a frame.
    pub fn close_or_pong(&mut self, payload: &[u8]) -> Option<RawFrame> {
        let ends = |frame: &RawFrame| match frame.opcode {
            CLOSE => true,
            PONG => frame.payload == payload,
            _ => false,
        };
        loop {
            match self.buffered_frame() {
                Some(frame) if ends(&frame) => return Some(frame),
                Some(_) => {}
                None if self.fill() => {}
                None => return None,
            }
        }
    }

    /// Reads frames until a Close and returns its code. Asserts that nothing follows it.
    pub fn close_code(&mut self) -> u16 {
        let code = self.close_code_if_any();
        let code = code.expect("closed without a Close frame");
        self.assert_closed();
        code
    }

    /// Asserts that the server closes and sends nothing before it does.
    pub fn assert_closed(&mut self) {
        assert!(self.buffer.is_empty(), "unread: {:?}", lossy(&self.buffer));
        assert!(!self.fill(), "unexpected: {:?}", lossy(&self.buffer));
    }

    pub fn shutdown_write(&self) {
        self.socket.shutdown(Shutdown::Write).expect("shutdown");
    }

    /// Returns the next `length` bytes, or `None` when the server closes before that.
    pub(super) fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill() {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    /// Returns the next bytes up to and including `end`, or `None` when the connection ends before that.
    pub(super) fn take_through(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            let mut windows = self.buffer.windows(end.len());
            if let Some(at) = windows.position(|window| window == end) {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            if !self.try_fill().unwrap_or(false) {
                return None;
            }
        }
    }

    /// Returns the bytes that were read but not consumed: what follows a response may have arrived with it.
    pub(super) fn take_buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// The bytes that were read but not consumed, as text.
    pub(super) fn unread(&self) -> String {
        lossy(&self.buffer)
    }

    fn buffered_frame(&mut self) -> Option<RawFrame> {
        let (frame, length) = parse_frame(&self.buffer)?;
        self.buffer.drain(..length);
        Some(frame)
    }

    /// Reads more; `false` when the server has closed. Panics on any error but a reset, a time-out included.
    fn fill(&mut self) -> bool {
        match self.try_fill() {
            Ok(more) => more,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("read: {error}; so far {:?}", lossy(&self.buffer)),
        }
    }

    fn try_fill(&mut self) -> std::io::Result<bool> {
        let mut chunk = [0; 16 * 1024];
        let read = self.socket.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(read > 0)
    }
}

/// A correct handshake request.
pub fn handshake(target: &str) -> String {
    handshake_with(target, &[])
}

/// A correct handshake request with more header lines.
pub fn handshake_with(target: &str, lines: &[&str]) -> String {
    let key = format!("Sec-WebSocket-Key: {KEY}");
    let required = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        &key,
    ];
    super::request("GET", target, &[&required[..], lines].concat())
}

/// A client's frame, masked.
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
    bytes.extend_from_slice(&MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Parses a server's frame, which is never masked, fragmented or extended (RFC 6455 §5.1, §5.2).
fn parse_frame(buffer: &[u8]) -> Option<(RawFrame, usize)> {
    let (&[first, second], rest) = buffer.split_first_chunk::<2>()?;
    assert_eq!(first & 0xF0, 0x80, "FIN is set and no reserved bit is");
    assert_eq!(second & 0x80, 0, "server frames are unmasked");
    let (length, header) = match second {
        126 => (u16::from_be_bytes(*rest.first_chunk()?) as usize, 4),
        127 => (u64::from_be_bytes(*rest.first_chunk()?) as usize, 10),
        n => (n as usize, 2),
    };
    let payload = buffer.get(header..header + length)?.to_vec();
    let opcode = first & 0xF;
    let known = [TEXT, BINARY, CLOSE, PING, PONG].contains(&opcode);
    assert!(known, "unknown opcode {opcode}");
    let is_control = opcode >= CLOSE;
    assert!(
        !is_control || length <= 125,
        "a control frame of {length} bytes"
    );
    Some((RawFrame { opcode, payload }, header + length))
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
