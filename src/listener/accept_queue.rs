//! The kernel's queue of connections that wait for an accept, and how long an accept waits for one.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::listen;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

/// Connections that may wait for an accept. The kernel lowers it to `net.core.somaxconn`. With std's 128, thousands
/// of clients that reconnect at once would overflow it and retry after seconds.
const ACCEPT_QUEUE: i32 = 4096;

/// How long a thread waits for the next client before it ends, unless it is the last that waits. Accepted sockets
/// inherit it as the time-out of their first read, which may wait several times.
pub(super) const WAITING_TIME: Duration = Duration::from_secs(5);

/// Starts listening, or changes the length of a listening socket's accept queue.
pub(super) fn lengthen_accept_queue(socket: impl AsFd) -> io::Result<()> {
    Ok(listen(socket, ACCEPT_QUEUE)?)
}

/// Limits each accept of a listening socket to [`WAITING_TIME`].
pub(super) fn set_accept_timeout(listener: impl AsFd) -> io::Result<()> {
    Ok(set_socket_timeout(
        listener,
        Timeout::Recv,
        Some(WAITING_TIME),
    )?)
}

/// Logs the length of the accept queue if the machine makes it shorter.
pub(crate) fn log_accept_queue() {
    let path = "/proc/sys/net/core/somaxconn";
    let somaxconn = fs::read_to_string(path).ok();
    let max: Option<i32> = somaxconn.and_then(|text| text.trim().parse().ok());
    if let Some(max) = max.filter(|max| *max < ACCEPT_QUEUE) {
        log::info!(
            "up to {max} connections may wait to be accepted, set by net.core.somaxconn; {ACCEPT_QUEUE} \
             lets thousands of clients reconnect at once"
        );
    }
}
