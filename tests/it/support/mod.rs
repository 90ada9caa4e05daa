//! What scenarios are written in: a server on a port of its own, clients, raw sockets, deadlines.

mod client;
mod raw;
mod server;

pub use client::TestClient;
pub use raw::{RawConnection, Response};
pub use server::TestServer;

use std::time::{Duration, Instant};

/// How long anything that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` gives a value; panics with `what` when patience ends.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
