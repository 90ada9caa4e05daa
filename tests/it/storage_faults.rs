//! Storage faults: the disk is full or read-only, the file locked, moved or damaged. Publishes are refused, all else
//! works, and publishing recovers by itself.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    TempDir, TestClient, TestServer, wait_for, wait_until, with_loop_disk, with_small_disk,
};

/// Publishes a message with an id; returns the acknowledged offset or the error code.
fn publish(client: &mut TestClient, id: &str, payload: &str) -> Result<u64, String> {
    client.send_json(json!({"type": "message", "payload": payload, "id": id}));
    loop {
        let frame = client.next();
        let payload = &frame["payload"];
        match (frame["type"].as_str(), frame["id"].as_str()) {
            (Some("ack"), Some(of)) if of == id => {
                return Ok(payload["offset"].as_u64().expect("offset"));
            }
            (Some("error"), Some(of)) if of == id => {
                return Err(payload["code"].as_str().expect("code").to_owned());
            }
            _ => {}
        }
    }
}

/// Asserts that health gives the reason, and that joins, pings and reading work.
fn assert_all_else_works(server: &TestServer, client: &mut TestClient) {
    let health = server.raw().get("/health");
    assert_eq!(health.status, 503);
    assert_eq!(health.json()["status"], "degraded");
    let message = health.json()["message"].as_str().expect("why").to_owned();
    assert!(message.len() > 30, "{message}");
    client.send_json(json!({"type": "ping", "id": "alive"}));
    wait_until("a pong", || client.next()["type"] == "pong");
    let mut newcomer = server.client_at("/ws?room=another&since=0");
    newcomer.join("brand-new");
    newcomer.close();
    let metrics = server.raw().get("/metrics").text();
    assert!(metrics.contains("wscast_store_up 0"), "{metrics}");
    let posted = json!({"type": "message", "payload": "posted"});
    let response = server.post("/rooms/lobby/messages", &posted);
    assert_eq!(response.status, 503, "{}", response.text());
    assert_eq!(response.error_code(), "storage_unavailable");
}

/// Asserts that the history consists of the acknowledged messages.
fn assert_stored(server: &TestServer, acknowledged: &[(String, u64)]) {
    let page = server.get_json("/rooms/lobby/messages?since=0&limit=1000");
    let stored: Vec<_> = page["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(|m| {
            let id = m["id"].as_str().expect("id").to_owned();
            (id, m["offset"].as_u64().expect("offset"))
        })
        .collect();
    assert_eq!(stored, acknowledged);
}

// Actors: Alice, who publishes with ids, and Bob, who stays connected.
// Faults: the disk is full, three times.
// Invariants: exactly the acknowledged messages are stored; all else works meanwhile; Bob gets each message once.
#[test]
fn full_disk_refuses_publishes_and_recovers() {
    with_small_disk("4m", &["--log-level", "info"], |disk| {
        let server = &disk.server;
        let mut alice = server.client_at("/ws?session=alice-and-nobody-else");
        let mut bob = server.client();
        let mut acknowledged = Vec::new();
        let mut number = 0;
        for round in 0..3 {
            for _ in 0..10 {
                let id = format!("{number}");
                let offset = publish(&mut alice, &id, &id).expect("stored");
                acknowledged.push((id, offset));
                number += 1;
            }
            disk.fill();
            // Messages that fit into the pages of the log are still stored and acknowledged.
            let refused = wait_for("a publish is refused", || {
                let id = format!("{number}");
                number += 1;
                match publish(&mut alice, &id, &"x".repeat(30_000)) {
                    Ok(offset) => {
                        acknowledged.push((id, offset));
                        None
                    }
                    Err(code) => Some((id, code)),
                }
            });
            assert_eq!(refused.1, "storage_unavailable", "round {round}");
            disk.wait_for_status("degraded");
            assert_all_else_works(server, &mut alice);
            assert_stored(server, &acknowledged);
            disk.clear();
            disk.wait_for_status("healthy");
            // The refused message is stored now, with the same id.
            let (id, offset) = (
                refused.0.clone(),
                publish(&mut alice, &refused.0, "again").expect("stored"),
            );
            acknowledged.push((id, offset));
        }
        assert_stored(server, &acknowledged);
        // A member that stayed connected got each message once and in order.
        for (id, offset) in &acknowledged {
            let message = bob.next_of("message");
            assert_eq!(
                (&message["id"], &message["offset"]),
                (&json!(id), &json!(offset))
            );
        }
        assert!(
            server.log().contains("publishes are refused"),
            "{}",
            server.log()
        );
        assert!(server.stats()["store"]["commits_failed"].as_u64() > Some(0));
    });
}

#[test]
fn disk_that_turns_read_only_refuses_publishes_and_keeps_its_history() {
    with_loop_disk(|disk| {
        let mut acknowledged = Vec::new();
        {
            let mut server = disk.serve();
            let mut alice = server.client_at("/ws?session=alice-and-nobody-else");
            for id in ["1", "2", "3"] {
                let offset = publish(&mut alice, id, "stored").expect("stored");
                acknowledged.push((id.to_owned(), offset));
            }
            disk.fail();
            let refused = publish(&mut alice, "4", "refused");
            assert_eq!(refused, Err("storage_unavailable".to_owned()));
            assert_all_else_works(&server, &mut alice);
            assert_stored(&server, &acknowledged);
            server.signal(Signal::TERM);
            assert!(server.wait_for_exit().success(), "{}", server.log());
        }
        disk.unmount();
        disk.mount_again();
        let server = disk.serve();
        assert_stored(&server, &acknowledged);
        let mut alice = server.client_at("/ws?session=alice-and-nobody-else");
        assert_eq!(publish(&mut alice, "4", "stored now"), Ok(4));
    });
}

#[test]
fn locked_file_refuses_publishes_until_it_is_unlocked() {
    let disk = TempDir::new();
    let server = disk.serve(&[]);
    let mut alice = server.client_at("/ws?session=alice-and-nobody-else");
    let mut acknowledged = vec![(
        "1".to_owned(),
        publish(&mut alice, "1", "a").expect("stored"),
    )];
    let other = Connection::open(disk.path("history.db")).expect("open");
    other
        .busy_timeout(Duration::from_secs(10))
        .expect("time-out");
    other.execute_batch("BEGIN IMMEDIATE").expect("lock");
    assert_eq!(
        publish(&mut alice, "2", "b"),
        Err("storage_unavailable".to_owned())
    );
    // The message with this id is stored already, so it is acknowledged even now.
    assert_eq!(publish(&mut alice, "1", "a"), Ok(1));
    assert_all_else_works(&server, &mut alice);
    assert_stored(&server, &acknowledged);
    other.execute_batch("ROLLBACK").expect("unlock");
    server.wait_for_health(200);
    acknowledged.push((
        "2".to_owned(),
        publish(&mut alice, "2", "b").expect("stored"),
    ));
    assert_stored(&server, &acknowledged);
}

/// While a publish waits for the disk, stored messages are delivered and pings answered.
#[test]
fn readers_do_not_wait_for_a_publisher_that_waits_for_the_disk() {
    let disk = TempDir::new();
    let server = disk.serve(&[]);
    let (mut alice, mut bob) = (server.client(), server.client());
    alice.say("stored");
    bob.expect("stored");
    let other = Connection::open(disk.path("history.db")).expect("open");
    other.execute_batch("BEGIN IMMEDIATE").expect("lock");
    alice.say("waits");
    for n in 0..20 {
        let ping = format!("{n}");
        bob.send_json(json!({"type": "ping", "id": ping}));
        assert_eq!(bob.next_of("pong")["id"], ping);
        let mut carol = server.client_at("/ws?room=other");
        carol.join("lobby");
        carol.leave("lobby");
        let page = server.get_json("/rooms/lobby/messages");
        assert_eq!(page["last"], 1);
    }
}

#[test]
fn moved_file_refuses_publishes_until_it_is_back() {
    let disk = TempDir::new();
    let server = disk.serve(&[]);
    let mut alice = server.client_at("/ws?session=alice-and-nobody-else");
    publish(&mut alice, "1", "a").expect("stored");
    let (here, there) = (disk.path("history.db"), disk.path("moved.db"));
    fs::rename(&here, &there).expect("move");
    server.wait_for_health(503);
    assert_eq!(
        publish(&mut alice, "2", "b"),
        Err("storage_unavailable".to_owned())
    );
    assert_all_else_works(&server, &mut alice);
    fs::rename(&there, &here).expect("move back");
    server.wait_for_health(200);
    assert_eq!(publish(&mut alice, "2", "b"), Ok(2));
}

/// The deleted log still has messages that are in no other file. A server that is killed would lose them; one that shuts
/// down moves them into the database.
#[test]
fn deleted_log_refuses_publishes_until_a_restart() {
    let disk = TempDir::new();
    let mut server = disk.serve(&[]);
    let mut alice = server.client();
    let stored = vec![(
        "1".to_owned(),
        publish(&mut alice, "1", "one").expect("stored"),
    )];
    fs::remove_file(disk.path("history.db-wal")).expect("delete");
    wait_until("publishes are refused", || {
        let health = server.raw().get("/health").json();
        health["status"] == "degraded"
    });
    assert_eq!(
        publish(&mut alice, "2", "two"),
        Err("storage_unavailable".to_owned())
    );
    assert_all_else_works(&server, &mut alice);
    server.signal(Signal::TERM);
    assert!(server.wait_for_exit().success());
    let server = disk.serve(&[]);
    assert_stored(&server, &stored);
    publish(&mut server.client(), "2", "two").expect("stored");
}

// Faults: one page of the database is overwritten, another one in each round.
// Invariants: the start fails with a line that names the setting, or the server runs and refuses what it cannot read.
#[test]
fn damaged_file_is_a_clear_error_at_start_or_later() {
    let disk = TempDir::new();
    let path = disk.path("history.db");
    {
        let mut server = disk.serve(&["--log-level", "warn"]);
        let mut alice = server.client();
        (0..200).for_each(|_| alice.say("x".repeat(3000)));
        (0..200).for_each(|_| drop(alice.next_of("message")));
        server.signal(Signal::TERM);
        server.wait_for_exit();
    }
    let whole = fs::read(&path).expect("read");
    for page in 1..(whole.len() / 4096).min(14) {
        fs::write(&path, &whole).expect("write");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("open");
        file.seek(SeekFrom::Start(page as u64 * 4096))
            .expect("seek");
        file.write_all(&[0xA5; 4096]).expect("damage");
        let started = TestServer::try_start_command(disk.command(&["--log-level=warn"]));
        let mut server = match started {
            Ok(server) => server,
            Err((status, log)) => {
                assert_eq!(status.code(), Some(1), "page {page}: {log}");
                let names_setting = log.lines().any(|line| line.starts_with("wscast: --db"));
                assert!(names_setting, "{log}");
                continue;
            }
        };
        let target = "/rooms/lobby/messages?since=0&limit=1000";
        let history = server.raw().get(target);
        let known = [200, 404, 503].contains(&history.status);
        assert!(known, "page {page}: {}", history.text());
        let published = publish(&mut server.client(), "1", "after the damage");
        assert!(
            published.is_ok() || published == Err("storage_unavailable".to_owned()),
            "page {page}: {published:?}"
        );
        assert!(server.is_running(), "page {page}: the server ended");
        drop(server);
        let _not_there = fs::remove_file(disk.path("history.db-wal"));
    }
}
