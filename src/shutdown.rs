//! The one-way stop signal.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
        *self.lock() = true;
        self.0.changed.notify_all();
    }

    /// Whether shutdown was asked for.
    pub fn is_requested(&self) -> bool {
        *self.lock()
    }

    /// Waits until shutdown is asked for, at most `timeout`; says whether it was.
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut requested = self.lock();
        while !*requested {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.0.changed.wait_timeout(requested, left);
            requested = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0
            .requested
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
