//! The part of RFC 6455 that a load generator needs: builds client frames and finds frames in a server's bytes.

use crate::client::error::Lost;

pub(super) const TEXT: u8 = 0x1;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xA;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
/// A client must mask (§5.3). With a key of zeros the stamp of a finished frame can be overwritten.
const MASK_KEY: [u8; 4] = [0; 4];
/// Bytes of a payload that are kept: all of a control frame, and of a text frame its type and its stamp.
pub(super) const START_BYTES: usize = 125;

/// Returns a frame of a client.
pub(super) fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(FINAL | opcode);
    match payload.len() {
        short @ 0..=125 => frame.push(MASKED | short as u8),
        medium @ 126..=0xFFFF => {
            frame.push(MASKED | 126);
            frame.extend((medium as u16).to_be_bytes());
        }
        long => {
            frame.push(MASKED | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(MASK_KEY);
    frame.extend(payload);
    frame
}

/// Finds the frames in a server's bytes, whatever the sizes of the reads.
#[derive(Debug)]
pub(super) struct FrameReader {
    header: [u8; 10],
    header_read: usize,
    /// Bytes of the payload that are still to come; `None` while the header is incomplete.
    payload_left: Option<u64>,
    start: [u8; START_BYTES],
    start_read: usize,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self {
            header: [0; 10],
            header_read: 0,
            payload_left: None,
            start: [0; START_BYTES],
            start_read: 0,
        }
    }
}

impl FrameReader {
    /// Removes bytes from the front of `input`, up to the end of a frame. Returns the frame's opcode and the start of its
    /// payload; `None` if the input ended before.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<(u8, &[u8])>, Lost> {
        let left = if let Some(left) = self.payload_left {
            left
        } else if self.complete_header(input) {
            self.start_read = 0;
            self.payload_length()?
        } else {
            return Ok(None);
        };
        let take = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let (bytes, rest) = input.split_at(take);
        *input = rest;
        let kept = bytes.len().min(START_BYTES - self.start_read);
        self.start[self.start_read..][..kept].copy_from_slice(&bytes[..kept]);
        self.start_read += kept;
        if take as u64 != left {
            self.payload_left = Some(left - take as u64);
            return Ok(None);
        }
        self.payload_left = None;
        self.header_read = 0;
        Ok(Some((
            self.header[0] & 0x0F,
            &self.start[..self.start_read],
        )))
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

    fn payload_length(&self) -> Result<u64, Lost> {
        let [first, second, length @ ..] = self.header;
        // No extension was negotiated, and a server does not mask.
        if first & RESERVED != 0 || second & MASKED != 0 {
            let why = format!("the frame header {first:02x} {second:02x} breaks the protocol");
            return Err(Lost::Broken(why));
        }
        Ok(match second {
            126 => u64::from(u16::from_be_bytes([length[0], length[1]])),
            127 => u64::from_be_bytes(length),
            short => u64::from(short),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a frame of a server.
    fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = client_frame(opcode, payload);
        frame[1] &= !MASKED;
        let mask_at = frame.len() - payload.len() - MASK_KEY.len();
        frame.drain(mask_at..mask_at + MASK_KEY.len());
        frame
    }

    #[test]
    fn frames_are_found_in_pieces_of_any_size() {
        let payloads = [0, 1, 125, 126, 300, 65_535, 65_536];
        let bytes: Vec<u8> = payloads
            .iter()
            .flat_map(|length| server_frame(TEXT, &vec![b'x'; *length]))
            .collect();
        for size in [1, 2, 3, 7, 1000, bytes.len()] {
            let mut reader = FrameReader::default();
            let mut found = Vec::new();
            for mut piece in bytes.chunks(size) {
                while let Some((opcode, start)) = reader.next(&mut piece).unwrap() {
                    assert_eq!(opcode, TEXT);
                    found.push(start.len());
                }
                assert!(piece.is_empty());
            }
            let expected = payloads.map(|length| length.min(START_BYTES));
            assert_eq!(found, expected, "pieces of {size}");
        }
        let mut reader = FrameReader::default();
        assert!(reader.next(&mut &client_frame(TEXT, b"x")[..]).is_err());
    }
}
