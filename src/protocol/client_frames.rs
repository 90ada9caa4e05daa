//! The part of RFC 6455 that a client with much traffic needs: builds its frames and finds those in a server's bytes.

use std::fmt;

/// The opcode of a text frame (§5.2).
pub const TEXT: u8 = 0x1;
/// The opcode of a Close frame.
pub const CLOSE: u8 = 0x8;
/// The opcode of a Ping.
pub const PING: u8 = 0x9;
/// The opcode of a Pong.
pub const PONG: u8 = 0xA;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
/// A client must mask (§5.3), and any key is legal. With a key of zeros a finished frame can be changed.
const MASK_KEY: [u8; 4] = [0; 4];

/// Returns a frame of a client.
pub fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame(opcode, payload, Some(MASK_KEY))
}

/// Returns a frame of a server, which does not mask.
pub fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame(opcode, payload, None)
}

fn frame(opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { MASKED } else { 0 };
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(FINAL | opcode);
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
pub struct FrameReader {
    header: [u8; 10],
    header_read: usize,
    /// Bytes of the payload that are still to come; `None` while the header is incomplete.
    payload_left: Option<u64>,
}

/// A part of one frame's payload.
#[derive(Debug)]
pub struct FramePart<'a> {
    /// The opcode of the frame.
    pub opcode: u8,
    /// The bytes of the payload, which are none if only the header was there.
    pub bytes: &'a [u8],
    /// True for the first part of a frame.
    pub starts_frame: bool,
    /// True for the last part of a frame.
    pub ends_frame: bool,
}

/// The first two bytes of a frame that a server must not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHeader([u8; 2]);

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.0;
        write!(
            f,
            "the frame header {first:02x} {second:02x} breaks the protocol"
        )
    }
}

impl std::error::Error for InvalidHeader {}

impl FrameReader {
    /// Removes the next part from the front of `input` and returns it; `None` when `input` is empty.
    #[inline]
    pub fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<FramePart<'a>>, InvalidHeader> {
        let starts_frame = self.payload_left.is_none();
        if starts_frame && !self.complete_header(input) {
            return Ok(None);
        }
        let left = match self.payload_left {
            Some(_) if input.is_empty() => return Ok(None),
            Some(left) => left,
            None => self.payload_length()?,
        };
        let take = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let (bytes, rest) = input.split_at(take);
        *input = rest;
        let ends_frame = take as u64 == left;
        self.payload_left = (!ends_frame).then_some(left - take as u64);
        if ends_frame {
            self.header_read = 0;
        }
        Ok(Some(FramePart {
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

    fn payload_length(&self) -> Result<u64, InvalidHeader> {
        let [first, second, length @ ..] = self.header;
        // No extension was negotiated, and a server does not mask.
        if first & RESERVED != 0 || second & MASKED != 0 {
            return Err(InvalidHeader([first, second]));
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

    #[test]
    fn frames_are_found_in_pieces_of_any_size() {
        let payloads = [0, 1, 125, 126, 300, 65_535, 65_536];
        let bytes: Vec<u8> = payloads
            .iter()
            .flat_map(|length| server_frame(TEXT, &vec![b'x'; *length]))
            .collect();
        for size in [1, 2, 3, 7, 1000, bytes.len()] {
            let mut reader = FrameReader::default();
            let (mut found, mut payload, mut is_inside) = (Vec::new(), 0, false);
            for mut piece in bytes.chunks(size) {
                while let Some(part) = reader.next(&mut piece).unwrap() {
                    assert_eq!(part.opcode, TEXT);
                    assert_eq!(part.starts_frame, !is_inside);
                    is_inside = !part.ends_frame;
                    payload += part.bytes.len();
                    if part.ends_frame {
                        found.push(std::mem::take(&mut payload));
                    }
                }
                assert!(piece.is_empty());
            }
            assert_eq!(found, payloads, "pieces of {size}");
        }
    }

    #[test]
    fn masked_frame_of_a_server_is_invalid() {
        let mut reader = FrameReader::default();
        assert!(reader.next(&mut &client_frame(TEXT, b"x")[..]).is_err());
    }
}
