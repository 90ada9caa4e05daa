//! The one-way stop signal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Cheap to clone; once requested, a shutdown cannot be taken back.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<Signal>);

#[derive(Debug, Default)]
struct Signal {
    requested: Mutex<bool>,
    changed: Condvar,
}

impl Shutdown {
    /// Asks for shutdown. Asking again changes nothing.
    pub fn request(&self) {
        *self.0.requested.lock() = true;
        self.0.changed.notify_all();
    }

    /// Whether shutdown was asked for.
    pub fn is_requested(&self) -> bool {
        *self.0.requested.lock()
    }

    /// Waits until shutdown is asked for, at most `timeout`; says whether it was.
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
