//! A WebSocket client with blocking reads, for load that needs a thread per client.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use wscast::protocol::client_frames::{CLOSE, FrameReader, PING, TEXT};

use crate::client_group::ServerProtocol;
use crate::frames::{client_pong, client_text, upgrade_request};

const READ_DEADLINE: Duration = Duration::from_secs(20);
const BUFFER_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct BlockingClient {
    socket: TcpStream,
    frames: FrameReader,
    buffer: Vec<u8>,
    /// The part of the buffer that was read from the socket and is not parsed yet.
    unparsed: std::ops::Range<usize>,
    payload: Vec<u8>,
}

impl BlockingClient {
    /// Connects to this path and query, and reads the welcome.
    pub(crate) fn connect(address: SocketAddrV4, target: &str) -> io::Result<BlockingClient> {
        BlockingClient::connect_as(address, target, ServerProtocol::WebSocket)
    }

    /// Connects to this path and query, and reads the welcome if the protocol has one.
    pub(crate) fn connect_as(
        address: SocketAddrV4,
        target: &str,
        protocol: ServerProtocol,
    ) -> io::Result<BlockingClient> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(READ_DEADLINE))?;
        socket.write_all(upgrade_request(target).as_bytes())?;
        let mut client = BlockingClient {
            socket,
            frames: FrameReader::default(),
            buffer: vec![0; BUFFER_BYTES],
            unparsed: 0..0,
            payload: Vec::new(),
        };
        client.read_response_head()?;
        if protocol != ServerProtocol::RelayWithoutWelcome {
            client.next_text()?;
        }
        Ok(client)
    }

    /// Limits the wait of each later read. A read that takes longer fails with `WouldBlock`, and can be repeated.
    pub(crate) fn limit_reads(&self, limit: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(limit))
    }

    /// Returns the payload of the last text frame. After connecting it is the welcome.
    pub(crate) fn last_text(&self) -> &[u8] {
        &self.payload
    }

    /// Resets the connection, as a network does that is gone.
    pub(crate) fn cut(self) -> io::Result<()> {
        Ok(set_socket_linger(&self.socket, Some(Duration::ZERO))?)
    }

    pub(crate) fn send(&mut self, json: &str) -> io::Result<()> {
        self.socket.write_all(&client_text(json.as_bytes()))
    }

    /// Blocks until the next text frame and returns its payload.
    pub(crate) fn next_text(&mut self) -> io::Result<&[u8]> {
        loop {
            let before = &self.buffer[self.unparsed.clone()];
            let mut input = before;
            let part = self.frames.next(&mut input).map_err(io::Error::other)?;
            let used = before.len() - input.len();
            if let Some(part) = part {
                if part.starts_frame {
                    self.payload.clear();
                }
                self.payload.extend_from_slice(part.bytes);
                let (opcode, ends) = (part.opcode, part.ends_frame);
                self.unparsed.start += used;
                match opcode {
                    TEXT if ends => return Ok(&self.payload),
                    PING if ends => self.socket.write_all(&client_pong(&self.payload))?,
                    CLOSE if ends => return Err(io::Error::other("the server closed")),
                    _ => {}
                }
            } else {
                self.fill_buffer()?;
            }
        }
    }

    fn fill_buffer(&mut self) -> io::Result<()> {
        let read = self.socket.read(&mut self.buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.unparsed = 0..read;
        Ok(())
    }

    fn read_response_head(&mut self) -> io::Result<()> {
        let mut head = Vec::new();
        loop {
            self.fill_buffer()?;
            let before = head.len();
            head.extend_from_slice(&self.buffer[self.unparsed.clone()]);
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                if !head.starts_with(b"HTTP/1.1 101 ") {
                    let head = String::from_utf8_lossy(&head).into_owned();
                    return Err(io::Error::other(format!("upgrade refused: {head}")));
                }
                self.unparsed.start = end + 4 - before;
                return Ok(());
            }
        }
    }
}
