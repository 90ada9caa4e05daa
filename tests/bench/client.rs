//! One of the load generator's clients: what it has received, and whether that is as it must be.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;

use crate::frames::{CLOSE, FrameReader, PING, TEXT, client_pong};
use crate::latency;
use crate::link::Link;

const HEAD_BYTES_MAX: usize = 4096;

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) link: Link,
    stage: Stage,
    frames: FrameReader,
    /// Text frames received, the welcome among them.
    pub(crate) texts: u64,
    /// The head of the answer, later the payload of the frame being read, where anyone looks into it.
    pub(crate) held: Vec<u8>,
    offsets: Offsets,
    /// Of each stamped message since the counts were forgotten, where anyone looks into them.
    pub(crate) latencies: Vec<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before the end of the answer to the upgrade request.
    Head,
    /// Upgraded; the next text frame is the server's greeting.
    Welcome,
    Live,
}

/// Whether this client verifies the order of messages, and which offset came last.
#[derive(Clone, Copy, Debug)]
enum Offsets {
    Ignored,
    Any,
    After(u64),
}

impl Client {
    /// Without a request the other side is a floor, whose messages have no offsets.
    pub(crate) fn open(link: Link, request: Option<String>, sampled: bool) -> io::Result<Client> {
        link.socket.set_nodelay(true)?;
        // Closing resets: thousands of sockets in TIME_WAIT would slow the rounds that follow.
        set_socket_linger(&link.socket, Some(Duration::ZERO))?;
        let stage = match &request {
            Some(request) => {
                link.send_all(request.as_bytes())?;
                Stage::Head
            }
            None => Stage::Live,
        };
        let offsets = match request {
            Some(_) if sampled => Offsets::Any,
            _ => Offsets::Ignored,
        };
        let (frames, held) = (FrameReader::default(), Vec::new());
        Ok(Client {
            link,
            stage,
            frames,
            texts: 0,
            held,
            offsets,
            latencies: Vec::new(),
        })
    }

    /// Reads all there is; returns how many text frames were completed.
    pub(crate) fn read(&mut self, scratch: &mut [u8]) -> io::Result<u64> {
        let before = self.texts;
        loop {
            let read = match self.link.read(scratch) {
                Ok(0) => return Err(io::Error::other("the server closed the connection")),
                Ok(read) => read,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            };
            self.take(&scratch[..read])?;
            // A short read emptied the socket; epoll(7) allows to rely on that.
            if read < scratch.len() && !self.link.is_tls() {
                break;
            }
        }
        Ok(self.texts - before)
    }

    fn take(&mut self, mut input: &[u8]) -> io::Result<()> {
        if self.stage == Stage::Head {
            input = self.take_head(input)?;
        }
        while let Some(part) = self.frames.next(&mut input)? {
            if part.opcode != TEXT || self.looks_inside() {
                if part.starts_frame {
                    self.held.clear();
                }
                self.held.extend_from_slice(part.bytes);
            }
            if part.ends_frame {
                self.end_frame(part.opcode)?;
            }
        }
        Ok(())
    }

    /// Collects the answer to the upgrade request; returns what follows it.
    fn take_head<'a>(&mut self, input: &'a [u8]) -> io::Result<&'a [u8]> {
        let had = self.held.len();
        self.held.extend_from_slice(input);
        let Some(end) = find(&self.held, b"\r\n\r\n").map(|at| at + 4) else {
            return match self.held.len() {
                0..HEAD_BYTES_MAX => Ok(&[]),
                _ => Err(quoting("endless head", &self.held)),
            };
        };
        if !self.held.starts_with(b"HTTP/1.1 101 ") {
            return Err(quoting("upgrade refused", &self.held));
        }
        self.stage = Stage::Welcome;
        Ok(&input[end - had..])
    }

    fn looks_inside(&self) -> bool {
        self.stage == Stage::Welcome || !matches!(self.offsets, Offsets::Ignored)
    }

    fn end_frame(&mut self, opcode: u8) -> io::Result<()> {
        match opcode {
            TEXT if self.stage == Stage::Welcome => self.check_welcome()?,
            TEXT if self.looks_inside() => {
                self.latencies.extend(latency::since_stamp(&self.held));
                self.check_offset()?;
            }
            TEXT => {}
            PING => return self.link.send_all(&client_pong(&self.held)),
            CLOSE => return Err(quoting(&close_text(&self.held), &self.held)),
            _ => return Err(io::Error::other(format!("unexpected opcode {opcode:#x}"))),
        }
        self.texts += 1;
        Ok(())
    }

    fn check_welcome(&mut self) -> io::Result<()> {
        if find(&self.held, br#""from":"server""#).is_none() {
            return Err(quoting("no welcome", &self.held));
        }
        self.stage = Stage::Live;
        if matches!(self.offsets, Offsets::Ignored) {
            self.held = Vec::new();
        }
        Ok(())
    }

    fn check_offset(&mut self) -> io::Result<()> {
        let last = match self.offsets {
            Offsets::Ignored => return Ok(()),
            Offsets::Any => None,
            Offsets::After(last) => Some(last),
        };
        let offset = offset_in(&self.held).ok_or_else(|| quoting("no offset", &self.held))?;
        match last {
            Some(last) if offset != last + 1 => Err(quoting(
                &format!("offset {offset} after {last}"),
                &self.held,
            )),
            _ => {
                self.offsets = Offsets::After(offset);
                Ok(())
            }
        }
    }
}

/// The number after `"offset":`. The benchmark's own payloads cannot contain the word.
fn offset_in(json: &[u8]) -> Option<u64> {
    const NAME: &[u8] = br#""offset":"#;
    let digits = &json[find(json, NAME)? + NAME.len()..];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn close_text(payload: &[u8]) -> String {
    match payload {
        [high, low, ..] => format!(
            "the server closed with {}",
            u16::from_be_bytes([*high, *low])
        ),
        _ => "the server closed without a code".to_owned(),
    }
}

fn quoting(what: &str, bytes: &[u8]) -> io::Error {
    io::Error::other(format!("{what}: {:?}", String::from_utf8_lossy(bytes)))
}
