//! Opens connections on a few threads, because a handshake over a long distance takes several round trips.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::client::connection::Dialer;
use crate::client::error::ClientError;
use crate::socket::Socket;

/// Connections that open at a time.
const OPENERS: usize = 16;
/// Open connections that wait to be taken.
const OPENED_MAX: usize = 64;

/// An open connection.
pub(super) struct Opened {
    pub(super) socket: Socket,
    /// The bytes after the handshake: the first frames.
    pub(super) first_bytes: Vec<u8>,
    pub(super) room: usize,
}

/// The connections that are still to be opened.
struct Task {
    dialer: Dialer,
    /// The query of each room.
    queries: Arc<[String]>,
    next: AtomicUsize,
    end: usize,
    opened: Sender<Result<Opened, ClientError>>,
}

/// Opens the connections with the numbers from `start` to `end`; number `n` goes to room `n` modulo the rooms. A thread
/// ends at its first error. All end when the receiver is dropped.
pub(super) fn open(
    dialer: &Dialer,
    queries: &Arc<[String]>,
    start: usize,
    end: usize,
) -> Result<Receiver<Result<Opened, ClientError>>, ClientError> {
    let (sender, receiver) = bounded(OPENED_MAX);
    let task = Arc::new(Task {
        dialer: dialer.clone(),
        queries: Arc::clone(queries),
        next: AtomicUsize::new(start),
        end,
        opened: sender,
    });
    for _ in 0..OPENERS.min(end - start) {
        let task = Arc::clone(&task);
        // Not joined: after Ctrl-C the program does not wait for a server that does not respond.
        let spawned = thread::Builder::new()
            .name("opener".to_owned())
            .spawn(move || task.run());
        spawned.map_err(|why| ClientError::Failed(format!("cannot start a thread: {why}")))?;
    }
    Ok(receiver)
}

impl Task {
    fn run(&self) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.end {
                return;
            }
            let room = number % self.queries.len();
            let deadline = Instant::now() + self.dialer.connect_timeout();
            let opened = self.dialer.open(&self.queries[room], deadline);
            let is_last = opened.is_err();
            let opened = opened.map(|(socket, first_bytes)| Opened {
                socket,
                first_bytes,
                room,
            });
            if self.opened.send(opened).is_err() || is_last {
                return;
            }
        }
    }
}
