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
    /// Bytes that were read with earlier ones and that tungstenite has not taken yet. Its buffer is small while a client
    /// is idle, but a read of its size only would cost a system call for each part of a message.
    ahead: Vec<u8>,
    /// Bytes that tungstenite has taken since the last message was complete.
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
            ahead: Vec::new(),
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

    /// Moves bytes that were read ahead into the buffer, if there are any. Returns their number.
    fn take_ahead(&mut self, buffer: &mut [u8]) -> Option<usize> {
        if self.ahead.is_empty() {
            return None;
        }
        let taken = self.ahead.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&self.ahead[..taken]);
        self.ahead.drain(..taken);
        if self.ahead.is_empty() {
            // An idle client keeps no buffer.
            self.ahead = Vec::new();
        }
        Some(taken)
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
        let read = self.take_ahead(buffer).map_or_else(
            || self.outbox.socket().read_ahead(buffer, &mut self.ahead),
            Ok,
        );
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
