//! The stream that tungstenite reads: the client's socket for input, its outbox for output.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use crate::outbox::Outbox;
use crate::protocol::Frames;

/// The first byte of a Pong (RFC 6455 §5.2).
const PONG: u8 = 0x8A;
/// Pongs are sent once they fill this many bytes.
const PONGS_BYTES_MAX: usize = 4 * 1024;

/// Bytes of frames for each byte of a message: a message in fragments of one byte has seven.
const FRAMING_FACTOR_MAX: usize = 8;

/// Reads from the socket. Whole frames that tungstenite writes, pongs and close replies, go to the outbox, so that they
/// keep their order among the frames that this thread sends. Pongs to pings that arrived together leave together: in a
/// packet each, they would fill the client's socket with far more memory than bytes.
pub(super) struct ReadHalf {
    pub(super) outbox: Arc<Outbox>,
    /// True if any byte was read since this was last cleared.
    pub(super) is_active: bool,
    /// The time at which reading is interrupted.
    pub(super) alarm: Option<Instant>,
    /// Bytes read ahead of tungstenite. tungstenite's buffer is small; reading only its size would cost a system call
    /// for each part of a message.
    ahead: Vec<u8>,
    /// Pongs that were not sent yet, because more pings may have arrived with theirs.
    pongs: Vec<u8>,
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
            pongs: Vec::new(),
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

    /// Sends the pongs that wait. Called before anything else is sent to the client by its own thread.
    pub(super) fn send_pongs(&mut self) {
        if !self.pongs.is_empty() {
            self.outbox
                .push(&Frames::from(std::mem::take(&mut self.pongs)));
        }
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
        if self.ahead.is_empty() {
            // The thread may wait for the client now.
            self.send_pongs();
        }
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
        if frames.first() == Some(&PONG) {
            self.pongs.extend_from_slice(frames);
            if self.pongs.len() >= PONGS_BYTES_MAX {
                self.send_pongs();
            }
        } else {
            self.send_pongs();
            self.outbox.push(&Frames::encoded(frames));
        }
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
    use rustix::net::{recv, send, socketpair};
    use tungstenite::protocol::{Role, WebSocketConfig};
    use tungstenite::{Message, WebSocket};

    use crate::metrics::Metrics;
    use crate::outbox::{OutboxLimits, Wire};
    use crate::protocol::ClientId;
    use crate::protocol::client_frames::{PING, client_frame};
    use crate::socket::Socket;

    use super::*;

    /// The socket keeps the bounds of what was sent at once.
    #[test]
    fn pongs_to_pings_that_arrived_together_are_sent_at_once() {
        const PINGS: usize = 80;
        let flags = SocketFlags::CLOEXEC;
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (server, client) = pair.expect("a socket pair");
        let socket = Socket::new(server);
        socket.set_nonblocking().expect("a non-blocking socket");
        let limits = OutboxLimits {
            bytes: 64 * 1024,
            slow_timeout: Duration::from_secs(60),
        };
        let metrics = Arc::new(Metrics::default());
        let outbox = Outbox::new(
            ClientId::new(0, 1),
            socket,
            limits,
            metrics,
            Wire::WebSocket,
        );
        let config = WebSocketConfig::default()
            .read_buffer_size(128)
            .write_buffer_size(0);
        let half = ReadHalf::new(outbox, 1024);
        let mut websocket = WebSocket::from_raw_socket(half, Role::Server, Some(config));

        let pings = client_frame(PING, b"").repeat(PINGS);
        send(&client, &pings, SendFlags::empty()).expect("pings");
        for _ in 0..PINGS {
            assert!(matches!(websocket.read(), Ok(Message::Ping(_))));
        }
        assert!(websocket.read().is_err(), "nothing more has arrived");
        let mut pongs = [0; 1024];
        let (received, _) = recv(&client, &mut pongs[..], RecvFlags::DONTWAIT).expect("pongs");
        assert_eq!(pongs[..received], [PONG, 0].repeat(PINGS));
    }
}
