//! A client of the load generator: counts what it receives and checks the order of messages.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_linger, set_tcp_quickack};
use wscast::protocol::client_frames::{CLOSE, FrameReader, PING, TEXT};

use crate::client_group::ServerProtocol;
use crate::client_socket::ClientSocket;
use crate::frames::client_pong;
use crate::latency;

const HEAD_BYTES_MAX: usize = 4096;

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: ClientSocket,
    stage: Stage,
    /// True if the first text frame is a welcome.
    expects_welcome: bool,
    frames: FrameReader,
    /// Text frames received since the counts were reset. The welcome counts as one.
    pub(crate) texts: u64,
    /// The head of the response, and later the payload of the current frame if this client parses payloads.
    pub(crate) buffer: Vec<u8>,
    parses_payloads: bool,
    offsets: OffsetCheck,
    /// The latencies of stamped messages since the counts were reset, if this client parses payloads.
    pub(crate) latencies: Vec<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The response to the upgrade request is incomplete.
    Head,
    /// The next text frame is the server's welcome.
    Welcome,
    Live,
}

/// The check of the messages' order. Only a sample of clients does it.
#[derive(Clone, Copy, Debug)]
enum OffsetCheck {
    Off,
    /// The next offset may have any value.
    Any,
    /// The next offset must follow this one.
    After(u64),
}

impl Client {
    /// Sends the upgrade request, if the protocol has one.
    pub(crate) fn open(
        socket: ClientSocket,
        protocol: ServerProtocol,
        request: Option<String>,
        parses_payloads: bool,
    ) -> io::Result<Client> {
        socket.tcp.set_nodelay(true)?;
        // Closing resets the connection, because thousands of sockets in TIME_WAIT would slow down the next rounds.
        set_socket_linger(&socket.tcp, Some(Duration::ZERO))?;
        let stage = match &request {
            Some(request) => {
                socket.send_all(request.as_bytes())?;
                Stage::Head
            }
            None => Stage::Live,
        };
        let offsets = if protocol == ServerProtocol::WebSocket && parses_payloads {
            OffsetCheck::Any
        } else {
            OffsetCheck::Off
        };
        let (frames, buffer) = (FrameReader::default(), Vec::new());
        Ok(Client {
            socket,
            stage,
            expects_welcome: protocol != ServerProtocol::RelayWithoutWelcome,
            frames,
            texts: 0,
            buffer,
            parses_payloads: parses_payloads && protocol != ServerProtocol::BareFrames,
            offsets,
            latencies: Vec::new(),
        })
    }

    /// Reads all available bytes and returns the number of completed text frames.
    pub(crate) fn read(&mut self, scratch: &mut [u8]) -> io::Result<u64> {
        let before = self.texts;
        loop {
            let read = match self.socket.read(scratch) {
                Ok(0) => return Err(io::Error::other("the server closed the connection")),
                Ok(read) => read,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            };
            self.parse(&scratch[..read])?;
            // A short read means that the socket is empty; epoll(7) guarantees it.
            if read < scratch.len() && !self.socket.is_tls() {
                break;
            }
        }
        Ok(self.texts - before)
    }

    fn parse(&mut self, mut input: &[u8]) -> io::Result<()> {
        if self.stage == Stage::Head {
            input = self.parse_head(input)?;
        }
        while let Some(part) = self.frames.next(&mut input).map_err(io::Error::other)? {
            if part.opcode != TEXT || self.needs_payload() {
                if part.starts_frame {
                    self.buffer.clear();
                }
                self.buffer.extend_from_slice(part.bytes);
            }
            if part.ends_frame {
                self.end_frame(part.opcode)?;
            }
        }
        Ok(())
    }

    /// From now on the kernel acknowledges whenever this client has read all, as it does for a client that seldom sends.
    /// Otherwise it depends on the packets of the handshake on which core acknowledgements are made: that of the client,
    /// or for a local client that of the server.
    fn set_live(&mut self) -> io::Result<()> {
        set_tcp_quickack(&self.socket.tcp, true)?;
        self.stage = Stage::Live;
        Ok(())
    }

    /// Reads the response to the upgrade request and returns the bytes after it.
    fn parse_head<'a>(&mut self, input: &'a [u8]) -> io::Result<&'a [u8]> {
        let before = self.buffer.len();
        self.buffer.extend_from_slice(input);
        let Some(end) = find(&self.buffer, b"\r\n\r\n").map(|at| at + 4) else {
            return match self.buffer.len() {
                0..HEAD_BYTES_MAX => Ok(&[]),
                _ => Err(error_with("response head is too long", &self.buffer)),
            };
        };
        if !self.buffer.starts_with(b"HTTP/1.1 101 ") {
            return Err(error_with("upgrade refused", &self.buffer));
        }
        if self.expects_welcome {
            self.stage = Stage::Welcome;
        } else {
            // The response counts as the welcome.
            self.set_live()?;
            self.texts += 1;
        }
        Ok(&input[end - before..])
    }

    fn needs_payload(&self) -> bool {
        self.stage == Stage::Welcome || self.parses_payloads
    }

    fn end_frame(&mut self, opcode: u8) -> io::Result<()> {
        match opcode {
            TEXT if self.stage == Stage::Welcome => self.check_welcome()?,
            TEXT if self.needs_payload() => {
                self.latencies.extend(latency::age_of(&self.buffer));
                self.check_offset()?;
            }
            TEXT => {}
            PING => return self.socket.send_all(&client_pong(&self.buffer)),
            CLOSE => return Err(error_with(&close_text(&self.buffer), &self.buffer)),
            _ => return Err(io::Error::other(format!("unexpected opcode {opcode:#x}"))),
        }
        self.texts += 1;
        Ok(())
    }

    fn check_welcome(&mut self) -> io::Result<()> {
        if find(&self.buffer, br#""from":"server""#).is_none() {
            return Err(error_with("not a welcome", &self.buffer));
        }
        self.set_live()?;
        if !self.parses_payloads {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn check_offset(&mut self) -> io::Result<()> {
        let last = match self.offsets {
            OffsetCheck::Off => return Ok(()),
            OffsetCheck::Any => None,
            OffsetCheck::After(last) => Some(last),
        };
        let offset =
            offset_in(&self.buffer).ok_or_else(|| error_with("no offset", &self.buffer))?;
        match last {
            Some(last) if offset != last + 1 => Err(error_with(
                &format!("offset {offset} after {last}"),
                &self.buffer,
            )),
            _ => {
                self.offsets = OffsetCheck::After(offset);
                Ok(())
            }
        }
    }
}

/// Returns the number after `"offset":`. The benchmark's payloads do not contain this word.
pub(crate) fn offset_in(json: &[u8]) -> Option<u64> {
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

fn error_with(message: &str, bytes: &[u8]) -> io::Error {
    io::Error::other(format!("{message}: {:?}", String::from_utf8_lossy(bytes)))
}
