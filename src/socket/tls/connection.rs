//! TLS of one connection: the handshake until a deadline, then records in both directions.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use rustix::event::PollFlags;
use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{RecvFlags, SendAncillaryBuffer, recv, send, sendmsg};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConfig, ServerConnection};

use crate::socket::nonblocking::{Offered, SEND_FLAGS, wait};

use super::{HANDSHAKE_BYTE, TlsAcceptor, TlsConnector, TlsError};

/// Most pieces in which a client may send its part of the handshake. Two are usual; small packets may need
/// more, but single bytes are refused.
const HANDSHAKE_PIECES_MAX: usize = 64;
/// Bytes that are read from the socket for a step of a handshake.
const PIECE_BYTES_MAX: usize = 4 * 1024;
/// First space for the reply to a piece. A long chain of certificates makes it grow.
const REPLY_BYTES: usize = 2 * 1024;
/// Plaintext that is encrypted at a time, one record. It limits the ciphertext that a client which does not
/// read can occupy.
const RECORD_BYTES: usize = 16 * 1024;

/// A TLS connection after its handshake, of a client here or of a client of this server.
#[derive(Debug)]
pub(crate) struct TlsConnection {
    /// Locked by the client's own thread to decrypt and by any sender to encrypt, never while either waits for
    /// the socket.
    connection: Mutex<Connection>,
}

impl TlsConnection {
    /// Performs the handshake over a socket, until the deadline at most.
    pub(crate) fn accept(
        fd: BorrowedFd<'_>,
        acceptor: &TlsAcceptor,
        deadline: Instant,
    ) -> Result<Box<Self>, TlsError> {
        wait_readable(fd, deadline)?;
        if first_byte(fd)? != HANDSHAKE_BYTE {
            return Err(TlsError::NotTls);
        }
        let mut connection = None;
        for _ in 0..HANDSHAKE_PIECES_MAX {
            wait_readable(fd, deadline)?;
            let Some(piece) = receive_piece(fd)? else {
                continue;
            };
            let config = acceptor.current();
            let step = move || {
                let connection = connection.map_or_else(|| Self::new(config), Ok)?;
                let (reply, processed) = connection.process(&piece);
                Ok::<_, TlsError>((connection, reply, processed))
            };
            let computed = acceptor.threads.compute(deadline, step);
            let (advanced, reply, processed) = computed.ok_or(TlsError::TimedOut)??;
            let sent = send_before(fd, &reply, deadline);
            if !processed.and_then(|is_handshaking| sent.map(|()| is_handshaking))? {
                return Ok(advanced);
            }
            connection = Some(advanced);
        }
        Err(TlsError::TimedOut)
    }

    fn new(config: Arc<ServerConfig>) -> Result<Box<Self>, TlsError> {
        let connection = ServerConnection::new(config);
        let connection = connection.map_err(|error| TlsError::Refused(error.to_string()))?;
        let connection = Mutex::new(connection.into());
        Ok(Box::new(Self { connection }))
    }

    /// Processes a piece of the handshake. Returns the reply to it, which is an alert after an error, and whether the
    /// handshake goes on.
    fn process(&self, piece: &[u8]) -> (Vec<u8>, Result<bool, TlsError>) {
        let mut connection = self.lock();
        let taken = take(&mut connection, piece);
        // A large buffer replaces many small records, because the client's thread frees it: the allocator keeps
        // small freed blocks for that thread, as long as the client is connected.
        let mut reply = Vec::with_capacity(REPLY_BYTES);
        while connection.wants_write() && connection.write_tls(&mut reply).is_ok() {}
        (reply, taken.map(|()| connection.is_handshaking()))
    }

    /// Performs the handshake of a client with the server `host`, until the deadline at most.
    pub(crate) fn connect(
        fd: BorrowedFd<'_>,
        connector: &TlsConnector,
        host: &str,
        deadline: Instant,
    ) -> Result<Box<Self>, TlsError> {
        let refused = |error: &dyn ToString| TlsError::Refused(error.to_string());
        let name = ServerName::try_from(host.to_owned()).map_err(|error| refused(&error))?;
        let client = ClientConnection::new(connector.config(), name);
        let client = client.map_err(|error| refused(&error))?;
        let connection = Box::new(Self {
            connection: Mutex::new(client.into()),
        });
        flush_before(&mut connection.lock(), fd, deadline)?;
        loop {
            wait_readable(fd, deadline)?;
            if connection.advance_handshake(fd, deadline)? {
                return Ok(connection);
            }
        }
    }

    /// Processes the bytes that arrived and sends the reply. Returns whether the handshake is complete.
    fn advance_handshake(&self, fd: BorrowedFd<'_>, deadline: Instant) -> Result<bool, TlsError> {
        // No other thread has this connection yet, so none waits for the lock.
        let mut connection = self.lock();
        let received = receive(&mut connection, fd);
        // After an error this sends the alert.
        let flushed = flush_before(&mut connection, fd, deadline);
        match received {
            Ok(0) => Err(TlsError::Closed),
            Ok(_) => flushed.map(|()| !connection.is_handshaking()),
            Err(ReceiveError::Socket(error)) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(ReceiveError::Socket(_)) => Err(TlsError::Closed),
            Err(ReceiveError::Tls(error)) => Err(TlsError::Refused(error.to_string())),
        }
    }

    /// Reads decrypted bytes and waits for them until the socket's time-out. `Interrupted` means that bytes came
    /// without payload: a part of a record, or a message of TLS itself.
    pub(crate) fn read(&self, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        match self.lock().reader().read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The client closed without a close_notify. HTTP and WebSocket detect a truncated message by
            // themselves.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
            read => return read,
        }
        // Waits here, without the lock.
        if recv(fd, &mut [0; 1], RecvFlags::PEEK)?.0 == 0 {
            return Ok(0);
        }
        let mut connection = self.lock();
        match receive(&mut connection, fd) {
            Ok(_) => {
                // A reply of TLS itself. If the socket is full, it is sent before the next record.
                flush(&mut connection, fd)?;
                connection
                    .reader()
                    .read(buffer)
                    .or_else(|error| match error.kind() {
                        ErrorKind::WouldBlock => Err(ErrorKind::Interrupted.into()),
                        ErrorKind::UnexpectedEof => Ok(0),
                        _ => Err(error),
                    })
            }
            Err(ReceiveError::Socket(error)) if error.kind() == ErrorKind::WouldBlock => {
                Err(ErrorKind::Interrupted.into())
            }
            Err(ReceiveError::Socket(error)) => Err(error),
            Err(ReceiveError::Tls(error)) => {
                // Sends the alert, if the socket takes it.
                flush(&mut connection, fd).ok();
                Err(io::Error::new(ErrorKind::InvalidData, error))
            }
        }
    }

    /// Encrypts and sends bytes, at most `bytes_max`, until the socket is full. Never blocks. `Part` may contain
    /// all bytes: some of them then wait here, encrypted, and must be sent before more are accepted.
    pub(crate) fn offer(
        &self,
        fd: BorrowedFd<'_>,
        slices: &[IoSlice<'_>],
        bytes_max: usize,
    ) -> Result<Offered, Errno> {
        let mut connection = self.lock();
        if !flush(&mut connection, fd)? {
            return Ok(Offered::Part(0));
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut taken = 0;
        while taken < total.min(bytes_max) {
            let record = window(slices, taken);
            match connection.writer().write_vectored(&record) {
                Ok(encrypted @ 1..) => taken += encrypted,
                Ok(0) | Err(_) => return Err(Errno::PIPE),
            }
            if !flush(&mut connection, fd)? {
                return Ok(Offered::Part(taken));
            }
        }
        Ok(if taken == total {
            Offered::All
        } else {
            Offered::Part(taken)
        })
    }

    /// Sends a close_notify (RFC 8446 §6.1), if the socket takes it.
    pub(crate) fn close_notify(&self, fd: BorrowedFd<'_>) {
        let mut connection = self.lock();
        connection.send_close_notify();
        flush(&mut connection, fd).ok();
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock()
    }
}

/// Returns the part of the slices that makes the next record, after the first `skip` bytes.
fn window<'a>(slices: &'a [IoSlice<'a>], mut skip: usize) -> Vec<IoSlice<'a>> {
    let mut room = RECORD_BYTES;
    let mut record = Vec::with_capacity(slices.len().min(64));
    for slice in slices {
        let rest = &slice[skip.min(slice.len())..];
        skip -= slice.len() - rest.len();
        let part = &rest[..rest.len().min(room)];
        if !part.is_empty() {
            record.push(IoSlice::new(part));
        }
        room -= part.len();
        if room == 0 {
            break;
        }
    }
    record
}

/// The reason why no more can be received.
enum ReceiveError {
    Socket(io::Error),
    Tls(rustls::Error),
}

/// Reads what has arrived, without waiting, and decrypts it. Returns 0 at the end of the connection.
fn receive(connection: &mut Connection, fd: BorrowedFd<'_>) -> Result<usize, ReceiveError> {
    let read = connection
        .read_tls(&mut Nonblocking(fd))
        .map_err(ReceiveError::Socket)?;
    connection
        .process_new_packets()
        .map_err(ReceiveError::Tls)?;
    Ok(read)
}

/// Sends encrypted bytes until the socket is full. Returns whether all were sent.
fn flush(connection: &mut Connection, fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    while connection.wants_write() {
        match connection.write_tls(&mut Nonblocking(fd)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }
    Ok(true)
}

fn flush_before(
    connection: &mut Connection,
    fd: BorrowedFd<'_>,
    deadline: Instant,
) -> Result<(), TlsError> {
    loop {
        match flush(connection, fd) {
            Ok(true) => return Ok(()),
            Ok(false) if Instant::now() >= deadline => return Err(TlsError::TimedOut),
            Ok(false) => wait(fd, PollFlags::OUT, deadline),
            Err(_) => return Err(TlsError::Closed),
        };
    }
}

fn send_before(fd: BorrowedFd<'_>, mut bytes: &[u8], deadline: Instant) -> Result<(), TlsError> {
    while !bytes.is_empty() {
        match send(fd, bytes, SEND_FLAGS) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::AGAIN) if Instant::now() >= deadline => return Err(TlsError::TimedOut),
            Err(Errno::AGAIN) => {
                wait(fd, PollFlags::OUT, deadline);
            }
            Err(Errno::INTR) => {}
            Err(_) => return Err(TlsError::Closed),
        }
    }
    Ok(())
}

fn wait_readable(fd: BorrowedFd<'_>, deadline: Instant) -> Result<(), TlsError> {
    while !wait(fd, PollFlags::IN, deadline) {
        if Instant::now() >= deadline {
            return Err(TlsError::TimedOut);
        }
    }
    Ok(())
}

/// Decrypts bytes that were received.
fn take(connection: &mut Connection, mut bytes: &[u8]) -> Result<(), TlsError> {
    let refused = |error: &dyn ToString| TlsError::Refused(error.to_string());
    while !bytes.is_empty() {
        // After a close_notify nothing more is read.
        if connection
            .read_tls(&mut bytes)
            .map_err(|error| refused(&error))?
            == 0
        {
            return Err(TlsError::Closed);
        }
        let processed = connection.process_new_packets();
        processed.map_err(|error| refused(&error))?;
    }
    Ok(())
}

/// Returns the next piece of a handshake; `None` if none has arrived.
fn receive_piece(fd: BorrowedFd<'_>) -> Result<Option<Vec<u8>>, TlsError> {
    // No longer than needed: a longer buffer would leave a hole in the heap, between blocks that live as long as the
    // connection.
    let arrived = ioctl_fionread(fd).map_err(|_| TlsError::Closed)?;
    let bytes =
        usize::try_from(arrived).map_or(PIECE_BYTES_MAX, |bytes| bytes.min(PIECE_BYTES_MAX));
    let mut piece = vec![0; bytes.max(1)];
    match recv(fd, &mut piece[..], RecvFlags::DONTWAIT) {
        Ok((read @ 1.., _)) => {
            piece.truncate(read);
            Ok(Some(piece))
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Ok(_) | Err(_) => Err(TlsError::Closed),
    }
}

fn first_byte(fd: BorrowedFd<'_>) -> Result<u8, TlsError> {
    let mut byte = [0];
    match recv(fd, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((1.., _)) => Ok(byte[0]),
        Ok(_) | Err(_) => Err(TlsError::Closed),
    }
}

/// A socket that is read and written without waiting, whatever its mode.
struct Nonblocking<'a>(BorrowedFd<'a>);

impl Read for Nonblocking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (read, _) = recv(self.0, buffer, RecvFlags::DONTWAIT)?;
        Ok(read)
    }
}

impl Write for Nonblocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.0, bytes, SEND_FLAGS)?)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [one] => self.write(one),
            all => {
                let mut no_control = SendAncillaryBuffer::default();
                Ok(sendmsg(self.0, all, &mut no_control, SEND_FLAGS)?)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConfig, RootCertStore};

    use super::*;

    fn server_and_client() -> (Box<TlsConnection>, ClientConnection) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.expect("a certificate");
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("a configuration");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a root");
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        (
            TlsConnection::new(Arc::new(server)).expect("a server"),
            ClientConnection::new(Arc::new(client), name).expect("a client"),
        )
    }

    fn written(client: &mut ClientConnection) -> Vec<u8> {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("bytes");
        }
        bytes
    }

    // rustls takes part of the bytes, finds the close_notify, and takes nothing more.
    #[test]
    fn bytes_after_a_close_notify_are_not_awaited() {
        let (server, mut client) = server_and_client();
        let (reply, is_handshaking) = server.process(&written(&mut client));
        assert!(is_handshaking.expect("a hello"));
        let mut reply = &reply[..];
        while !reply.is_empty() {
            client.read_tls(&mut reply).expect("a reply");
            client.process_new_packets().expect("a handshake");
        }
        client.send_close_notify();
        let mut piece = written(&mut client);
        piece.resize(100_000, 0);
        let (_, ended) = server.process(&piece);
        assert!(matches!(ended, Err(TlsError::Closed)), "{ended:?}");
    }
}
