//! A flag that ends threads beside a scenario.

use std::sync::atomic::{AtomicBool, Ordering};

/// Sets a flag when dropped, also when an assertion fails, so that the threads that check it always end.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
