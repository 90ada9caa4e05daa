//! One client's TLS: the handshake under a deadline, then records in and out.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use rustls::ServerConnection;

use crate::socket::{self, Offered};
use crate::threads;

use super::{Acceptor, HANDSHAKE_BYTE, TlsError};

/// Pieces in which a client may send its part of the handshake. It fits into two; this leaves room for
/// small packets and none for a byte at a time.
const HANDSHAKE_PIECES_MAX: usize = 64;
/// Plaintext that is sealed at a time, one record: what a client that does not read can cost in
/// ciphertext, besides what its outbox shares with others.
const RECORD_BYTES: usize = 16 * 1024;
const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// A connection after its handshake.
#[derive(Debug)]
pub struct Session {
    /// Locked by the client's own thread to open what came and by whoever sends to it, never while
    /// either waits for the socket.
    connection: Mutex<ServerConnection>,
}

impl Session {
    /// Shakes hands over a socket until the deadline at most.
    pub fn accept(
        fd: BorrowedFd<'_>,
        acceptor: &Acceptor,
        deadline: Instant,
    ) -> Result<Box<Self>, TlsError> {
        wait_readable(fd, deadline)?;
        if first_byte(fd)? != HANDSHAKE_BYTE {
            return Err(TlsError::NotTls);
        }
        // Signatures and key exchange need a deep stack, once.
        let (session, mut done) = threads::run_aside(|| {
            let session = Self::begin(acceptor)?;
            let done = session.shake_hands(fd, deadline)?;
            Ok::<_, TlsError>((session, done))
        })?;
        let mut pieces = 1;
        while !done {
            if pieces == HANDSHAKE_PIECES_MAX {
                return Err(TlsError::TimedOut);
            }
            pieces += 1;
            wait_readable(fd, deadline)?;
            done = threads::run_aside(|| session.shake_hands(fd, deadline))?;
        }
        Ok(session)
    }

    fn begin(acceptor: &Acceptor) -> Result<Box<Self>, TlsError> {
        let connection = ServerConnection::new(acceptor.current());
        let connection = connection.map_err(|error| TlsError::Refused(error.to_string()))?;
        let connection = Mutex::new(connection);
        Ok(Box::new(Self { connection }))
    }

    /// Takes in what has come, and answers; says whether that was the last of it.
    fn shake_hands(&self, fd: BorrowedFd<'_>, deadline: Instant) -> Result<bool, TlsError> {
        // Nobody else knows of the session yet, so nobody waits for the lock.
        let mut connection = self.lock();
        let taken = take_in(&mut connection, fd);
        // If that went wrong, what is sent now is the alert that says so.
        let flushed = flush_before(&mut connection, fd, deadline);
        match taken {
            Ok(0) => Err(TlsError::Gone),
            Ok(_) => flushed.map(|()| !connection.is_handshaking()),
            Err(Broken::Socket(error)) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(Broken::Socket(_)) => Err(TlsError::Gone),
            Err(Broken::Rules(error)) => Err(TlsError::Refused(error.to_string())),
        }
    }

    /// Reads what the client said, waiting as long as the socket's time-out says. `Interrupted` means
    /// that something came which says nothing yet: part of a record, or TLS's own business.
    pub fn read(&self, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        match self.lock().reader().read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The client went without a close_notify. Who needs to know whether all came has lengths
            // and Close frames for that.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
            read => return read,
        }
        // Here is where it waits, and nobody else with it.
        if recv(fd, &mut [0; 1], RecvFlags::PEEK)?.0 == 0 {
            return Ok(0);
        }
        let mut connection = self.lock();
        match take_in(&mut connection, fd) {
            Ok(_) => {
                // An answer that TLS itself owes; what does not fit now goes before the next record.
                let _later = flush(&mut connection, fd)?;
                connection
                    .reader()
                    .read(buffer)
                    .or_else(|error| match error.kind() {
                        ErrorKind::WouldBlock => Err(ErrorKind::Interrupted.into()),
                        ErrorKind::UnexpectedEof => Ok(0),
                        _ => Err(error),
                    })
            }
            Err(Broken::Socket(error)) if error.kind() == ErrorKind::WouldBlock => {
                Err(ErrorKind::Interrupted.into())
            }
            Err(Broken::Socket(error)) => Err(error),
            Err(Broken::Rules(error)) => {
                // The alert that says so, if the socket takes it.
                let _untold = flush(&mut connection, fd);
                Err(io::Error::new(ErrorKind::InvalidData, error))
            }
        }
    }

    /// Seals and sends what the socket takes now, of the first bytes up to `most`. Never blocks. `Part`
    /// may say that all was taken: then some of it is sealed and waits here, and nothing more is taken
    /// until that is gone.
    pub fn offer(
        &self,
        fd: BorrowedFd<'_>,
        slices: &[IoSlice<'_>],
        most: usize,
    ) -> Result<Offered, Errno> {
        let mut connection = self.lock();
        if !flush(&mut connection, fd)? {
            return Ok(Offered::Part(0));
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut taken = 0;
        while taken < total.min(most) {
            let record = window(slices, taken);
            let sealed = connection.writer().write_vectored(&record);
            match sealed {
                Ok(sealed @ 1..) => taken += sealed,
                Ok(0) | Err(_) => return Err(Errno::PIPE),
            }
            if !flush(&mut connection, fd)? {
                return Ok(Offered::Part(taken));
            }
        }
        Ok(match taken == total {
            true => Offered::All,
            false => Offered::Part(taken),
        })
    }

    /// Says that nothing more will be sent (RFC 8446 §6.1), if the socket takes it.
    pub fn close_notify(&self, fd: BorrowedFd<'_>) {
        let mut connection = self.lock();
        connection.send_close_notify();
        let _untold = flush(&mut connection, fd);
    }

    fn lock(&self) -> MutexGuard<'_, ServerConnection> {
        self.connection.lock()
    }
}

/// Up to a record's worth of the slices, from this byte on.
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

/// Why nothing more can be taken in.
enum Broken {
    Socket(io::Error),
    Rules(rustls::Error),
}

/// Reads what is there, without waiting, and understands it; 0 is the end.
fn take_in(connection: &mut ServerConnection, fd: BorrowedFd<'_>) -> Result<usize, Broken> {
    let read = connection
        .read_tls(&mut Nonblocking(fd))
        .map_err(Broken::Socket)?;
    connection.process_new_packets().map_err(Broken::Rules)?;
    Ok(read)
}

/// Sends what is sealed, as far as the socket takes it; says whether it took all.
fn flush(connection: &mut ServerConnection, fd: BorrowedFd<'_>) -> Result<bool, Errno> {
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
    connection: &mut ServerConnection,
    fd: BorrowedFd<'_>,
    deadline: Instant,
) -> Result<(), TlsError> {
    loop {
        match flush(connection, fd) {
            Ok(true) => return Ok(()),
            Ok(false) if Instant::now() >= deadline => return Err(TlsError::TimedOut),
            Ok(false) => socket::wait(fd, PollFlags::OUT, deadline),
            Err(_) => return Err(TlsError::Gone),
        };
    }
}

fn wait_readable(fd: BorrowedFd<'_>, deadline: Instant) -> Result<(), TlsError> {
    while !socket::wait(fd, PollFlags::IN, deadline) {
        if Instant::now() >= deadline {
            return Err(TlsError::TimedOut);
        }
    }
    Ok(())
}

fn first_byte(fd: BorrowedFd<'_>) -> Result<u8, TlsError> {
    let mut byte = [0];
    match recv(fd, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((1.., _)) => Ok(byte[0]),
        Ok(_) | Err(_) => Err(TlsError::Gone),
    }
}

/// A socket that never waits, whatever its mode.
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
