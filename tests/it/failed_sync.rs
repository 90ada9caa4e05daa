//! A disk that fails to sync, with `--durability full`: whether the message is stored is unknown, the error says so, and
//! sending it again with its id stores it once.
//!
//! A library that is loaded into the server's process lets `fsync` and `fdatasync` fail while a file exists.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{TempDir, TestServer, skip};

const SESSION: &str = "the-publisher-and-nobody-else";
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(void) {
    const char *path = getenv("SYNC_FAILS_WHILE");
    return path && access(path, F_OK) == 0;
}
int fdatasync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return syscall(SYS_fdatasync, fd);
}
int fsync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return syscall(SYS_fsync, fd);
}
"#;

struct FailingDisk(TempDir);

impl FailingDisk {
    /// Skips the test, with `None`, without a C compiler.
    fn build() -> Option<Self> {
        let dir = TempDir::new();
        fs::write(dir.path("sync.c"), LIBRARY).expect("write");
        let mut compiler = Command::new("cc");
        compiler.args([
            "-shared",
            "-fPIC",
            "-o",
            &dir.arg("sync.so"),
            &dir.arg("sync.c"),
        ]);
        if !compiler.status().is_ok_and(|status| status.success()) {
            skip("no C compiler");
            return None;
        }
        Some(Self(dir))
    }

    fn serve(&self) -> TestServer {
        let mut command = self
            .0
            .command(&["--durability", "full", "--log-level", "warn"]);
        command.env("LD_PRELOAD", self.0.path("sync.so"));
        command.env("SYNC_FAILS_WHILE", self.0.path("failing"));
        TestServer::start_command(command)
    }

    fn fail(&self) {
        fs::write(self.0.path("failing"), "").expect("write");
    }

    fn work(&self) {
        fs::remove_file(self.0.path("failing")).expect("remove");
    }
}

/// Publishes a message whose outcome the server must not claim to know.
fn publish_with_unknown_outcome(server: &TestServer, id: &str) {
    let target = format!("/rooms/lobby/messages?session={SESSION}");
    let refused = server.post(
        &target,
        &json!({"type": "message", "payload": "x", "id": id}),
    );
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.error_code(), "storage_unavailable");
    let message = refused.json()["error"]["message"].to_string();
    assert!(message.contains("may have been published"), "{message}");
    assert!(message.contains("same id"), "{message}");
}

fn assert_stored(server: &TestServer, ids: &[&str]) {
    let page = server.get_json("/rooms/lobby/messages?since=0");
    let messages = page["messages"].as_array().expect("messages");
    let stored: Vec<&Value> = messages.iter().map(|message| &message["id"]).collect();
    assert_eq!(stored, ids, "{page}");
}

#[test]
fn message_of_unknown_outcome_is_stored_once_when_it_is_sent_again() {
    for is_killed in [true, false] {
        let Some(disk) = FailingDisk::build() else {
            return;
        };
        let mut server = disk.serve();
        let first = server.publish("lobby", SESSION, "1", "x");
        disk.fail();
        publish_with_unknown_outcome(&server, "2");
        assert_eq!(server.raw().get("/health").status, 503);
        assert_stored(&server, &["1"]);
        if is_killed {
            server.signal(Signal::KILL);
            server.wait_for_exit();
        }
        disk.work();
        if is_killed {
            server = disk.serve();
        }
        let again = server.publish("lobby", SESSION, "2", "x");
        assert_eq!(again["epoch"], first["epoch"], "killed: {is_killed}");
        assert_eq!(again["offset"], 2, "killed: {is_killed}");
        assert_stored(&server, &["1", "2"]);
        server.signal(Signal::KILL);
        server.wait_for_exit();
        assert_stored(&disk.serve(), &["1", "2"]);
    }
}
