//! The reading side of one client's WebSocket: messages, pings, and the end.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message, Utf8Bytes};

use crate::app::App;
use crate::outbox::Outbox;
use crate::protocol::{ClientId, CloseCode, Frames};
use crate::socket::{Peer, Socket};

use super::read_half::ReadHalf;

/// Read buffer of an idle client, in bytes; a longer message grows it while it is read. The rest is read
/// [ahead](super::read_half::ReadHalf).
const READ_BUFFER_BYTES: usize = 128;
/// The shortest read time-out, because zero would mean none.
const READ_TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// The connection that a session takes over.
pub(crate) struct Upgraded {
    pub(crate) client: ClientId,
    pub(crate) peer: Peer,
    /// In blocking mode; the response to the handshake was not sent yet.
    pub(crate) socket: Socket,
    /// Bytes that followed the request's head.
    pub(crate) rest: Vec<u8>,
}

/// A WebSocket whose handshake is complete.
pub(super) struct OpenedWebSocket {
    pub(super) peer: Peer,
    pub(super) outbox: Arc<Outbox>,
    /// Bytes that followed the request's head.
    pub(super) rest: Vec<u8>,
}

/// The next thing that happened on a WebSocket.
pub(super) enum Incoming {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// A Ping or a Pong. The Pong that answers a Ping is sent by the next read at the latest.
    Control,
    /// The time set by [`Transport::wake_at`] was reached.
    Alarm,
    End(End),
}

/// The end of a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client sent a Close frame.
    ClosedByClient,
    /// The socket ended without a Close frame.
    Gone,
    /// The server sent a Close frame, and the client still sends messages.
    ClosedByServer,
    /// The client sent nothing after a Ping.
    Silent,
    /// The client broke a rule and is closed with this code.
    Failed(CloseCode),
}

/// Reads a client's WebSocket.
pub(super) struct Transport {
    websocket: WebSocket<ReadHalf>,
    ping_interval: Duration,
    pong_timeout: Duration,
    /// True if a Ping was sent and nothing was read since.
    is_pinged: bool,
    /// When the client counts as silent, unless something is read before.
    silent_at: Instant,
    /// The weight of the last message.
    weight: usize,
}

impl Transport {
    /// Reads from the outbox's socket after the handshake; `rest` followed the request's head.
    ///
    /// Boxed, because an idle client may touch no more than two pages of stack.
    #[inline(never)]
    pub(super) fn new(rest: Vec<u8>, outbox: Arc<Outbox>, app: &App) -> io::Result<Box<Self>> {
        let settings = app.config.get();
        let limits = &settings.limits;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            // Every frame goes to the outbox at once, which does the buffering.
            .write_buffer_size(0)
            .max_message_size(Some(limits.max_message_bytes))
            .max_frame_size(Some(limits.max_message_bytes));
        outbox.socket().set_read_timeout(limits.ping_interval)?;
        let half = ReadHalf::new(outbox, limits.max_message_bytes);
        Ok(Box::new(Self {
            websocket: WebSocket::from_partially_read(half, rest, Role::Server, Some(config)),
            ping_interval: limits.ping_interval,
            pong_timeout: limits.pong_timeout,
            is_pinged: false,
            silent_at: Instant::now() + limits.ping_interval,
            weight: 0,
        }))
    }

    /// Makes [`next`](Self::next) return at this time, if not earlier.
    pub(super) fn wake_at(&mut self, alarm: Option<Instant>) {
        if self.half().alarm != alarm {
            self.websocket.get_mut().alarm = alarm;
            // An error means that the socket is gone, which the next read reports.
            self.arm().ok();
        }
    }

    /// Returns the least number of bytes that the last message counts for. A message may arrive in any number of
    /// frames, so its own length does not limit the work of reading it.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// Waits for the next message. Answers pings and detects silence meanwhile.
    pub(super) fn next(&mut self) -> Incoming {
        let next = self.read_next();
        if !matches!(next, Incoming::Control) {
            // The caller may send something, which must follow the pongs.
            self.send_pongs();
        }
        next
    }

    /// Sends the pongs that wait. After [`Incoming::Control`], the caller does so before it sends anything else.
    pub(super) fn send_pongs(&mut self) {
        self.websocket.get_mut().send_pongs();
    }

    fn read_next(&mut self) -> Incoming {
        loop {
            if self.half().alarm_is_due() {
                return Incoming::Alarm;
            }
            let read = self.websocket.read();
            if matches!(read, Ok(ref message) if !message.is_close()) && self.is_ending() {
                return Incoming::End(End::ClosedByServer);
            }
            if read.is_ok() {
                self.note_activity();
                self.weight = self.websocket.get_mut().take_weight();
            }
            match read {
                Ok(Message::Text(text)) => return Incoming::Text(text),
                Ok(Message::Binary(bytes)) => return Incoming::Binary(bytes),
                Ok(Message::Ping(_) | Message::Pong(_)) => return Incoming::Control,
                Ok(Message::Frame(_)) => {}
                Ok(Message::Close(_)) => {
                    // Hands the reply to the outbox; the error only says that the WebSocket is closed.
                    self.websocket.flush().ok();
                    return Incoming::End(End::ClosedByClient);
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(Error::Io(error)) if is_timeout(&error) && self.half().alarm_is_due() => {}
                Err(Error::Io(error)) if is_timeout(&error) && self.is_early() => {
                    if self.arm().is_err() {
                        return Incoming::End(End::Gone);
                    }
                }
                Err(Error::Io(error)) if is_timeout(&error) => {
                    if let Some(end) = self.check_silence() {
                        return Incoming::End(end);
                    }
                }
                Err(error) => return Incoming::End(end_of(&error)),
            }
        }
    }

    /// Waits until the client closes too, unless it can send nothing more. Returns whether it has closed.
    pub(super) fn linger(&self, end: End) -> bool {
        let outbox = &self.half().outbox;
        let socket = outbox.socket();
        // Nothing follows a client's Close frame (RFC 6455 §5.5.1), except the end of TLS. Without unread input, closing
        // resets no connection, so the thread need not wait for the client.
        if end == End::ClosedByClient && outbox.is_finished() && !socket.has_tls() {
            socket.discard();
            return true;
        }
        socket.linger()
    }

    /// Pings a client that was silent until the time-out, or ends it if it was pinged already.
    fn check_silence(&mut self) -> Option<End> {
        if self.half().is_active {
            self.note_activity();
            return None;
        }
        if self.is_ending() {
            return Some(End::ClosedByServer);
        }
        if self.is_pinged {
            return Some(End::Silent);
        }
        self.half().outbox.push(&Frames::ping());
        self.is_pinged = true;
        self.silent_at = Instant::now() + self.pong_timeout;
        self.arm().is_err().then_some(End::Gone)
    }

    /// Returns whether a time-out came before the client counts as silent, because it was that of an earlier alarm.
    fn is_early(&self) -> bool {
        Instant::now() < self.silent_at && !self.is_ending()
    }

    fn is_ending(&self) -> bool {
        self.half().outbox.is_ending()
    }

    /// Restarts the time until a ping if the client was active, and stops waiting for a pong.
    fn note_activity(&mut self) {
        if !std::mem::take(&mut self.websocket.get_mut().is_active) {
            return;
        }
        self.silent_at = Instant::now() + self.ping_interval;
        if std::mem::take(&mut self.is_pinged) {
            // An error means that the socket is gone, which the next read reports.
            self.arm().ok();
        }
    }

    /// Sets the socket's time-out to the time until the client counts as silent, or until the alarm. The time-out
    /// starts again with each read, so it needs no change when the client is active.
    fn arm(&self) -> io::Result<()> {
        let ReadHalf { outbox, alarm, .. } = self.half();
        let wake_at = alarm.map_or(self.silent_at, |alarm| alarm.min(self.silent_at));
        let timeout = wake_at.saturating_duration_since(Instant::now());
        let timeout = timeout.max(READ_TIMEOUT_MIN);
        outbox.socket().set_read_timeout(timeout)
    }

    fn half(&self) -> &ReadHalf {
        self.websocket.get_ref()
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn end_of(error: &Error) -> End {
    match error {
        Error::Capacity(_) => End::Failed(CloseCode::TooBig),
        Error::Io(error) if error.kind() == ErrorKind::FileTooLarge => {
            End::Failed(CloseCode::TooBig)
        }
        Error::Utf8(_) => End::Failed(CloseCode::InvalidData),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Gone,
        Error::Protocol(_) => End::Failed(CloseCode::Protocol),
        Error::ConnectionClosed | Error::AlreadyClosed => End::ClosedByClient,
        _ => End::Gone,
    }
}
