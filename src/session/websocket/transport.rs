//! One client's WebSocket: messages in, liveness, and the end of it, whichever way it comes.
//!
//! tungstenite reads; what it wants to write (pongs, close replies) goes to the outbox as whole
//! frames, so that it keeps its place among everything else that is sent.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message, Utf8Bytes};

use crate::app::App;
use crate::outbox::Outbox;
use crate::protocol::{CloseCode, Frames};
use crate::socket::{LINGER, LINGER_BYTES_MAX};

/// Read buffer of a client that is idle; a longer message grows it while it is read.
const READ_BUFFER_BYTES: usize = 2048;
/// Bytes of frames for each byte of a message: one that comes in fragments of one byte has seven.
const FRAMING_FACTOR_MAX: usize = 8;

/// What came next from a client.
pub(super) enum Incoming {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// A Ping, which has been answered, or a Pong.
    Control,
    /// The moment came that [`Transport::wake_at`] named.
    Alarm,
    End(End),
}

/// Why nothing more will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client sent a Close frame.
    ClosedByClient,
    /// The socket broke or ended without one, or the server ended it.
    Gone,
    /// The server ended it, and the client goes on as if it had not.
    ClosedByServer,
    /// The client was silent after a ping.
    Silent,
    /// The client broke a rule and is told this code.
    Failed(CloseCode),
}

/// The reading half of a client's WebSocket.
pub(super) struct Transport {
    websocket: WebSocket<ReadHalf>,
    ping_interval: Duration,
    pong_timeout: Duration,
    /// Whether a ping is out and nothing was heard since.
    pinged: bool,
    /// What the message that came last weighs.
    weight: usize,
}

impl Transport {
    /// Reads the outbox's socket, whose handshake is answered; `rest` followed the request's head.
    ///
    /// On the heap, which takes what it needs: on the stack it was what made an idle client touch a third page.
    #[inline(never)]
    pub(super) fn new(rest: Vec<u8>, outbox: Arc<Outbox>, app: &App) -> io::Result<Box<Self>> {
        let limits = &app.config.limits;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            // Every frame is handed on at once: the outbox does the buffering.
            .write_buffer_size(0)
            .max_message_size(Some(limits.max_message_bytes))
            .max_frame_size(Some(limits.max_message_bytes));
        outbox.socket().set_read_timeout(limits.ping_interval)?;
        let half = ReadHalf {
            outbox,
            heard: false,
            alarm: None,
            bytes: 0,
            bytes_max: limits.max_message_bytes.saturating_mul(FRAMING_FACTOR_MAX),
        };
        Ok(Box::new(Self {
            websocket: WebSocket::from_partially_read(half, rest, Role::Server, Some(config)),
            ping_interval: limits.ping_interval,
            pong_timeout: limits.pong_timeout,
            pinged: false,
            weight: 0,
        }))
    }

    /// Makes [`next`](Self::next) return at this moment, if nothing else does before.
    pub(super) fn wake_at(&mut self, alarm: Option<Instant>) {
        let known = &mut self.websocket.get_mut().alarm;
        if *known != alarm {
            *known = alarm;
            let _socket_gone = self.set_read_timeout(self.patience());
        }
    }

    /// How long the client may be silent now.
    fn patience(&self) -> Duration {
        match self.pinged {
            true => self.pong_timeout,
            false => self.ping_interval,
        }
    }

    /// What the message that came last counts for at least, in bytes, however little it said: there is no
    /// bound on the frames that it may come in.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// Waits for the next message. Pings are answered and silence is noticed on the way.
    pub(super) fn next(&mut self) -> Incoming {
        loop {
            if self.alarm_is_due() {
                return Incoming::Alarm;
            }
            let read = self.websocket.read();
            if matches!(read, Ok(ref message) if !message.is_close()) && self.is_ending() {
                return Incoming::End(End::ClosedByServer);
            }
            if read.is_ok() {
                self.note_what_was_heard();
                self.weight = self.websocket.get_mut().take_weight();
            }
            match read {
                Ok(Message::Text(text)) => return Incoming::Text(text),
                Ok(Message::Binary(bytes)) => return Incoming::Binary(bytes),
                Ok(Message::Ping(_) | Message::Pong(_)) => return Incoming::Control,
                Ok(Message::Frame(_)) => {}
                Ok(Message::Close(_)) => {
                    // Hands the reply to the outbox; what it returns is that all is over.
                    let _closed = self.websocket.flush();
                    return Incoming::End(End::ClosedByClient);
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(Error::Io(error)) if is_timeout(&error) && self.alarm_is_due() => {}
                Err(Error::Io(error)) if is_timeout(&error) => {
                    if let Some(end) = self.check_liveness() {
                        return Incoming::End(end);
                    }
                }
                Err(error) => return Incoming::End(end_of(&error)),
            }
        }
    }

    /// Reads and forgets what still comes, until the peer closes too or the time is up. Closing a
    /// socket with unread input would reset it, and the Close frame with it.
    pub(super) fn linger(&mut self) {
        let socket = self.websocket.get_ref().outbox.socket();
        let deadline = Instant::now() + LINGER;
        let (mut discarded, mut bytes) = ([0; 512], 0);
        while bytes < LINGER_BYTES_MAX {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || socket.set_read_timeout(left).is_err() {
                return;
            }
            match socket.read(&mut discarded) {
                Ok(read @ 1..) => bytes += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Called after a time-out: all of the interval, or of the time to answer a ping, was silent.
    fn check_liveness(&mut self) -> Option<End> {
        if self.websocket.get_ref().heard {
            self.note_what_was_heard();
            return None;
        }
        let half = self.websocket.get_mut();
        if half.outbox.is_ending() {
            return Some(End::ClosedByServer);
        }
        if self.pinged {
            return Some(End::Silent);
        }
        half.outbox.push(&Frames::ping());
        self.pinged = true;
        self.set_read_timeout(self.pong_timeout)
    }

    fn alarm_is_due(&self) -> bool {
        self.websocket.get_ref().alarm_is_due()
    }

    fn is_ending(&self) -> bool {
        self.websocket.get_ref().outbox.is_ending()
    }

    fn note_what_was_heard(&mut self) {
        let heard = &mut self.websocket.get_mut().heard;
        if std::mem::take(heard) && std::mem::take(&mut self.pinged) {
            let _socket_gone = self.set_read_timeout(self.ping_interval);
        }
    }

    fn set_read_timeout(&self, timeout: Duration) -> Option<End> {
        let socket = self.websocket.get_ref().outbox.socket();
        let alarm = self.websocket.get_ref().alarm;
        let until_alarm = alarm.map(|alarm| alarm.saturating_duration_since(Instant::now()));
        // A time-out of zero would mean none.
        let timeout = timeout
            .min(until_alarm.unwrap_or(timeout))
            .max(Duration::from_millis(1));
        socket
            .set_read_timeout(timeout)
            .is_err()
            .then_some(End::Gone)
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

struct ReadHalf {
    outbox: Arc<Outbox>,
    /// Whether any byte came since this was last looked at.
    heard: bool,
    /// When the session wants to be woken, whatever comes.
    alarm: Option<Instant>,
    /// Bytes that came since the last message was complete.
    bytes: usize,
    /// How many of them one message may take.
    bytes_max: usize,
}

impl ReadHalf {
    fn alarm_is_due(&self) -> bool {
        self.alarm.is_some_and(|alarm| alarm <= Instant::now())
    }

    fn take_weight(&mut self) -> usize {
        std::mem::take(&mut self.bytes).min(self.bytes_max) / FRAMING_FACTOR_MAX
    }

    /// A frame may come byte by byte and a message in fragments without end, and tungstenite reads on until
    /// it is complete. So whoever sends one is still stopped here when its time is up or the connection over.
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
            // Of TLS there may come what says nothing, again and again.
            Err(error) if error.kind() == ErrorKind::Interrupted => self.bytes += 1,
            Err(_) => {}
        }
        self.heard |= matches!(read, Ok(1..));
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
