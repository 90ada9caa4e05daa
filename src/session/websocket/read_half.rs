//! The stream that tungstenite reads: the client's socket for input, its outbox for output.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use crate::outbox::Outbox;
use crate::protocol::Frames;

/// Bytes of frames for each byte of a message: a message in fragments of one byte has seven.
const FRAMING_FACTOR_MAX: usize = 8;

/// Reads from the socket. Whole frames that tungstenite writes, pongs and close replies, go to the outbox, so that
/// they keep their order among everything else that is sent.
pub(super) struct ReadHalf {
    pub(super) outbox: Arc<Outbox>,
    /// True if any byte was read since this was last cleared.
    pub(super) is_active: bool,
    /// The time at which reading is interrupted.
    pub(super) alarm: Option<Instant>,
    /// Bytes read since the last message was complete.
    bytes: usize,
    /// Bytes that the frames of one message may take.
    bytes_max: usize,
}

impl ReadHalf {
    pub(super) fn new(outbox: Arc<Outbox>, message_bytes_max: usize) -> Self {
        Self {
            outbox,
            is_active: false,
            alarm: None,
            bytes: 0,
            bytes_max: message_bytes_max.saturating_mul(FRAMING_FACTOR_MAX),
        }
    }

    pub(super) fn alarm_is_due(&self) -> bool {
        self.alarm.is_some_and(|alarm| alarm <= Instant::now())
    }

    /// Returns the weight of the message that was read last, and starts counting the next.
    pub(super) fn take_weight(&mut self) -> usize {
        std::mem::take(&mut self.bytes).min(self.bytes_max) / FRAMING_FACTOR_MAX
    }

    /// Returns whether reading must stop in the middle of a message. tungstenite reads until a message is complete, but
    /// a client can send a frame byte by byte, or fragments without end.
    fn is_interrupted(&self) -> bool {
        self.alarm_is_due() || (self.bytes > 0 && self.outbox.is_ending())
    }
}

impl Read for ReadHalf {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_interrupted() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.bytes > self.bytes_max {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let read = self.outbox.socket().read(buffer);
        match &read {
            Ok(read) => self.bytes += read,
            // TLS records without data cost work too, so each counts as a byte.
            Err(error) if error.kind() == ErrorKind::Interrupted => self.bytes += 1,
            Err(_) => {}
        }
        self.is_active |= matches!(read, Ok(1..));
        read
    }
}

impl Write for ReadHalf {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        self.outbox.push(&Frames::encoded(frames));
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
