//! The part of RFC 6455 that a load generator needs: builds client frames and finds the frames in a server's bytes.

use std::io;

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
const PONG: u8 = 0xA;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// The code of an ordinary Close (section 7.4.1).
const NORMAL_CLOSURE: u16 = 1000;

/// A client must mask (section 5.1), and any key is legal. With a zero key, masking changes nothing.
const MASK_KEY: [u8; 4] = [0; 4];

/// Returns the request that opens a WebSocket at this path and query.
pub(crate) fn upgrade_request(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n"
    )
}

pub(crate) fn client_text(payload: &[u8]) -> Vec<u8> {
    frame(TEXT, payload, Some(MASK_KEY))
}

pub(crate) fn client_pong(payload: &[u8]) -> Vec<u8> {
    frame(PONG, payload, Some(MASK_KEY))
}

/// Returns a server's text frame of `frame_bytes` in total, or as close to it as headers allow.
pub(crate) fn server_text(frame_bytes: usize) -> Vec<u8> {
    let header_bytes = if frame_bytes > 127 { 4 } else { 2 };
    frame(
        TEXT,
        &vec![b'x'; frame_bytes.saturating_sub(header_bytes)],
        None,
    )
}

pub(crate) fn client_close() -> Vec<u8> {
    frame(CLOSE, &NORMAL_CLOSURE.to_be_bytes(), Some(MASK_KEY))
}

pub(crate) fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame(opcode, payload, None)
}

fn frame(opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { MASKED } else { 0 };
    let mut frame = vec![FINAL | opcode];
    match payload.len() {
        short @ 0..=125 => frame.push(masked | short as u8),
        medium @ 126..=0xFFFF => {
            frame.push(masked | 126);
            frame.extend((medium as u16).to_be_bytes());
        }
        long => {
            frame.push(masked | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(mask.into_iter().flatten());
    frame.extend(payload);
    frame
}

/// Finds the frames in a server's bytes, whatever the sizes of the reads.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    header: [u8; 10],
    header_read: usize,
    /// Bytes of the payload that are still to come. `None` while the header is incomplete.
    payload_left: Option<u64>,
}

/// A part of one frame's payload.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) opcode: u8,
    pub(crate) bytes: &'a [u8],
    pub(crate) starts_frame: bool,
    pub(crate) ends_frame: bool,
}

impl FrameReader {
    /// Removes the next part from the front of `input` and returns it. Returns `None` when `input` is empty.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> io::Result<Option<Part<'a>>> {
        let starts_frame = self.payload_left.is_none();
        if starts_frame && !self.complete_header(input) {
            return Ok(None);
        }
        let left = match self.payload_left {
            Some(_) if input.is_empty() => return Ok(None),
            Some(left) => left,
            None => self.payload_length()?,
        };
        let take = left.min(input.len() as u64);
        let (bytes, rest) = input.split_at(take as usize);
        *input = rest;
        let ends_frame = take == left;
        self.payload_left = (!ends_frame).then_some(left - take);
        if ends_frame {
            self.header_read = 0;
        }
        Ok(Some(Part {
            opcode: self.header[0] & 0x0F,
            bytes,
            starts_frame,
            ends_frame,
        }))
    }

    fn complete_header(&mut self, input: &mut &[u8]) -> bool {
        while self.header_read < self.header_bytes() {
            let take = (self.header_bytes() - self.header_read).min(input.len());
            if take == 0 {
                return false;
            }
            let (bytes, rest) = input.split_at(take);
            self.header[self.header_read..][..take].copy_from_slice(bytes);
            self.header_read += take;
            *input = rest;
        }
        true
    }

    fn header_bytes(&self) -> usize {
        match (self.header_read, self.header[1]) {
            (0 | 1, _) => 2,
            (_, 126) => 4,
            (_, 127) => 10,
            _ => 2,
        }
    }

    fn payload_length(&self) -> io::Result<u64> {
        let [first, second, length @ ..] = self.header;
        // No extension was negotiated, and wscast never fragments messages.
        if first & 0xF0 != FINAL || second & MASKED != 0 {
            return Err(io::Error::other(format!(
                "unexpected frame header {first:02x} {second:02x}"
            )));
        }
        Ok(match second {
            126 => u64::from(u16::from_be_bytes([length[0], length[1]])),
            127 => u64::from_be_bytes(length),
            short => u64::from(short),
        })
    }
}
