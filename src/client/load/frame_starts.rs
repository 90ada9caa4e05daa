//! The frames of a server, each with the start of its payload.

use crate::client::error::Lost;
use crate::protocol::client_frames::FrameReader;

/// Bytes of a payload that are kept: all of a control frame, and of a text frame its type and its stamp.
const START_BYTES: usize = 125;

/// Finds the frames in a server's bytes, whatever the sizes of the reads.
#[derive(Debug)]
pub(super) struct FrameStarts {
    frames: FrameReader,
    start: [u8; START_BYTES],
    start_read: usize,
}

impl Default for FrameStarts {
    fn default() -> Self {
        Self {
            frames: FrameReader::default(),
            start: [0; START_BYTES],
            start_read: 0,
        }
    }
}

impl FrameStarts {
    /// Removes bytes from the front of `input`, up to the end of a frame. Returns the frame's opcode and the start of its
    /// payload; `None` if the input ended before.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<(u8, &[u8])>, Lost> {
        loop {
            let part = self.frames.next(input);
            let part = part.map_err(|why| Lost::Broken(why.to_string()))?;
            let Some(part) = part else {
                return Ok(None);
            };
            if part.starts_frame {
                self.start_read = 0;
            }
            let kept = part.bytes.len().min(START_BYTES - self.start_read);
            self.start[self.start_read..][..kept].copy_from_slice(&part.bytes[..kept]);
            self.start_read += kept;
            if part.ends_frame {
                return Ok(Some((part.opcode, &self.start[..self.start_read])));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::client_frames::{TEXT, server_frame};

    use super::*;

    #[test]
    fn start_of_each_frame_is_kept_in_pieces_of_any_size() {
        let payloads = [0, 1, 125, 126, 300, 65_536];
        let bytes: Vec<u8> = payloads
            .iter()
            .flat_map(|length| server_frame(TEXT, &vec![b'x'; *length]))
            .collect();
        for size in [1, 3, 1000, bytes.len()] {
            let mut frames = FrameStarts::default();
            let mut found = Vec::new();
            for mut piece in bytes.chunks(size) {
                while let Some((opcode, start)) = frames.next(&mut piece).unwrap() {
                    assert_eq!(opcode, TEXT);
                    found.push(start.len());
                }
                assert!(piece.is_empty());
            }
            let expected = payloads.map(|length| length.min(START_BYTES));
            assert_eq!(found, expected, "pieces of {size}");
        }
    }
}
