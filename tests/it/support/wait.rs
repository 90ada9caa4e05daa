//! Waiting for something to happen, with one deadline for all scenarios.

use std::time::{Duration, Instant};

/// The time that anything a scenario waits for may take on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Time between two checks of a condition.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Blocks until `condition` holds; panics with `what` after [`TIMEOUT`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Blocks until `poll` returns a value; panics with `what` after [`TIMEOUT`].
pub fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < deadline, "timed out waiting: {what}");
        std::thread::park_timeout(CHECK_INTERVAL);
    }
}
