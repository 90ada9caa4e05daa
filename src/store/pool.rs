//! A pool of connections that clients' threads share for reading.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::threads::REPLY_TIMEOUT;

/// A fixed number of connections. A thread waits until one is free.
#[derive(Debug)]
pub(super) struct Pool<T> {
    put_back: Sender<T>,
    free: Receiver<T>,
}

impl<T> Pool<T> {
    pub(super) fn new(connections: Vec<T>) -> Self {
        let (put_back, free) = bounded(connections.len());
        for connection in connections {
            // Cannot fail: the channel has room for all of them.
            put_back.try_send(connection).ok();
        }
        Self { put_back, free }
    }

    /// Calls `use_connection` with a free connection. Returns `None` if none becomes free in time.
    pub(super) fn with<R>(&self, use_connection: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut connection = self.free.recv_timeout(REPLY_TIMEOUT).ok()?;
        let result = use_connection(&mut connection);
        // Cannot fail: the channel has room for all of them.
        self.put_back.try_send(connection).ok();
        Some(result)
    }
}
