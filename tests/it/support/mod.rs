//! What scenarios are written in: a server on a port of its own, clients, raw sockets, deadlines.

mod client;
mod network;
mod observe;
mod proxy;
mod raw;
mod redis;
mod scratch;
mod server;
mod siege;
mod socket;
mod stream;
pub mod token;
mod wire;

pub use self::redis::{Detour, TestCluster, TestRedis, free_port};
pub use client::TestClient;
pub use network::RemoteMembers;
pub use observe::allow_many_sockets;
pub use proxy::{proxied, proxy_header};
pub use raw::{RawConnection, Response, frame, handshake};
pub use scratch::{LoopDisk, Scratch, SmallDisk};
pub use server::TestServer;
pub use siege::{Chance, Siege};
pub use socket::{Certificate, Socket};
pub use stream::said;
pub use wire::request;

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
