//! The shutdown signal, in two steps: first it is requested, then clients are closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The progress of the shutdown. Cheap to clone; no step can be undone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<Signal>);

#[derive(Debug, Default)]
struct Signal {
    phase: Mutex<ShutdownPhase>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum ShutdownPhase {
    #[default]
    Running,
    /// `/health` returns 503; all else continues.
    Requested,
    /// No connection is accepted any more, and clients are closed.
    Closing,
}

impl Shutdown {
    /// Requests shutdown. A second request changes nothing.
    pub fn request(&self) {
        self.advance(ShutdownPhase::Requested);
    }

    /// Returns whether shutdown was requested.
    pub fn is_requested(&self) -> bool {
        *self.0.phase.lock() >= ShutdownPhase::Requested
    }

    /// Waits for the request, for `timeout` at most. Returns whether shutdown was requested.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.wait_for(ShutdownPhase::Requested, timeout)
    }

    /// Marks the end of the time between the request and the closing of clients.
    pub(crate) fn close(&self) {
        self.advance(ShutdownPhase::Closing);
    }

    /// Returns whether clients are closed now.
    pub(crate) fn is_closing(&self) -> bool {
        *self.0.phase.lock() == ShutdownPhase::Closing
    }

    /// Waits until clients are closed, for `timeout` at most. Returns whether they are.
    pub(crate) fn wait_until_closing(&self, timeout: Duration) -> bool {
        self.wait_for(ShutdownPhase::Closing, timeout)
    }

    fn advance(&self, phase: ShutdownPhase) {
        let mut current = self.0.phase.lock();
        *current = phase.max(*current);
        self.0.changed.notify_all();
    }

    fn wait_for(&self, phase: ShutdownPhase, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut current = self.0.phase.lock();
        let is_missing = |current: &mut ShutdownPhase| *current < phase;
        self.0
            .changed
            .wait_while_until(&mut current, is_missing, deadline);
        *current >= phase
    }
}
