//! Sockets that were refused: each gets its response at once and a moment to read it.
//!
//! Closing a socket with unread input would reset the response away, so the request is drained before the close.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::socket::Socket;
use crate::threads;

/// Refused sockets that are kept open at the same time.
const REFUSED_SOCKETS_MAX: usize = 256;
/// Time for which each is kept open.
const LINGER: Duration = Duration::from_millis(500);

/// A handle of the `refusals` thread, which keeps refused sockets open for a moment.
pub(super) struct Refusals(Sender<RefusedSocket>);

struct RefusedSocket {
    socket: Socket,
    close_at: Instant,
}

impl Refusals {
    /// Starts the thread; it ends with the handle.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, receiver) = bounded(REFUSED_SOCKETS_MAX);
        threads::spawn_service("refusals", move || run(&receiver))?;
        Ok(Self(sender))
    }

    /// Sends a response and hands the socket over. Never blocks the accept loop: what the socket does not take at
    /// once is dropped, and so is the socket if too many are open.
    pub(super) fn refuse(&self, socket: Socket, response: &[u8]) {
        // The client may be gone already.
        socket.offer(response).ok();
        socket.finish();
        let close_at = Instant::now() + LINGER;
        self.0.try_send(RefusedSocket { socket, close_at }).ok();
    }
}

/// Drains and closes sockets in the order in which they were refused, which is that of their deadlines.
fn run(refused: &Receiver<RefusedSocket>) {
    let mut open: VecDeque<RefusedSocket> = VecDeque::new();
    loop {
        let next = match open.front() {
            None => refused.recv().ok(),
            Some(oldest) => refused.recv_deadline(oldest.close_at).ok(),
        };
        open.extend(next);
        if open.is_empty() {
            return;
        }
        let now = Instant::now();
        while open.len() > REFUSED_SOCKETS_MAX || open.front().is_some_and(|r| r.close_at <= now) {
            let Some(oldest) = open.pop_front() else {
                break;
            };
            oldest.socket.discard();
        }
    }
}
