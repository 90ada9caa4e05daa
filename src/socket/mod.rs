//! A client's socket: the one set of words for it, whatever carries its bytes.
//!
//! TCP and Unix sockets need no telling apart once they are accepted: both are a descriptor that is
//! received from and sent to. The socket stays in blocking mode for its reader; a send never blocks. What
//! TLS needs is behind a pointer, and none of its code on the path of those who do without.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, send, sendmsg, shutdown,
};

pub mod tls;

use self::tls::TlsError;

/// How long a closing connection is still read from; unread input would reset the connection, and the peer
/// would lose the Close frame.
pub const LINGER: Duration = Duration::from_secs(2);
/// How many bytes are read from a closing connection at most, so that a flood of input ends too.
pub const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// Bytes of a queue that are sealed in one go: sealing takes longer than sending, and whoever pushes to the
/// queue meanwhile waits for its lock.
const SEALED_AT_ONCE: usize = 64 * 1024;

/// A connected socket; dropped, it is closed.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    tls: Option<Box<tls::Session>>,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A host.
    Tcp(SocketAddr),
    /// A process on this machine: a proxy, most likely.
    Unix,
    /// A host that a trusted proxy names.
    Forwarded(IpAddr),
}

impl Peer {
    /// Its address, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip().to_canonical()),
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

/// What became of bytes that were offered to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// All are on their way.
    All,
    /// The socket took this many and no more for now. The rest is to be offered once it is writable; and
    /// if there is no rest, nothing is to be offered, because some of it waits inside.
    Part(usize),
}

impl Socket {
    /// Takes over a descriptor in blocking mode.
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        Self {
            fd: fd.into(),
            tls: None,
        }
    }

    /// Speaks TLS from now on, once hands are shaken, which may take until the deadline.
    pub fn start_tls(
        &mut self,
        acceptor: &tls::Acceptor,
        deadline: Instant,
    ) -> Result<(), TlsError> {
        self.tls = Some(tls::Session::accept(self.fd.as_fd(), acceptor, deadline)?);
        Ok(())
    }

    /// Sets how long a [`read`](Self::read) waits; it then fails with `WouldBlock`.
    pub fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        Ok(set_socket_timeout(&self.fd, Timeout::Recv, Some(timeout))?)
    }

    /// Waits for bytes and reads them; 0 means that no more will come. `Interrupted` means that nothing
    /// came yet and that it is for the caller to say how much longer to wait.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(tls) = &self.tls {
            return tls.read(self.fd.as_fd(), buffer);
        }
        let (read, _) = recv(&self.fd, buffer, RecvFlags::empty())?;
        Ok(read)
    }

    /// Reads what is there, waiting until the deadline at most.
    pub fn read_before(&self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.set_read_timeout(left)?;
            match self.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                other => return other,
            }
        }
    }

    /// Throws away some of what has come, so that closing does not reset what was sent. Never blocks.
    pub fn discard(&self) {
        let _nothing_there = recv(&self.fd, &mut [0; 4096], RecvFlags::DONTWAIT);
    }

    /// Sends what the socket takes now. Never blocks.
    pub fn offer(&self, bytes: &[u8]) -> Result<Offered, Errno> {
        if let Some(tls) = &self.tls {
            return tls.offer(self.fd.as_fd(), &[IoSlice::new(bytes)], usize::MAX);
        }
        let mut sent = 0;
        while sent < bytes.len() {
            match send(&self.fd, &bytes[sent..], SEND_FLAGS) {
                Ok(more) => sent += more,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Offered::Part(sent)),
                Err(error) => return Err(error),
            }
        }
        Ok(Offered::All)
    }

    /// The same for what stands in several places, with one system call. The socket may be ready for
    /// more after a part.
    pub fn offer_slices(&self, slices: &[IoSlice<'_>]) -> Result<Offered, Errno> {
        if let Some(tls) = &self.tls {
            return tls.offer(self.fd.as_fd(), slices, SEALED_AT_ONCE);
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

    /// Sends all, waiting until the deadline at most.
    pub fn send_before(&self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
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

    /// Whether the socket takes bytes (or has failed, which the next send will say) before the deadline.
    pub fn wait_writable(&self, deadline: Instant) -> bool {
        wait(&self.fd, PollFlags::OUT, deadline)
    }

    /// Waits until the peer has ended both directions or reset.
    pub fn wait_hung_up(&self, patience: Duration) {
        wait(&self.fd, PollFlags::empty(), Instant::now() + patience);
    }

    /// Says that nothing more will be sent; what the peer still sends can be read.
    pub fn finish(&self) {
        if let Some(tls) = &self.tls {
            tls.close_notify(self.fd.as_fd());
        }
        let _already_gone = shutdown(&self.fd, Shutdown::Write);
    }

    /// Ends both directions; a blocked reader wakes up.
    pub fn close(&self) {
        let _already_gone = shutdown(&self.fd, Shutdown::Both);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether a descriptor is ready for this (or has failed or ended) before the deadline.
pub fn wait(fd: impl AsFd, flags: PollFlags, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: left.as_secs() as _,
        tv_nsec: left.subsec_nanos() as _,
    };
    let mut fds = [PollFd::new(&fd, flags)];
    matches!(poll(&mut fds, Some(&timeout)), Ok(1..))
}
