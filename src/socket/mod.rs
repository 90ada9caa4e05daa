//! A connection's socket, over TCP or a Unix socket, with TLS or without.
//!
//! Once accepted, TCP and Unix sockets are used alike. The socket stays in blocking mode for its reader; a send never
//! blocks. The state of TLS is behind a pointer, so that a client without TLS uses no memory for it.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::{Errno, readv};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, send, sendmsg, shutdown,
};

mod nonblocking;
pub(crate) mod tls;

pub(crate) use self::nonblocking::Offered;

use self::nonblocking::{SEND_FLAGS, wait};
use self::tls::{TlsAcceptor, TlsConnection, TlsConnector, TlsError};

/// How long a closing connection is still read. Unread input would reset the connection, and the peer would lose the
/// Close frame.
pub(crate) const LINGER: Duration = Duration::from_secs(2);
/// Most bytes that are read from a closing connection, so that reading ends even if the peer never stops sending.
const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes that a read may take beyond the buffer that it is for. They are on the stack, of which an idle client shall
/// touch no further page.
const READ_AHEAD_BYTES: usize = 512;
/// Bytes that are read at once when even these did not suffice.
const LONG_READ_BYTES: usize = 16 * 1024;

/// Bytes of a queue that are encrypted at once. Encrypting takes longer than sending, and a thread that pushes to
/// the queue meanwhile waits for its lock.
const ENCRYPTED_AT_ONCE: usize = 64 * 1024;

/// A connected socket. It is closed when dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    /// The time-out of reads in milliseconds, to set it only when it changes. Zero means none.
    read_timeout_ms: AtomicU32,
    tls: Option<Box<TlsConnection>>,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A host that connected directly; see [`Peer::tcp`].
    Tcp(SocketAddr),
    /// A process on this machine, usually a proxy.
    Unix,
    /// A host that a trusted proxy named.
    Forwarded(IpAddr),
}

impl Peer {
    /// Returns the host at an address. An IPv4 address mapped into IPv6 (RFC 4291 §2.5.5.2) becomes IPv4, because one
    /// socket accepts both.
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        Self::Tcp(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// Returns the peer as `--trusted-proxies` lists it: its address without the port, or `unix`.
    pub(crate) fn name(&self) -> String {
        self.ip().map_or("unix".to_owned(), |ip| ip.to_string())
    }

    /// Returns whether the peer belongs to this machine or its local network.
    pub(crate) fn is_near(&self) -> bool {
        match self.ip() {
            None => true,
            Some(IpAddr::V4(v4)) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
            Some(IpAddr::V6(v6)) => {
                v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()
            }
        }
    }

    /// Returns the host's address; `None` for a Unix socket.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Forwarded(ip) => Some(*ip),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
            Self::Forwarded(ip) => ip.fmt(f),
        }
    }
}

impl Socket {
    /// Wraps a descriptor in blocking mode, whose reads have no time-out.
    pub(crate) fn new(fd: impl Into<OwnedFd>) -> Self {
        Self::with_read_timeout(fd, Duration::ZERO)
    }

    /// Wraps a descriptor in blocking mode, whose reads have this time-out already.
    pub(crate) fn with_read_timeout(fd: impl Into<OwnedFd>, timeout: Duration) -> Self {
        Self {
            fd: fd.into(),
            read_timeout_ms: AtomicU32::new(milliseconds(timeout)),
            tls: None,
        }
    }

    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Performs a TLS handshake until the deadline; from then on the socket uses TLS.
    pub(crate) fn start_tls(
        &mut self,
        acceptor: &TlsAcceptor,
        deadline: Instant,
    ) -> Result<(), TlsError> {
        self.tls = Some(TlsConnection::accept(self.fd.as_fd(), acceptor, deadline)?);
        Ok(())
    }

    /// Performs the TLS handshake of a client with the server `host`; from then on the socket uses TLS.
    pub(crate) fn start_tls_with(
        &mut self,
        connector: &TlsConnector,
        host: &str,
        deadline: Instant,
    ) -> Result<(), TlsError> {
        let connection = TlsConnection::connect(self.fd.as_fd(), connector, host, deadline)?;
        self.tls = Some(connection);
        Ok(())
    }

    /// Makes [`read`](Self::read) fail with `WouldBlock` at once if no bytes are there.
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.fd, true)?)
    }

    /// Sets the time after which a [`read`](Self::read) fails with `WouldBlock`. It is not zero and counts in
    /// milliseconds.
    pub(crate) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        let timeout_ms = milliseconds(timeout);
        if self.read_timeout_ms.load(Ordering::Relaxed) != timeout_ms {
            let timeout = Duration::from_millis(timeout_ms.into());
            set_socket_timeout(&self.fd, Timeout::Recv, Some(timeout))?;
            self.read_timeout_ms.store(timeout_ms, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes the next read wait for this time at most. A shorter time-out stays, because it saves a system call.
    fn shorten_read_timeout(&self, left: Duration) -> io::Result<()> {
        match self.read_timeout_ms.load(Ordering::Relaxed) {
            timeout_ms @ 1.. if Duration::from_millis(timeout_ms.into()) <= left => Ok(()),
            _ => self.set_read_timeout(left),
        }
    }

    /// Waits for bytes and reads them. 0 means the end of the stream. `Interrupted` means that no payload came
    /// yet; the caller decides whether to wait on.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(tls) = &self.tls {
            return tls.read(self.fd.as_fd(), buffer);
        }
        let (read, _) = recv(&self.fd, buffer, RecvFlags::empty())?;
        Ok(read)
    }

    /// Reads as [`read`](Self::read) does. Appends bytes that have arrived beyond the buffer to `ahead`, without another
    /// system call. TLS keeps such bytes itself.
    pub(crate) fn read_ahead(&self, buffer: &mut [u8], ahead: &mut Vec<u8>) -> io::Result<usize> {
        if self.tls.is_some() {
            return self.read(buffer);
        }
        let (room, mut beyond) = (buffer.len(), [0; READ_AHEAD_BYTES]);
        let read = {
            let mut slices = [IoSliceMut::new(buffer), IoSliceMut::new(&mut beyond)];
            readv(&self.fd, &mut slices)?
        };
        ahead.extend_from_slice(&beyond[..read.saturating_sub(room)]);
        if read == room + READ_AHEAD_BYTES {
            self.read_far_ahead(ahead);
        }
        Ok(read.min(room))
    }

    /// Appends the bytes of a long message that have arrived. Never blocks.
    #[inline(never)]
    fn read_far_ahead(&self, ahead: &mut Vec<u8>) {
        let filled = ahead.len();
        ahead.resize(filled + LONG_READ_BYTES, 0);
        let read = recv(&self.fd, &mut ahead[filled..], RecvFlags::DONTWAIT);
        // The next read reports an error.
        ahead.truncate(filled + read.map_or(0, |(read, _)| read));
    }

    /// Waits for bytes until the deadline and reads them.
    pub(crate) fn read_before(&self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.shorten_read_timeout(left)?;
            match self.read(buffer) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                other => return other,
            }
        }
    }

    /// Drains the input until the peer closes too, or for [`LINGER`] at most. Closing a socket with unread input sends a
    /// reset, which discards what was sent last. Returns whether the peer has closed.
    ///
    /// Not inlined, so that its buffer does not deepen the stack of an open connection.
    #[inline(never)]
    pub(crate) fn linger(&self) -> bool {
        let deadline = Instant::now() + LINGER;
        let (mut discarded, mut bytes) = ([0; 512], 0);
        while bytes < LINGER_BYTES_MAX {
            match self.read_before(&mut discarded, deadline) {
                Ok(0) => return true,
                Ok(read) => bytes += read,
                Err(_) => return false,
            }
        }
        false
    }

    /// Discards some received bytes, because unread input would turn the close into a reset. Never blocks.
    ///
    /// Not inlined, for the reason of [`linger`](Self::linger).
    #[inline(never)]
    pub(crate) fn discard(&self) {
        // Fails if there is nothing to discard.
        recv(&self.fd, &mut [0; 4096], RecvFlags::DONTWAIT).ok();
    }

    /// Appends the bytes that wait, at most 4 KiB at once, without TLS. Never blocks. Returns whether more may follow.
    pub(crate) fn read_now(&self, buffer: &mut Vec<u8>) -> bool {
        let mut bytes = [0; 4096];
        match recv(&self.fd, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((0, _)) => false,
            Ok((read, _)) => {
                buffer.extend_from_slice(&bytes[..read]);
                true
            }
            Err(error) => matches!(error, Errno::AGAIN | Errno::INTR),
        }
    }

    /// Sends bytes until the socket is full. Never blocks.
    pub(crate) fn offer(&self, bytes: &[u8]) -> Result<Offered, Errno> {
        if let Some(tls) = &self.tls {
            return tls.offer(self.fd.as_fd(), &[IoSlice::new(bytes)], usize::MAX);
        }
        self.send_now(bytes, SEND_FLAGS)
    }

    /// Sends the last bytes before [`finish`](Self::finish), which puts them into one packet with the end of the
    /// stream. Never blocks.
    pub(crate) fn offer_last(&self, bytes: &[u8]) -> Result<Offered, Errno> {
        if self.tls.is_some() {
            return self.offer(bytes);
        }
        self.send_now(bytes, SEND_FLAGS | SendFlags::MORE)
    }

    fn send_now(&self, bytes: &[u8], flags: SendFlags) -> Result<Offered, Errno> {
        let mut sent = 0;
        while sent < bytes.len() {
            match send(&self.fd, &bytes[sent..], flags) {
                Ok(more) => sent += more,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Offered::Part(sent)),
                Err(error) => return Err(error),
            }
        }
        Ok(Offered::All)
    }

    /// Sends several slices with one system call. Never blocks. After a `Part` the socket may still be writable.
    pub(crate) fn offer_slices(&self, slices: &[IoSlice<'_>]) -> Result<Offered, Errno> {
        if let Some(tls) = &self.tls {
            return tls.offer(self.fd.as_fd(), slices, ENCRYPTED_AT_ONCE);
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        match sendmsg(
            &self.fd,
            slices,
            &mut SendAncillaryBuffer::default(),
            SEND_FLAGS,
        ) {
            Ok(sent) if sent == total => Ok(Offered::All),
            Ok(sent) => Ok(Offered::Part(sent)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Offered::Part(0)),
            Err(error) => Err(error),
        }
    }

    /// Sends all bytes, until the deadline at most.
    pub(crate) fn send_before(&self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        loop {
            match self.offer(bytes)? {
                Offered::All => return Ok(()),
                Offered::Part(taken) => bytes = &bytes[taken..],
            }
            if !self.wait_writable(deadline) && Instant::now() >= deadline {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }

    /// Waits until the socket is writable. Returns false at the deadline. A failed socket counts as writable: the
    /// next send returns its error.
    pub(crate) fn wait_writable(&self, deadline: Instant) -> bool {
        wait(&self.fd, PollFlags::OUT, deadline)
    }

    /// Waits until the peer has closed or reset the connection, for `timeout` at most.
    pub(crate) fn wait_hung_up(&self, timeout: Duration) {
        wait(&self.fd, PollFlags::empty(), Instant::now() + timeout);
    }

    /// Closes the sending direction; the peer's bytes can still be read.
    pub(crate) fn finish(&self) {
        if let Some(tls) = &self.tls {
            tls.close_notify(self.fd.as_fd());
        }
        // Fails if the peer has already closed.
        shutdown(&self.fd, Shutdown::Write).ok();
    }

    /// Closes both directions; a blocked reader wakes up.
    pub(crate) fn close(&self) {
        // Fails if the peer has already closed.
        shutdown(&self.fd, Shutdown::Both).ok();
    }
}

/// Returns a time-out in milliseconds, and at least one unless it is zero.
fn milliseconds(timeout: Duration) -> u32 {
    let rounded_up = timeout.as_nanos().div_ceil(1_000_000);
    u32::try_from(rounded_up).unwrap_or(u32::MAX)
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
