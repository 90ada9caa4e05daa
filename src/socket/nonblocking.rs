//! Sends that never block, and waits with a deadline, of a socket in blocking mode.

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SendFlags;

/// The flags of every send.
pub(super) const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// How many of the offered bytes a socket took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// The socket took all bytes.
    All,
    /// The socket took this many bytes and is full. The caller offers the rest once the socket is writable. If no
    /// rest remains, the caller offers nothing, because encrypted bytes still wait in the socket.
    Part(usize),
}

/// Waits until a descriptor is ready for `flags`, or has failed or ended. Returns false at the deadline.
pub(in crate::socket) fn wait(fd: impl AsFd, flags: PollFlags, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: left.as_secs() as _,
        tv_nsec: left.subsec_nanos() as _,
    };
    let mut fds = [PollFd::new(&fd, flags)];
    matches!(poll(&mut fds, Some(&timeout)), Ok(1..))
}
