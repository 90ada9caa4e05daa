//! A client of a load: counts the messages of this run, and answers pings.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;

use super::frame_starts::FrameStarts;
use super::latencies::Latencies;
use super::message::Stamp;
use crate::client::error::Lost;
use crate::client::one_line;
use crate::protocol::client_frames::{CLOSE, PING, PONG, TEXT, client_frame};
use crate::socket::{Offered, Socket};

/// The start of a refusal among the frames of a server.
const ERROR_START: &[u8] = br#"{"type":"error""#;
/// Most bytes that wait for a full socket: a message and some pongs.
const UNSENT_BYTES_MAX: usize = 1024 * 1024;
/// Most reasons of one kind that are counted apart from each other.
const REASONS_MAX: usize = 8;

/// Counts of reasons, such as error codes.
pub(crate) type Reasons = BTreeMap<String, u64>;

/// Counts a reason, or `other` if there are too many.
pub(super) fn count_reason(reasons: &mut Reasons, reason: &str) {
    let is_known = reasons.len() < REASONS_MAX || reasons.contains_key(reason);
    let reason = if is_known { reason } else { "other" };
    *reasons.entry(reason.to_owned()).or_default() += 1;
}

/// Counts of what all clients have received together.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) stamp: Stamp,
    /// Open connections that have their welcome.
    pub(super) welcomes: usize,
    pub(super) deliveries: u64,
    pub(super) last_delivery: Duration,
    pub(super) latencies: Latencies,
    /// Error codes of refused messages.
    pub(super) refusals: Reasons,
    /// Refused messages by room.
    pub(super) refused: Vec<u64>,
}

impl Tally {
    pub(super) fn new(stamp: Stamp, rooms: usize) -> Self {
        Self {
            stamp,
            welcomes: 0,
            deliveries: 0,
            last_delivery: Duration::ZERO,
            latencies: Latencies::default(),
            refusals: Reasons::new(),
            refused: vec![0; rooms],
        }
    }

    /// Forgets everything but the welcomes, and marks the next messages otherwise than those before.
    pub(super) fn reset(&mut self) {
        self.stamp.renew();
        self.deliveries = 0;
        self.latencies.clear();
        self.refusals.clear();
        self.refused.fill(0);
    }
}

#[derive(Debug)]
pub(super) struct LoadClient {
    /// `None` once the connection is closed.
    socket: Option<Socket>,
    frames: FrameStarts,
    pub(super) room: usize,
    pub(super) is_welcome: bool,
    /// True if it was connected when the measurement started.
    pub(super) is_counted: bool,
    /// Messages of this run since then.
    pub(super) received: u64,
    /// Bytes that the socket did not take.
    unsent: Vec<u8>,
}

impl LoadClient {
    /// Wraps a socket that does not block.
    pub(super) fn new(socket: Socket, room: usize) -> Self {
        Self {
            socket: Some(socket),
            frames: FrameStarts::default(),
            room,
            is_welcome: false,
            is_counted: false,
            received: 0,
            unsent: Vec::new(),
        }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(Socket::as_fd)
    }

    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Returns whether another message may be sent.
    pub(super) fn is_ready(&self) -> bool {
        self.is_open() && self.unsent.is_empty()
    }

    /// Reads what has arrived. Returns the number of messages of this run.
    pub(super) fn read(&mut self, scratch: &mut [u8], tally: &mut Tally) -> Result<u64, Lost> {
        let before = self.received;
        while let Some(socket) = &self.socket {
            let read = match socket.read(scratch) {
                Ok(0) => return Err(Lost::Broken("the connection was closed".to_owned())),
                Ok(read) => read,
                Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                Err(why) => return Err(Lost::Broken(why.to_string())),
            };
            // A short read means that the socket is empty; epoll(7) guarantees it.
            let is_empty = read < scratch.len() && !socket.has_tls();
            self.parse(&scratch[..read], tally)?;
            if is_empty {
                break;
            }
        }
        Ok(self.received - before)
    }

    /// Parses received bytes.
    pub(super) fn parse(&mut self, mut bytes: &[u8], tally: &mut Tally) -> Result<(), Lost> {
        let now = tally.stamp.now();
        let mut pongs = Vec::new();
        while let Some((opcode, start)) = self.frames.next(&mut bytes)? {
            match opcode {
                TEXT if start.starts_with(ERROR_START) => {
                    let code = text_after(start, br#""code":""#);
                    if !self.is_welcome {
                        return Err(Lost::Broken(code));
                    }
                    count_reason(&mut tally.refusals, &code);
                    tally.refused[self.room] += 1;
                }
                TEXT => match tally.stamp.published_at(start) {
                    Some(at) => {
                        self.received += 1;
                        tally.deliveries += 1;
                        tally.last_delivery = now;
                        tally.latencies.add(now.saturating_sub(at));
                    }
                    // The first frame is the welcome; others are messages of other programs.
                    None if !self.is_welcome => {
                        self.is_welcome = true;
                        tally.welcomes += 1;
                    }
                    None => {}
                },
                PING => pongs.extend(client_frame(PONG, start)),
                CLOSE => return Err(closed(start)),
                // The rest of a message, or a pong.
                _ => {}
            }
        }
        if pongs.is_empty() {
            return Ok(());
        }
        self.send(&pongs)
    }

    /// Sends bytes after those that wait. Never blocks.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        if !self.unsent.is_empty() {
            if self.unsent.len() + bytes.len() > UNSENT_BYTES_MAX {
                return Err(Lost::Broken("the server stopped reading".to_owned()));
            }
            self.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        if let Offered::Part(sent) = socket.offer(bytes).map_err(broken)? {
            self.unsent.extend_from_slice(&bytes[sent..]);
        }
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> Result<(), Lost> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        match socket.offer(&self.unsent).map_err(broken)? {
            Offered::All => self.unsent.clear(),
            Offered::Part(sent) => drop(self.unsent.drain(..sent)),
        }
        Ok(())
    }

    /// Sends a Close frame with 1000, without waiting for the reply, and closes the socket.
    pub(super) fn close(&mut self) {
        // Fails if the server has closed already.
        self.send(&client_frame(CLOSE, &1000_u16.to_be_bytes()))
            .ok();
        self.socket = None;
    }
}

fn broken(why: Errno) -> Lost {
    Lost::Broken(why.to_string())
}

/// Returns the reason in a Close frame.
fn closed(payload: &[u8]) -> Lost {
    match payload {
        [high, low, reason @ ..] => Lost::Closed(
            u16::from_be_bytes([*high, *low]),
            one_line(&String::from_utf8_lossy(reason)),
        ),
        _ => Lost::Closed(1005, String::new()),
    }
}

/// Returns the text between `before` and the next quotation mark.
fn text_after(bytes: &[u8], before: &[u8]) -> String {
    let at = bytes.windows(before.len()).position(|part| part == before);
    let rest = at.map_or(&[][..], |at| &bytes[at + before.len()..]);
    let end = rest.iter().position(|byte| *byte == b'"');
    one_line(&String::from_utf8_lossy(&rest[..end.unwrap_or(0)]))
}
