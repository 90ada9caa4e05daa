//! WebSocket frames of the server (RFC 6455 §5.2). They are not masked, so all members share one encoding.

use bytes::Bytes;

use super::{CloseCode, cut};

const FIN: u8 = 0x80;
const OPCODE_TEXT: u8 = 0x1;
const OPCODE_BINARY: u8 = 0x2;
const OPCODE_CLOSE: u8 = 0x8;
const OPCODE_PING: u8 = 0x9;
/// Longest reason in a Close frame, in bytes (RFC 6455 §5.5).
const REASON_BYTES_MAX: usize = 123;
/// Longest header that a server writes: two bytes and a 64-bit length.
const HEADER_BYTES_MAX: usize = 10;

/// The encoded bytes of one or more whole frames. Clones share the bytes.
#[derive(Clone, Debug)]
pub(crate) struct Frames(Bytes);

impl Frames {
    /// Returns one text frame.
    pub(crate) fn text(payload: &[u8]) -> Self {
        Self::single(OPCODE_TEXT, payload)
    }

    /// Returns one binary frame.
    pub(crate) fn binary(payload: &[u8]) -> Self {
        Self::single(OPCODE_BINARY, payload)
    }

    /// Returns an empty Ping frame.
    pub(crate) fn ping() -> Self {
        Self(Bytes::from_static(&[FIN | OPCODE_PING, 0]))
    }

    /// Returns a Close frame with the code and its usual reason.
    pub(crate) fn close(code: CloseCode) -> Self {
        Self::close_because(code, code.reason())
    }

    /// Returns a Close frame with the code and this reason, which is cut if it does not fit.
    pub(crate) fn close_because(code: CloseCode, reason: &str) -> Self {
        let mut payload = code.number().to_be_bytes().to_vec();
        payload.extend_from_slice(cut(reason, REASON_BYTES_MAX).as_bytes());
        Self::single(OPCODE_CLOSE, &payload)
    }

    /// Returns frames that a WebSocket library has encoded.
    pub(crate) fn encoded(frames: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(frames))
    }

    /// Returns whether the first frame is a Close frame, after which nothing may be sent (RFC 6455 §5.5.1).
    pub(crate) fn is_close(&self) -> bool {
        self.0.first() == Some(&(FIN | OPCODE_CLOSE))
    }

    /// Returns bytes as one chunk of an HTTP body (RFC 9112 §7.1). Without bytes there is no chunk, because an empty
    /// chunk ends the body.
    pub(crate) fn chunk(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self(Bytes::new());
        }
        let mut out = format!("{:x}\r\n", bytes.len()).into_bytes();
        out.reserve_exact(bytes.len() + 2);
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
        Self(out.into())
    }

    /// Returns the bytes for the socket.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.0
    }

    fn single(opcode: u8, payload: &[u8]) -> Self {
        let mut out = Vec::with_capacity(HEADER_BYTES_MAX + payload.len());
        write_header(&mut out, opcode, payload.len());
        out.extend_from_slice(payload);
        Self(out.into())
    }
}

/// Wraps bytes that are already encoded, such as Server-Sent Events.
impl From<Vec<u8>> for Frames {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

/// A buffer of text frames that are sent with one system call.
#[derive(Debug, Default)]
pub(crate) struct FrameBuffer {
    frames: Vec<u8>,
    count: u64,
}

impl FrameBuffer {
    /// Appends one text frame.
    pub(crate) fn push_text(&mut self, payload: &[u8]) {
        write_header(&mut self.frames, OPCODE_TEXT, payload.len());
        self.frames.extend_from_slice(payload);
        self.count += 1;
    }

    /// Returns the number of bytes in the buffer.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Returns whether nothing was appended since the last [`take`](Self::take).
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Returns the buffered frames and their number, and empties the buffer.
    pub(crate) fn take(&mut self) -> (Frames, u64) {
        let frames = Frames(Bytes::from(std::mem::take(&mut self.frames)));
        (frames, std::mem::take(&mut self.count))
    }
}

fn write_header(out: &mut Vec<u8>, opcode: u8, payload_bytes: usize) {
    out.push(FIN | opcode);
    match payload_bytes {
        n @ 0..=125 => out.push(n as u8),
        n @ 126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use tungstenite::protocol::frame::FrameSocket;

    #[test]
    fn every_length_form_can_be_read() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; len];
            let frames = Frames::text(&payload);
            let mut socket = FrameSocket::new(Cursor::new(frames.bytes().to_vec()));
            let frame = socket.read(None).unwrap().unwrap();
            assert_eq!(frame.payload(), &payload[..]);
            assert!(frame.header().is_final && frame.header().mask.is_none());
        }
    }

    #[test]
    fn batch_keeps_order_and_count() {
        let mut buffer = FrameBuffer::default();
        buffer.push_text(b"one");
        buffer.push_text(b"two");
        let (frames, count) = buffer.take();
        assert_eq!(
            (count, &frames.bytes()[..]),
            (2, &b"\x81\x03one\x81\x03two"[..])
        );
        assert!(buffer.is_empty());
    }

    #[test]
    fn close_frames_fit_a_control_frame() {
        for code in [
            CloseCode::GoingAway,
            CloseCode::SlowConsumer,
            CloseCode::Unauthorized,
        ] {
            let frames = Frames::close(code);
            assert!(frames.is_close());
            assert!(frames.bytes().len() <= 2 + 125);
        }
        for reason in ["x".repeat(124), "房".repeat(42)] {
            let frames = Frames::close_because(CloseCode::BadRequest, &reason);
            assert!(frames.bytes().len() <= 2 + 125);
            assert!(std::str::from_utf8(&frames.bytes()[4..]).is_ok());
        }
    }
}
