//! `/health/live` and `/health/ready`: an orchestrator's probes of a working, a closing and a stuck server.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{TempDir, TestServer, wait_for, wait_until, with_loop_disk};

/// Returns the status and the body of a probe.
fn probe(server: &TestServer, path: &str) -> (u16, Value) {
    let response = server.raw().get(path);
    (response.status, response.json())
}

fn ready() -> (u16, Value) {
    let parts = json!({"broadcaster": true, "broker": true, "store": true});
    (200, json!({"status": "ready", "parts": parts}))
}

fn live() -> (u16, Value) {
    (
        200,
        json!({"status": "live", "parts": {"broadcaster": true}}),
    )
}

#[test]
fn working_server_is_live_and_ready() {
    let dir = TempDir::new();
    let database = dir.path("history.db");
    let database = format!("--db={}", database.display());
    for args in [
        &[][..],
        &[database.as_str()],
        &[&database, "--durability=full"],
    ] {
        let server = TestServer::start(args);
        for _ in 0..3 {
            assert_eq!(probe(&server, "/health/live"), live());
            assert_eq!(probe(&server, "/health/ready"), ready());
        }
        assert_eq!(
            server.raw().request("HEAD", "/health/ready", &[]).status,
            200
        );
    }
}

#[test]
fn probes_between_publishes_change_no_offset() {
    let dir = TempDir::new();
    let database = dir.path("history.db");
    let database = format!("--db={}", database.display());
    let mut server = TestServer::start(&[&database]);
    for offset in 1..=5 {
        let body = json!({"type": "message", "payload": offset});
        let stored = server.post("/rooms/lobby/messages", &body).json();
        assert_eq!(stored["offset"], offset);
        assert_eq!(probe(&server, "/health/ready"), ready());
    }
    let epoch = server.get_json("/rooms/lobby/messages")["epoch"].clone();
    server.end(Signal::KILL);
    // A mark that does not fit the database would begin a new epoch.
    let server = TestServer::start(&[&database]);
    let page = server.get_json("/rooms/lobby/messages");
    assert_eq!((&page["epoch"], &page["last"]), (&epoch, &json!(5)));
}

#[test]
fn draining_server_is_live_but_not_ready() {
    let server = TestServer::start(&["--drain-delay=1h"]);
    server.signal(Signal::TERM);
    let body = wait_for("not ready", || {
        let (status, body) = probe(&server, "/health/ready");
        (status == 503).then_some(body)
    });
    assert_eq!(body["status"], "draining");
    assert_eq!(body["parts"]["store"], true);
    assert_eq!(probe(&server, "/health/live"), live());
}

/// An orchestrator sends no token.
#[test]
fn probes_need_no_token_and_show_reasons_only_to_clients_with_one() {
    let server = TestServer::with_tokens(&["--drain-delay=1h"]);
    assert_eq!(probe(&server, "/health/live"), live());
    assert_eq!(probe(&server, "/health/ready"), ready());
    server.signal(Signal::TERM);
    wait_until("not ready", || probe(&server, "/health/ready").0 == 503);
    let (_, body) = probe(&server, "/health/ready");
    assert_eq!(body["status"], "draining");
    assert_eq!(body.get("message"), None);
}

// Faults: the file system is frozen, as a snapshot or a disk that hangs does it; nothing is published meanwhile.
#[test]
fn server_with_a_frozen_disk_is_live_but_not_ready() {
    with_loop_disk(|disk| {
        let server = disk.serve();
        let mut alice = server.client();
        assert_eq!(probe(&server, "/health/ready"), ready());
        disk.while_frozen(|| {
            let body = wait_for("not ready", || {
                let (status, body) = probe(&server, "/health/ready");
                (status == 503).then_some(body)
            });
            assert_eq!(body["status"], "not_ready");
            assert_eq!(body["parts"]["broadcaster"], true);
            assert_eq!(body["parts"]["broker"], false);
            assert_eq!(body["message"], "the store did not answer within 1s");
            assert_eq!(probe(&server, "/health/live"), live());
            alice.send_json(json!({"type": "ping", "id": "alive"}));
            alice.next_of("pong");
        });
        wait_until("ready again", || probe(&server, "/health/ready") == ready());
        alice.say("stored again");
        alice.expect("stored again");
    });
}

// Faults: every write fails, and nothing is published, so that only a probe can find out.
#[test]
fn server_with_a_failed_disk_is_not_ready() {
    with_loop_disk(|disk| {
        let server = disk.serve();
        assert_eq!(probe(&server, "/health/ready"), ready());
        disk.fail();
        let body = wait_for("not ready", || {
            let (status, body) = probe(&server, "/health/ready");
            (status == 503).then_some(body)
        });
        assert_eq!(body["status"], "not_ready");
        assert_eq!(body["parts"]["broker"], true);
        assert_eq!(body["parts"]["store"], false);
        assert_eq!(probe(&server, "/health/live"), live());
        drop(server);
    });
}
