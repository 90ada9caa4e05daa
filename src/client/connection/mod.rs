//! A connection to the server: from the name look-up to its loss. After the handshake nothing blocks.

mod address;
mod handshake;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Bytes, Error, Message, Utf8Bytes, WebSocket};

pub(crate) use self::address::ServerAddress;
use crate::client::error::{ClientError, Lost};
use crate::socket::tls::{TlsConnector, TlsError};
use crate::socket::{Offered, Socket};

/// Silence of the server before it is pinged.
const SILENCE_MAX: Duration = Duration::from_secs(25);
/// Time for a pinged server to send anything.
const PONG_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest frame that is taken from a server.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Memory for received bytes that are not parsed yet.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// A server and how to connect to it.
#[derive(Clone, Debug)]
pub(crate) struct ServerAccess {
    pub(crate) address: ServerAddress,
    pub(crate) token: Option<String>,
    /// Authorities to trust in place of the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// Time from the name look-up to the end of the handshake.
    pub(crate) connect_timeout: Duration,
}

/// An open connection.
pub(super) struct ClientConnection {
    socket: WebSocket<ClientTransport>,
    /// True if frames wait here because the socket was full.
    is_blocked: bool,
    heard_at: Instant,
    pinged_at: Option<Instant>,
}

/// Opens connections to one server. The look-up of its name and of the trusted authorities is done once.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    access: ServerAccess,
    addresses: Vec<SocketAddr>,
    connector: Option<TlsConnector>,
}

impl ServerAccess {
    /// Looks up the server's name and, for TLS, the authorities to trust.
    pub(super) fn dialer(&self) -> Result<Dialer, ClientError> {
        let ServerAddress { host, port, .. } = &self.address;
        let found = (host.as_str(), *port).to_socket_addrs();
        let addresses = found.map_err(|why| self.unreachable(&why))?.collect();
        let connector = match self.address.has_tls {
            true => Some(TlsConnector::new(self.ca_file.as_deref()).map_err(ClientError::Failed)?),
            false => None,
        };
        Ok(Dialer {
            access: self.clone(),
            addresses,
            connector,
        })
    }

    /// Connects and completes the handshake; `query` names the rooms.
    pub(super) fn connect(&self, query: &str) -> Result<ClientConnection, ClientError> {
        let deadline = Instant::now() + self.connect_timeout;
        let (socket, rest) = self.dialer()?.open(query, deadline)?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX))
            .read_buffer_size(READ_BUFFER_BYTES);
        let transport = ClientTransport(socket);
        Ok(ClientConnection {
            socket: WebSocket::from_partially_read(transport, rest, Role::Client, Some(config)),
            is_blocked: false,
            heard_at: Instant::now(),
            pinged_at: None,
        })
    }

    fn unreachable(&self, why: &io::Error) -> ClientError {
        let cure = match why.kind() {
            ErrorKind::ConnectionRefused => {
                "no server runs there; start one with `wscast`, or write the address of one in --url"
            }
            ErrorKind::TimedOut => {
                "is the address in --url right, and does a firewall let you pass?"
            }
            _ => "is the address in --url right?",
        };
        ClientError::Unreachable(format!("cannot connect to {}: {why}; {cure}", self.address))
    }

    fn start_tls(
        &self,
        connector: &TlsConnector,
        socket: &mut Socket,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        let address = &self.address;
        let started = socket.start_tls_with(connector, &address.host, deadline);
        started.map_err(|error| match error {
            TlsError::TimedOut => ClientError::Unreachable(format!(
                "{address}: the TLS handshake takes too long; does the server use TLS? If not, write ws://"
            )),
            TlsError::Closed | TlsError::NotTls => ClientError::Unreachable(format!(
                "{address}: the server closed the connection during the TLS handshake"
            )),
            TlsError::Refused(why) if why.contains("UnknownIssuer") => ClientError::Refused(format!(
                "{address}: the server's certificate is from an authority that is not trusted here; name a PEM file \
                 with that authority in --ca-file"
            )),
            TlsError::Refused(why) if why.contains("CaUsedAsEndEntity") => {
                ClientError::Refused(format!(
                    "{address}: the server's certificate is that of an authority; make one with \
                     `-addext basicConstraints=critical,CA:FALSE`"
                ))
            }
            TlsError::Refused(why) => ClientError::Refused(format!(
                "{address}: TLS failed: {why}; is the name in --url that of the certificate, and does the server use \
                 TLS?"
            )),
        })
    }
}

impl Dialer {
    pub(super) fn address(&self) -> &ServerAddress {
        &self.access.address
    }

    /// Returns the time that a connection may take.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.access.connect_timeout
    }

    /// Connects and completes the handshake; `query` names the rooms. Returns a socket that does not block, and the
    /// bytes after the handshake: the first frames.
    pub(super) fn open(
        &self,
        query: &str,
        deadline: Instant,
    ) -> Result<(Socket, Vec<u8>), ClientError> {
        let access = &self.access;
        let stream = self.connect_tcp(deadline)?;
        stream.set_nodelay(true).ok();
        let mut socket = Socket::new(stream);
        if let Some(connector) = &self.connector {
            access.start_tls(connector, &mut socket, deadline)?;
        }
        let token = access.token.as_deref();
        let rest = handshake::perform(&socket, &access.address, query, token, deadline)?;
        socket
            .set_nonblocking()
            .map_err(|why| access.unreachable(&why))?;
        Ok((socket, rest))
    }

    fn connect_tcp(&self, deadline: Instant) -> Result<TcpStream, ClientError> {
        let mut last = io::Error::other("the name has no address");
        for address in &self.addresses {
            let left = deadline.saturating_duration_since(Instant::now());
            match TcpStream::connect_timeout(address, left.max(Duration::from_millis(1))) {
                Ok(stream) => return Ok(stream),
                Err(why) => last = why,
            }
        }
        Err(self.access.unreachable(&last))
    }
}

impl ClientConnection {
    /// Returns the next text frame, if one has arrived.
    pub(super) fn receive(&mut self) -> Result<Option<Utf8Bytes>, Lost> {
        loop {
            let message = match self.socket.read() {
                Ok(message) => message,
                Err(Error::Io(why)) if why.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(why) => return Err(broken(&why)),
            };
            if self.pinged_at.is_some() || matches!(message, Message::Ping(_)) {
                self.pinged_at = None;
                self.heard_at = Instant::now();
            }
            match message {
                Message::Text(text) => return Ok(Some(text)),
                Message::Close(Some(frame)) => {
                    let code = frame.code.into();
                    return Err(Lost::Closed(code, crate::client::one_line(&frame.reason)));
                }
                Message::Close(None) => return Err(Lost::Closed(1005, String::new())),
                _ => {}
            }
        }
    }

    /// Queues a text frame; [`flush`](Self::flush) sends it.
    pub(super) fn send(&mut self, text: String) -> Result<(), Lost> {
        self.write(Message::text(text))
    }

    fn write(&mut self, message: Message) -> Result<(), Lost> {
        match self.socket.write(message) {
            // The frame is queued.
            Err(Error::Io(why)) if why.kind() == ErrorKind::WouldBlock => {
                self.is_blocked = true;
                Ok(())
            }
            other => other.map_err(|why| broken(&why)),
        }
    }

    /// Sends what is queued, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> Result<(), Lost> {
        match self.socket.flush() {
            Err(Error::Io(why)) if why.kind() == ErrorKind::WouldBlock => self.is_blocked = true,
            Err(why) => return Err(broken(&why)),
            Ok(()) => self.is_blocked = false,
        }
        Ok(())
    }

    /// Returns whether frames wait for the socket.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Returns what to poll the socket for.
    pub(super) fn interest(&self) -> (BorrowedFd<'_>, PollFlags) {
        let flags = match self.is_blocked {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        };
        (self.socket.get_ref().0.as_fd(), flags)
    }

    /// To be called when the socket has bytes.
    pub(super) fn heard(&mut self) {
        self.heard_at = Instant::now();
        self.pinged_at = None;
    }

    /// Pings a silent server, or reports that it is gone. Returns when to check again.
    pub(super) fn check_silence(&mut self) -> Result<Instant, Lost> {
        let now = Instant::now();
        if let Some(pinged_at) = self.pinged_at {
            if now >= pinged_at + PONG_TIMEOUT {
                return Err(Lost::Broken("the server does not respond".to_owned()));
            }
            return Ok(pinged_at + PONG_TIMEOUT);
        }
        if now >= self.heard_at + SILENCE_MAX {
            self.pinged_at = Some(now);
            self.write(Message::Ping(Bytes::new()))?;
            self.flush()?;
            return Ok(now + PONG_TIMEOUT);
        }
        Ok(self.heard_at + SILENCE_MAX)
    }

    /// Closes with 1000, without waiting for the reply.
    pub(super) fn close(mut self) {
        // Fails if the server has closed already.
        self.socket.close(None).ok();
        self.socket.flush().ok();
        self.socket.get_ref().0.finish();
    }
}

fn broken(why: &Error) -> Lost {
    Lost::Broken(match why {
        Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_) => {
            "the connection was closed".to_owned()
        }
        other => other.to_string(),
    })
}

/// The socket as the WebSocket library uses it.
struct ClientTransport(Socket);

impl Read for ClientTransport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                // A part of a TLS record; more may be there.
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl Write for ClientTransport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.offer(bytes)? {
            Offered::All => Ok(bytes.len()),
            Offered::Part(0) => Err(ErrorKind::WouldBlock.into()),
            Offered::Part(sent) => Ok(sent),
        }
    }

    /// Sends encrypted bytes that the socket did not take.
    fn flush(&mut self) -> io::Result<()> {
        match self.0.offer(&[])? {
            Offered::All => Ok(()),
            Offered::Part(_) => Err(ErrorKind::WouldBlock.into()),
        }
    }
}
