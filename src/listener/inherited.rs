//! A listening socket that the service manager passed. The next process of the server gets it too.
//!
//! The socket must stay open when this process ends, and connections that wait in its queue belong to the next process.
//! The socket is therefore never shut down, and the accept loop ends by another event.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Instant;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, write};
use rustix::net::sockopt::set_socket_send_buffer_size;

use crate::socket::{Peer, Socket};
use crate::systemd::PassedSocket;

use super::accept_queue::{WAITING_TIME, lengthen_accept_queue};
use super::bind::SOCKET_SEND_BYTES;

/// A socket that outlives this process.
#[derive(Debug)]
pub(crate) struct InheritedSocket {
    socket: PassedSocket,
    /// Locked by the thread that polls. A poll would wake all threads for one connection.
    polling: Mutex<()>,
    /// Readable once no connection is to be accepted any more.
    closed: OwnedFd,
}

/// Sets the options itself: a connection that waits in the queue may be older than the options of the listener.
fn accept_tcp(listener: &TcpListener) -> io::Result<(Socket, Peer)> {
    let (socket, peer) = listener.accept()?;
    // Small frames must not wait for each other (RFC 896). If this fails, they are only slower.
    socket.set_nodelay(true).ok();
    Ok((Socket::new(socket), Peer::tcp(peer)))
}

fn accept_unix(listener: &UnixListener) -> io::Result<(Socket, Peer)> {
    let (socket, _) = listener.accept()?;
    Ok((Socket::new(socket), Peer::Unix))
}

impl InheritedSocket {
    pub(crate) fn new(socket: PassedSocket) -> io::Result<Self> {
        // Another process on the same socket may take a connection first: an accept must not block then.
        match &socket {
            PassedSocket::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                set_socket_send_buffer_size(listener, SOCKET_SEND_BYTES)?;
            }
            PassedSocket::Unix(listener) => listener.set_nonblocking(true)?,
        }
        lengthen_accept_queue(fd(&socket))?;
        let closed = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self {
            socket,
            polling: Mutex::new(()),
            closed,
        })
    }

    /// The address, if this is a TCP socket.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            PassedSocket::Tcp(listener) => listener.local_addr().ok(),
            PassedSocket::Unix(_) => None,
        }
    }

    /// The path, if this is a Unix socket with one.
    pub(crate) fn path(&self) -> Option<String> {
        match &self.socket {
            PassedSocket::Tcp(_) => None,
            PassedSocket::Unix(listener) => {
                let address = listener.local_addr().ok()?;
                Some(address.as_pathname()?.display().to_string())
            }
        }
    }

    /// Waits until a client connects. Fails with `WouldBlock` if none did in time, and after [`close`](Self::close).
    pub(super) fn accept(&self) -> io::Result<(Socket, Peer)> {
        let deadline = Instant::now() + WAITING_TIME;
        let Some(_polling) = self.polling.try_lock_until(deadline) else {
            return Err(ErrorKind::WouldBlock.into());
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: left.as_secs() as _,
                tv_nsec: left.subsec_nanos() as _,
            };
            let mut events = [
                PollFd::new(&self.closed, PollFlags::IN),
                PollFd::from_borrowed_fd(fd(&self.socket), PollFlags::IN),
            ];
            match poll(&mut events, Some(&timeout)) {
                Ok(0) => return Err(ErrorKind::WouldBlock.into()),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if !events[0].revents().is_empty() {
                return Err(ErrorKind::WouldBlock.into());
            }
            let accepted = match &self.socket {
                PassedSocket::Tcp(listener) => accept_tcp(listener),
                PassedSocket::Unix(listener) => accept_unix(listener),
            };
            match accepted {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                accepted => return accepted,
            }
        }
    }

    pub(super) fn close(&self) {
        // Cannot fail: the counter is far from its maximum.
        write(&self.closed, &1_u64.to_ne_bytes()).ok();
    }
}

fn fd(socket: &PassedSocket) -> BorrowedFd<'_> {
    match socket {
        PassedSocket::Tcp(listener) => listener.as_fd(),
        PassedSocket::Unix(listener) => listener.as_fd(),
    }
}
