//! A disk that is full, a file that is locked, gone or damaged: nothing is acknowledged that is not
//! stored, everything else goes on, and it ends by itself.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    LoopDisk, RawConnection, Scratch, SmallDisk, TestClient, TestServer, eventually,
};

/// What the server answers to a publish with an id: an acknowledgement or an error's code.
fn publish(client: &mut TestClient, id: &str, payload: &str) -> Result<u64, String> {
    client.send(json!({"type": "message", "payload": payload, "id": id}));
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

/// Everything but publishing goes on: health says why, joins, heartbeats and reading work.
fn all_else_goes_on(server: &TestServer, client: &mut TestClient) {
    let health = server.raw().get("/health");
    assert_eq!(health.status, 503);
    assert_eq!(health.json()["status"], "degraded");
    let message = health.json()["message"].as_str().expect("why").to_owned();
    assert!(message.len() > 30, "{message}");
    client.send(json!({"type": "ping", "id": "alive"}));
    eventually("a pong", || (client.next()["type"] == "pong").then_some(()));
    let mut newcomer = server.client_at("/ws?room=another&since=0");
    newcomer.join("brand-new");
    newcomer.close();
    let metrics = server.raw().get("/metrics").text();
    assert!(metrics.contains("wscast_store_up 0"), "{metrics}");
    let posted = json!({"type": "message", "payload": "posted"});
    let answer = server.post("/rooms/lobby/messages", &posted);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.error_code(), "storage_unavailable");
}

/// The history is exactly what was acknowledged.
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

#[test]
fn a_full_disk_refuses_publishes_and_recovers() {
    let disk = SmallDisk::serve("4m", &["--log-level", "info"]);
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
        // What still fits into pages that the log has is stored, and that is right.
        let refused = eventually("a publish is refused", || {
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
        disk.becomes("degraded");
        all_else_goes_on(server, &mut alice);
        assert_stored(server, &acknowledged);
        disk.clear();
        disk.becomes("healthy");
        // The same id, which was refused, is now stored.
        let (id, offset) = (
            refused.0.clone(),
            publish(&mut alice, &refused.0, "again").expect("stored"),
        );
        acknowledged.push((id, offset));
    }
    assert_stored(server, &acknowledged);
    // Who was there the whole time got each once and in order.
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
}

#[test]
fn a_disk_that_turns_read_only_refuses_publishes_and_keeps_what_it_has() {
    let Some(disk) = LoopDisk::mount() else {
        return;
    };
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
        all_else_goes_on(&server, &mut alice);
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
}

#[test]
fn a_locked_file_refuses_publishes_until_it_is_free() {
    let disk = Scratch::new();
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
    // A repeated id was stored, so it is acknowledged even now.
    assert_eq!(publish(&mut alice, "1", "a"), Ok(1));
    all_else_goes_on(&server, &mut alice);
    assert_stored(&server, &acknowledged);
    other.execute_batch("ROLLBACK").expect("unlock");
    eventually("it recovers by itself", || {
        (server.raw().get("/health").status == 200).then_some(())
    });
    acknowledged.push((
        "2".to_owned(),
        publish(&mut alice, "2", "b").expect("stored"),
    ));
    assert_stored(&server, &acknowledged);
}

/// While the disk takes its time, members get what was stored and heartbeats are answered.
#[test]
fn readers_do_not_wait_for_a_publisher_that_waits_for_the_disk() {
    let disk = Scratch::new();
    let server = disk.serve(&[]);
    let (mut alice, mut bob) = (server.client(), server.client());
    alice.say("stored");
    bob.expect("stored");
    let other = Connection::open(disk.path("history.db")).expect("open");
    other.execute_batch("BEGIN IMMEDIATE").expect("lock");
    alice.say("waits");
    for n in 0..20 {
        let ping = format!("{n}");
        bob.send(json!({"type": "ping", "id": ping}));
        assert_eq!(bob.next_of("pong")["id"], ping);
        let mut carol = server.client_at("/ws?room=elsewhere");
        carol.join("lobby");
        carol.leave("lobby");
        let page = server.get_json("/rooms/lobby/messages");
        assert_eq!(page["last"], 1);
    }
}

#[test]
fn a_file_that_is_moved_away_refuses_publishes_until_it_is_back() {
    let disk = Scratch::new();
    let server = disk.serve(&[]);
    let mut alice = server.client_at("/ws?session=alice-and-nobody-else");
    publish(&mut alice, "1", "a").expect("stored");
    let (here, there) = (disk.path("history.db"), disk.path("moved.db"));
    fs::rename(&here, &there).expect("move");
    eventually("it is noticed", || {
        (server.raw().get("/health").status == 503).then_some(())
    });
    assert_eq!(
        publish(&mut alice, "2", "b"),
        Err("storage_unavailable".to_owned())
    );
    all_else_goes_on(&server, &mut alice);
    fs::rename(&there, &here).expect("move back");
    eventually("it recovers by itself", || {
        (server.raw().get("/health").status == 200).then_some(())
    });
    assert_eq!(publish(&mut alice, "2", "b"), Ok(2));
}

/// Whatever is in the file, the server answers or says that it cannot, and never ends by it.
/// A server that is killed would take with it what is in no file but the deleted one. One that is told to
/// stop still moves it into the database.
#[test]
fn a_log_that_is_deleted_refuses_publishes_until_the_server_starts_again() {
    let disk = Scratch::new();
    let mut server = disk.serve(&[]);
    let mut alice = server.client();
    let stored = vec![(
        "1".to_owned(),
        publish(&mut alice, "1", "one").expect("stored"),
    )];
    fs::remove_file(disk.path("history.db-wal")).expect("delete");
    eventually("publishes are refused", || {
        let health = server.raw().get("/health").json();
        (health["status"] == "degraded").then_some(())
    });
    assert_eq!(
        publish(&mut alice, "2", "two"),
        Err("storage_unavailable".to_owned())
    );
    all_else_goes_on(&server, &mut alice);
    server.signal(Signal::TERM);
    assert!(server.wait_for_exit().success());
    let server = disk.serve(&[]);
    assert_stored(&server, &stored);
    publish(&mut server.client(), "2", "two").expect("stored");
}

#[test]
fn a_damaged_file_is_a_clear_error_at_start_or_later() {
    let disk = Scratch::new();
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
        let mut command = {
            let database = disk.database();
            TestServer::command(&[&database[0], &database[1], "--log-level=warn"])
        };
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().expect("start");
        let mut first = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().expect("piped"));
        std::io::BufRead::read_line(&mut stdout, &mut first).expect("stdout");
        if first.is_empty() {
            let output = child.wait_with_output().expect("wait");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "page {page}: {said}");
            assert!(
                said.lines().any(|line| line.starts_with("wscast: --db")),
                "{said}"
            );
            continue;
        }
        let address = first
            .split("http://")
            .nth(1)
            .expect("page")
            .trim_end()
            .trim_end_matches('/');
        let address = address.parse().expect("address");
        let history =
            RawConnection::connect(address).get("/rooms/lobby/messages?since=0&limit=1000");
        assert!(
            [200, 404, 503].contains(&history.status),
            "page {page}: {}",
            history.text()
        );
        let mut client = TestClient::connect(address, "/ws");
        let published = publish(&mut client, "1", "after the damage");
        assert!(
            published.is_ok() || published == Err("storage_unavailable".to_owned()),
            "page {page}: {published:?}"
        );
        assert!(
            child.try_wait().expect("wait").is_none(),
            "page {page}: it ended"
        );
        child.kill().expect("kill");
        child.wait().expect("wait");
        let _not_kept = fs::remove_file(disk.path("history.db-wal"));
    }
}
