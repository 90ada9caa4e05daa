//! Counters of a server, and of its process.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

use super::{TestServer, wait_until};

impl TestServer {
    pub fn stats(&self) -> Value {
        self.get_json("/stats")
    }

    /// Blocks until `/health` has this status.
    pub fn wait_for_health(&self, status: u16) {
        wait_until(&format!("health is {status}"), || {
            self.raw().get("/health").status == status
        });
    }

    /// Blocks until this many clients are connected.
    pub fn wait_for_clients(&self, count: u64) {
        wait_until(&format!("{count} clients are connected"), || {
            self.connected_clients() == count
        });
    }

    /// Blocks until the log contains `text`.
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("the log contains {text:?}"), || {
            self.log().contains(text)
        });
    }

    /// Returns one of the totals in `/stats`.
    pub fn total(&self, name: &str) -> u64 {
        let stats = self.stats();
        let total = stats["totals"][name].as_u64();
        total.unwrap_or_else(|| panic!("no {name} in {stats}"))
    }

    pub fn lagging_clients(&self) -> u64 {
        self.stats()["lagging_clients"]
            .as_u64()
            .expect("a number in /stats")
    }

    /// Returns the number of members of a room that exists.
    pub fn members(&self, room: &str) -> u64 {
        let room = self.get_json(&format!("/rooms/{room}"));
        room["members"].as_u64().expect("a number")
    }

    /// Returns the resident memory of the process (`VmRSS`).
    pub fn rss_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(path).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.unwrap_or_else(|| panic!("no VmRSS in {status}"))
    }
}

/// Raises this process's limit of open sockets to the hard limit.
pub fn allow_many_sockets() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("descriptor limit");
}
