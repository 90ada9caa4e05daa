//! A history on disk, and the positions that a server has acknowledged to its publisher.

use std::collections::HashSet;

use rustix::process::Signal;
use serde_json::Value;

use super::{TempDir, TestServer};

const SESSION: &str = "the-publisher-and-nobody-else";

/// A directory with a database, and the positions that were acknowledged.
pub struct AcknowledgedHistory {
    pub dir: TempDir,
    acknowledged: HashSet<(String, u64)>,
    /// The last of the positions.
    pub last: Option<(String, u64)>,
    published: usize,
}

impl AcknowledgedHistory {
    pub fn new() -> Self {
        Self {
            dir: TempDir::new(),
            acknowledged: HashSet::new(),
            last: None,
            published: 0,
        }
    }

    /// Publishes messages to the lobby.
    pub fn publish(&mut self, server: &TestServer, count: usize) {
        self.publish_sized(server, count, 10);
    }

    /// Publishes messages of this size.
    pub fn publish_sized(&mut self, server: &TestServer, count: usize, bytes: usize) {
        for _ in 0..count {
            self.published += 1;
            let id = self.published.to_string();
            let position = server.publish("lobby", SESSION, &id, "x".repeat(bytes));
            let position = parse(&position);
            assert!(
                self.acknowledged.insert(position.clone()),
                "{position:?} was acknowledged before"
            );
            self.last = Some(position);
        }
    }

    /// Starts a server, publishes, and ends it with this signal.
    pub fn run_until(&mut self, signal: Signal) {
        let mut server = self.dir.serve(&[]);
        self.publish(&server, 5);
        server.end(signal);
    }

    /// Returns whether a reader of all acknowledged messages resumes without a gap.
    pub fn is_resumed(&self, server: &TestServer) -> bool {
        let (epoch, offset) = self.last.as_ref().expect("a message");
        let reader = server.client_at(&format!("/ws?since={offset}&epoch={epoch}"));
        let room = reader.welcome().room("lobby");
        let is_resumed = room.recovered.expect("recovered");
        assert_eq!(is_resumed, room.epoch == *epoch, "{room:?}");
        is_resumed
    }

    /// Starts a server on the files. The reader learns of a gap, and offsets are not used again.
    pub fn assert_restarted(&mut self, case: &str) {
        let server = self.dir.serve(&["--log-level", "warn"]);
        assert!(!self.is_resumed(&server), "{case}");
        let log = server.log();
        assert_eq!(
            log.matches("restarts in a new epoch").count(),
            1,
            "{case}: {log}"
        );
        self.publish(&server, 10);
        drop(server);
        // The new numbering continues.
        let server = self.dir.serve(&[]);
        assert!(self.is_resumed(&server), "{case}: {}", server.log());
    }
}

fn parse(position: &Value) -> (String, u64) {
    let epoch = position["epoch"].as_str().expect("epoch").to_owned();
    (epoch, position["offset"].as_u64().expect("offset"))
}
