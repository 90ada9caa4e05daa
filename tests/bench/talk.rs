//! One client on a thread of its own, for conversations that a fleet does not have.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use crate::frames::{CLOSE, FrameReader, PING, TEXT, client_pong, client_text};

const PATIENCE: Duration = Duration::from_secs(20);
const BUFFER_BYTES: usize = 64 * 1024;

pub(crate) struct Talk {
    socket: TcpStream,
    frames: FrameReader,
    buffer: Vec<u8>,
    /// What of the buffer was read from the socket and not looked at yet.
    unread: std::ops::Range<usize>,
    payload: Vec<u8>,
}

impl Talk {
    /// Connects to this path and query and reads the welcome.
    pub(crate) fn connect(address: SocketAddrV4, target: &str) -> io::Result<Talk> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(
            format!(
                "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Sec-WebSocket-Version: 13\r\n\r\n"
            )
            .as_bytes(),
        )?;
        let mut talk = Talk {
            socket,
            frames: FrameReader::default(),
            buffer: vec![0; BUFFER_BYTES],
            unread: 0..0,
            payload: Vec::new(),
        };
        talk.skip_head()?;
        talk.next_text()?;
        Ok(talk)
    }

    pub(crate) fn send(&mut self, json: &str) -> io::Result<()> {
        self.socket.write_all(&client_text(json.as_bytes()))
    }

    /// The payload of the next text frame.
    pub(crate) fn next_text(&mut self) -> io::Result<&[u8]> {
        loop {
            let before = &self.buffer[self.unread.clone()];
            let mut input = before;
            let part = self.frames.next(&mut input)?;
            let used = before.len() - input.len();
            if let Some(part) = part {
                if part.starts_frame {
                    self.payload.clear();
                }
                self.payload.extend_from_slice(part.bytes);
                let (opcode, ends) = (part.opcode, part.ends_frame);
                self.unread.start += used;
                match opcode {
                    TEXT if ends => return Ok(&self.payload),
                    PING if ends => self.socket.write_all(&client_pong(&self.payload))?,
                    CLOSE if ends => return Err(io::Error::other("the server closed")),
                    _ => {}
                }
            } else {
                self.fill()?;
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let read = self.socket.read(&mut self.buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.unread = 0..read;
        Ok(())
    }

    fn skip_head(&mut self) -> io::Result<()> {
        let mut head = Vec::new();
        loop {
            self.fill()?;
            let had = head.len();
            head.extend_from_slice(&self.buffer[self.unread.clone()]);
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                if !head.starts_with(b"HTTP/1.1 101 ") {
                    let head = String::from_utf8_lossy(&head).into_owned();
                    return Err(io::Error::other(format!("upgrade refused: {head}")));
                }
                self.unread.start = end + 4 - had;
                return Ok(());
            }
        }
    }
}
