//! What a server says of itself, and what the system says of its process.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

use super::{TestServer, eventually};

impl TestServer {
    pub fn stats(&self) -> Value {
        self.get_json("/stats")
    }

    /// Waits until `/health` has this status.
    pub fn await_health(&self, status: u16) {
        eventually(&format!("health is {status}"), || {
            (self.raw().get("/health").status == status).then_some(())
        });
    }

    /// One of the totals in `/stats`.
    pub fn total(&self, name: &str) -> u64 {
        let stats = self.stats();
        let total = stats["totals"][name].as_u64();
        total.unwrap_or_else(|| panic!("no {name} in {stats}"))
    }

    pub fn lagging_clients(&self) -> u64 {
        self.stats()["lagging_clients"].as_u64().expect("a number")
    }

    /// Members of a room that has some.
    pub fn members(&self, room: &str) -> u64 {
        let room = self.get_json(&format!("/rooms/{room}"));
        room["members"].as_u64().expect("a number")
    }

    /// Resident memory (`VmRSS`).
    pub fn rss_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(path).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.unwrap_or_else(|| panic!("no VmRSS in {status}"))
    }
}

/// Lets this process open as many sockets as the system allows it.
pub fn allow_many_sockets() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("descriptor limit");
}
