//! Messages that an operator deletes, or whose ttl ends: they leave the history, and no reader resumes over them without
//! a gap.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, signed};
use crate::support::{
    RawConnection, Seed, TempDir, TestClient, TestServer, offsets, payloads, read_over_removals,
    wait_until,
};

const PAGE: &str = "/rooms/ops/messages";
const SESSION: &str = "the-publisher-and-nobody-else";

/// Runs a scenario with a server that keeps its history in memory, and with one that keeps it on disk.
fn with_each_store(scenario: impl Fn(&[&TestServer])) {
    scenario(&[&TestServer::with_operator(&[])]);
    let disk = TempDir::new();
    scenario(&[&disk.serve_with_operator(&[])]);
}

/// Publishes the numbers from 1 to `last` in `ops` on the first node. Returns the epoch.
fn publish_up_to(nodes: &[&TestServer], last: u64) -> String {
    let mut epoch = String::new();
    for n in 1..=last {
        let position = nodes[0].publish("ops", SESSION, &n.to_string(), n);
        assert_eq!(position["offset"], n);
        epoch = position["epoch"].as_str().expect("an epoch").to_owned();
    }
    epoch
}

fn resume(node: &TestServer, since: u64, epoch: &str) -> (TestClient, bool, u64) {
    let client = node.client_at(&format!("/ws?room=ops&since={since}&epoch={epoch}"));
    let room = client.welcome().room("ops");
    (client, room.recovered.expect("recovered"), room.offset)
}

/// A page of the last node, with its offsets and whether it is contiguous.
fn page(nodes: &[&TestServer], query: &str) -> (Vec<u64>, Value) {
    let last = nodes.last().expect("a node");
    let page = last.get_json(&format!("{PAGE}?{query}"));
    (offsets(&page), page["contiguous"].clone())
}

/// Deletes on the first node and reads on the last one, which may be the same.
pub fn check_deleted_message(nodes: &[&TestServer]) {
    let epoch = publish_up_to(nodes, 10);
    let last = nodes.last().expect("a node");
    let mut live = last.client_at("/ws?room=ops");
    let deleted = nodes[0].delete(&format!("{PAGE}/4"));
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    assert_eq!(
        deleted.json(),
        json!({"room": "ops", "epoch": epoch, "deleted": 1})
    );
    for (target, status) in [("4", 404), ("99", 404), ("0", 400), ("x", 400), ("+5", 400)] {
        let response = nodes[0].delete(&format!("{PAGE}/{target}"));
        assert_eq!(response.status, status, "{target}: {}", response.text());
    }
    let of_another_epoch = nodes[0].delete(&format!("{PAGE}/5?epoch=00000000deadbeef"));
    assert_eq!(of_another_epoch.error_code(), "message_not_found");
    assert_eq!(nodes[0].delete("/rooms/none/messages").status, 404);

    for (query, expected, contiguous) in [
        ("since=0&limit=3", vec![1, 2, 3], true),
        ("since=2&limit=3", vec![3, 5, 6], false),
        ("since=3&limit=2", vec![5, 6], false),
        ("since=4&limit=2", vec![5, 6], true),
        ("limit=3", vec![8, 9, 10], true),
    ] {
        assert_eq!(page(nodes, query), (expected, json!(contiguous)), "{query}");
    }
    for (since, is_recovered, starts_at) in [(3, false, 10), (4, true, 4), (0, false, 10)] {
        let (mut client, recovered, offset) = resume(last, since, &epoch);
        assert_eq!((recovered, offset), (is_recovered, starts_at), "{since}");
        for n in offset + 1..=10 {
            client.expect(n);
        }
    }
    // The last message: the numbering continues after it.
    assert_eq!(nodes[0].delete(&format!("{PAGE}/10")).status, 200);
    assert_eq!(page(nodes, "since=8"), (vec![9], json!(false)));
    assert_eq!(page(nodes, "since=9"), (vec![], json!(false)));
    assert!(!resume(last, 9, &epoch).1);
    assert!(resume(last, 10, &epoch).1);
    // Its id is still known.
    assert_eq!(nodes[0].publish("ops", SESSION, "10", 10)["offset"], 10);
    assert_eq!(nodes[0].publish("ops", SESSION, "11", 11)["offset"], 11);
    live.expect(11);
    // The oldest message.
    assert_eq!(nodes[0].delete(&format!("{PAGE}/1")).status, 200);
    let whole = last.get_json(&format!("{PAGE}?since=1"));
    assert_eq!((&whole["first"], &whole["last"]), (&json!(2), &json!(11)));
    assert_eq!(offsets(&whole), [2, 3, 5, 6, 7, 8, 9, 11]);
}

pub fn check_deleted_room(nodes: &[&TestServer]) {
    let epoch = publish_up_to(nodes, 25);
    let last = nodes.last().expect("a node");
    nodes[0].delete(&format!("{PAGE}/20"));
    let target = format!("{PAGE}?epoch={epoch}");
    let deleted = nodes[0].delete(&target);
    assert_eq!(
        deleted.json(),
        json!({"room": "ops", "epoch": epoch, "deleted": 24})
    );
    let empty = last.get_json(&format!("{PAGE}?since=3"));
    assert_eq!(
        (&empty["first"], &empty["last"], &empty["contiguous"]),
        (&json!(26), &json!(25), &json!(false))
    );
    assert_eq!(page(nodes, "since=25"), (vec![], json!(true)));
    assert_eq!(page(nodes, "limit=10"), (vec![], json!(false)));
    assert!(!resume(last, 24, &epoch).1);
    let (mut client, recovered, _) = resume(last, 25, &epoch);
    assert!(recovered);
    assert_eq!(nodes[0].publish("ops", SESSION, "7", 7)["offset"], 7);
    assert_eq!(nodes[0].publish("ops", SESSION, "26", 26)["offset"], 26);
    client.expect(26);
    assert_eq!(page(nodes, "since=25"), (vec![26], json!(true)));
    assert_eq!(nodes[0].delete(&target).json()["deleted"], 1);
    assert_eq!(nodes[0].delete(&target).json()["deleted"], 0);
}

/// A publisher gives messages a ttl over both ways; a live member gets them, and a later reader gets a gap.
pub fn check_ttl(nodes: &[&TestServer]) {
    let last = nodes.last().expect("a node");
    let mut live = last.client_at("/ws?room=ops");
    let mut alice = nodes[0].client_at("/ws?room=ops");
    for (n, ttl) in [(1, None), (2, Some(1))] {
        alice.send_json(json!({"type": "message", "payload": n, "ttl": ttl}));
        alice.expect(n);
    }
    let position = nodes[0].post(PAGE, &json!({"type": "message", "payload": 3, "ttl": 3600}));
    assert_eq!(position.status, 201, "{}", position.text());
    let epoch = position.json()["epoch"].as_str().expect("epoch").to_owned();
    alice.send_json(json!({"type": "custom_event", "payload": 4, "ttl": 1, "id": "4"}));
    for n in 1..=4 {
        let frame = live.next();
        assert_eq!(
            (&frame["payload"], &frame["offset"]),
            (&json!(n), &json!(n))
        );
        assert_eq!(frame["ttl"], Value::Null);
    }
    wait_until("the messages leave the history", || {
        page(nodes, "since=0").0 == [1, 3]
    });
    for (query, expected, contiguous) in [
        ("since=0", vec![1, 3], false),
        ("since=0&limit=1", vec![1], true),
        ("since=2&limit=1", vec![3], true),
        ("since=2", vec![3], false),
        ("since=3", vec![], false),
        ("since=4", vec![], true),
        ("limit=1", vec![3], false),
    ] {
        assert_eq!(page(nodes, query), (expected, json!(contiguous)), "{query}");
    }
    for (since, is_recovered) in [(0, false), (1, false), (2, false), (3, false), (4, true)] {
        let (_client, recovered, offset) = resume(last, since, &epoch);
        assert_eq!((recovered, offset), (is_recovered, 4), "{since}");
    }
    alice.send_json(json!({"type": "message", "payload": 5, "ttl": 9_999_999}));
    live.expect(5);
    assert_eq!(page(nodes, "since=4"), (vec![5], json!(true)));
    // A message that has gone cannot be deleted.
    assert_eq!(nodes[0].delete(&format!("{PAGE}/2")).status, 404);
    assert_eq!(nodes[0].delete(PAGE).status, 200);
    assert_eq!(page(nodes, "since=0"), (vec![], json!(false)));
}

/// A stream from the oldest message gets all that are left, and a gap for the others.
pub fn check_event_stream(nodes: &[&TestServer]) {
    publish_up_to(nodes, 6);
    nodes[0].delete(&format!("{PAGE}/3"));
    nodes[0].delete(&format!("{PAGE}/6"));
    let mut stream = nodes.last().expect("a node").raw();
    stream.send("GET /rooms/ops/events?last_event_id=0 HTTP/1.1\r\nHost: test\r\n\r\n");
    let joined = stream.read_until("\"recovered\":false");
    assert!(joined.contains("\"offset\":0"), "{joined}");
    nodes[0].publish("ops", SESSION, "7", 7);
    let text = joined + &stream.read_until("\"payload\":7");
    let ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
    let ids = ids.filter_map(|id| id.rsplit_once('-')?.1.parse().ok());
    assert_eq!(ids.collect::<Vec<u64>>(), [0, 1, 2, 4, 5, 7]);
}

#[test]
fn readers_who_resume_across_a_deleted_message_get_a_gap() {
    with_each_store(check_deleted_message);
}

#[test]
fn room_whose_messages_are_deleted_keeps_its_numbering_and_its_ids() {
    with_each_store(check_deleted_room);
}

#[test]
fn message_leaves_the_history_at_the_end_of_its_ttl() {
    with_each_store(check_ttl);
}

#[test]
fn event_stream_from_the_start_gets_the_messages_that_are_left() {
    with_each_store(check_event_stream);
}

#[test]
fn readers_that_reconnect_get_a_gap_for_every_removed_message() {
    for seed in [Seed::fixed(19), Seed::new()] {
        let flags = ["--history-messages=100000", "--log-level=info"];
        let memory = TestServer::with_operator(&flags);
        read_over_removals(&[&memory], &seed);
        drop(memory);
        let disk = TempDir::new();
        read_over_removals(&[&disk.serve_with_operator(&flags)], &seed);
    }
}

#[test]
fn wrong_ttl_is_refused() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    for ttl in [
        "0",
        "-1",
        "1.5",
        "\"60\"",
        "31536001",
        "18446744073709551617",
        "true",
        "[]",
    ] {
        alice.send_text(&format!(r#"{{"type":"message","payload":1,"ttl":{ttl}}}"#));
        assert_eq!(alice.expect_error(), "invalid_field", "{ttl}");
        let body = format!(r#"{{"type":"message","payload":1,"ttl":{ttl}}}"#);
        let response = server.post_as("application/json", PAGE, &body);
        assert_eq!(response.error_code(), "invalid_field", "{ttl}");
    }
    alice.send_text(r#"{"type":"message","payload":1,"ttl":null}"#);
    alice.expect(1);
}

#[test]
fn only_operators_delete() {
    let server = TestServer::with_operator(&[]);
    publish_up_to(&[&server], 2);
    let member = signed(SECRET, &claims(json!({})));
    let member = format!("Authorization: Bearer {member}");
    for target in [PAGE.to_owned(), format!("{PAGE}/1")] {
        assert_eq!(server.raw().request("DELETE", &target, &[]).status, 403);
        let response = server.raw().request("DELETE", &target, &[&member]);
        assert_eq!(response.status, 403, "{target}");
    }
    assert_eq!(offsets(&server.get_json(PAGE)), [1, 2]);
    // A page of an allowed origin may ask to delete.
    let preflight = [
        "Origin: https://example.com",
        "Access-Control-Request-Method: DELETE",
        "Access-Control-Request-Headers: authorization",
    ];
    let response = server
        .raw()
        .request("OPTIONS", &format!("{PAGE}/1"), &preflight);
    let allowed = response.header("Access-Control-Allow-Methods");
    assert!(
        allowed.is_some_and(|methods| methods.contains("DELETE")),
        "{}",
        response.head
    );
}

// Faults: the server is killed right after each acknowledged deletion.
#[test]
fn deleted_messages_stay_deleted_after_a_kill() {
    let disk = TempDir::new();
    let serve = || disk.serve_with_operator(&["--durability=normal"]);
    let mut server = serve();
    let epoch = publish_up_to(&[&server], 3000);
    for offset in [1500, 3000, 1, 1501] {
        assert_eq!(server.delete(&format!("{PAGE}/{offset}")).status, 200);
        server.end(Signal::KILL);
        server = serve();
        let response = server.delete(&format!("{PAGE}/{offset}"));
        assert_eq!(response.status, 404, "{offset} is back");
        assert!(!resume(&server, offset - 1, &epoch).1);
    }
    let page = server.get_json(&format!("{PAGE}?since=1498&limit=2"));
    assert_eq!(offsets(&page), [1499, 1502]);
    assert_eq!(
        server.total("messages_deleted"),
        0,
        "counted since the start"
    );
    assert_eq!(server.delete(PAGE).json()["deleted"], 2996);
    server.end(Signal::KILL);
    let server = serve();
    assert_eq!(page_of_nothing(&server), 3000);
    assert_eq!(server.publish("ops", SESSION, "next", 1)["offset"], 3001);
    assert_eq!(server.get_json("/stats")["connected_clients"], 0);
}

/// Asserts that `ops` has no messages, and returns its last offset.
fn page_of_nothing(server: &TestServer) -> u64 {
    let page = server.get_json(PAGE);
    assert_eq!(payloads(&page), Vec::<Value>::new());
    page["last"].as_u64().expect("an offset")
}

#[test]
fn ttl_ends_while_the_server_is_down() {
    let disk = TempDir::new();
    let mut server = disk.serve_with_operator(&[]);
    let mut alice = server.client_at("/ws?room=ops");
    for (n, ttl) in [(1, json!(1)), (2, Value::Null), (3, json!(3600))] {
        alice.publish_and_await_ack(
            &json!({"type": "message", "payload": n, "ttl": ttl, "id": n.to_string()}),
        );
    }
    server.end(Signal::KILL);
    let server = disk.serve_with_operator(&[]);
    wait_until("the first message has left", || {
        offsets(&server.get_json(PAGE)) == [2, 3]
    });
    assert_eq!(server.get_json(PAGE)["first"], 2);
    server.wait_for_health(200);
    wait_until("the message is counted", || {
        server.total("messages_expired") == 1
    });
}

/// An operator may have to delete what nobody may read any more.
#[test]
fn deleted_text_is_overwritten_in_the_database() {
    let disk = TempDir::new();
    let mut server = disk.serve_with_operator(&[]);
    for n in 1..=3 {
        let text = format!("secret-{n} ").repeat(2000);
        server.publish("ops", SESSION, &n.to_string(), text);
    }
    assert_eq!(server.delete(&format!("{PAGE}/2")).status, 200);
    server.end(Signal::TERM);
    let file = std::fs::read(disk.path("history.db")).expect("the database");
    let has = |text: &str| file.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(has("secret-1") && has("secret-3"));
    assert!(!has("secret-2"), "the text is still in the file");
}

/// Version 2 had neither ttls nor deletions.
#[test]
fn database_of_an_earlier_version_is_extended() {
    let disk = TempDir::new();
    let mut server = disk.serve_with_operator(&[]);
    publish_up_to(&[&server], 5);
    server.end(Signal::TERM);
    let database = rusqlite::Connection::open(disk.path("history.db")).expect("open");
    database
        .execute_batch(
            "DROP INDEX expiring; DROP TABLE gone; ALTER TABLE messages DROP COLUMN expires;
             PRAGMA user_version = 2;",
        )
        .expect("go back to version 2");
    drop(database);
    let server = disk.serve_with_operator(&[]);
    assert_eq!(offsets(&server.get_json(PAGE)), [1, 2, 3, 4, 5]);
    assert_eq!(server.delete(&format!("{PAGE}/3")).status, 200);
    assert_eq!(
        page(&[&server], "since=0"),
        (vec![1, 2, 4, 5], json!(false))
    );
    server.wait_for_health(200);
}

/// Old messages and rooms are pruned as always, over the offsets that are gone.
#[test]
fn history_with_gone_messages_is_pruned_to_its_limits() {
    let disk = TempDir::new();
    let flags = ["--history-messages=20"];
    for server in [
        TestServer::with_operator(&flags),
        disk.serve_with_operator(&flags),
    ] {
        publish_up_to(&[&server], 20);
        for offset in [3, 5, 4, 19, 20, 18] {
            assert_eq!(server.delete(&format!("{PAGE}/{offset}")).status, 200);
        }
        let mut alice = server.client_at("/ws?room=ops");
        for n in 21..=50 {
            alice.say(n);
            alice.expect(n);
            let page = server.get_json(&format!("{PAGE}?since=0&limit=1000"));
            let kept: Vec<u64> = (1..=n)
                .filter(|n| ![3, 4, 5, 18, 19, 20].contains(n))
                .collect();
            let kept = &kept[kept.len().saturating_sub(20)..];
            assert_eq!(offsets(&page), kept);
            assert_eq!(page["first"], kept[0]);
        }
        assert_eq!(read_whole_history_after(&server, 30).len(), 20);
        assert_eq!(server.get_json("/stats")["history"]["messages"], 20);
        server.wait_for_health(200);
    }
}

fn read_whole_history_after(server: &TestServer, since: u64) -> Vec<u64> {
    let page = RawConnection::connect(server.address()).get(&format!("{PAGE}?since={since}"));
    offsets(&page.json())
}
