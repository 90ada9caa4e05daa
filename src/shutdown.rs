//! The shutdown signal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The request to shut down. Cheap to clone; a request cannot be undone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<Signal>);

#[derive(Debug, Default)]
struct Signal {
    requested: Mutex<bool>,
    changed: Condvar,
}

impl Shutdown {
    /// Requests shutdown. A second request changes nothing.
    pub fn request(&self) {
        *self.0.requested.lock() = true;
        self.0.changed.notify_all();
    }

    /// Returns whether shutdown was requested.
    pub fn is_requested(&self) -> bool {
        *self.0.requested.lock()
    }

    /// Waits for the request, for `timeout` at most. Returns whether shutdown was requested.
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut requested = self.0.requested.lock();
        let is_missing = |requested: &mut bool| !*requested;
        self.0
            .changed
            .wait_while_until(&mut requested, is_missing, deadline);
        *requested
    }
}
