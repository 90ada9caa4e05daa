//! Clients that are silent are asked, and those that do not answer are gone for everyone.

use serde_json::json;

use crate::support::{RawConnection, TestServer, eventually, frame, said};

const TEXT: u8 = 0x1;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// A server that asks soon and does not wait long.
const IMPATIENT: [&str; 4] = ["--ping-interval", "0.2", "--pong-timeout", "0.2"];
/// A server that asks soon and waits for long, also on a busy machine.
const CURIOUS: [&str; 4] = ["--ping-interval", "0.1", "--pong-timeout", "15"];

fn entered(server: &TestServer) -> RawConnection {
    let mut raw = server.raw();
    raw.enter("/ws");
    raw
}

/// The next frame must be a Ping from the server.
fn expect_ping(client: &mut RawConnection) {
    let ping = client.frame().expect("a ping, not the end");
    assert_eq!(ping.opcode, PING, "{ping:?}");
}

/// All that can be asked says that this many clients are there.
fn wait_until_only(server: &TestServer, clients: u64) {
    eventually("the silent are gone", || {
        let health = server.get_json("/health");
        (health["connected_clients"] == clients).then_some(())
    });
    eventually("the silent are gone from the rooms", || {
        let rooms = server.get_json("/rooms");
        let members = rooms["rooms"][0]["members"].as_u64().unwrap_or_default();
        (members == clients).then_some(())
    });
}

#[test]
fn who_never_answers_is_gone() {
    let server = TestServer::start(&IMPATIENT);
    let mut silent = entered(&server);
    expect_ping(&mut silent);
    assert_eq!(silent.close_code(), 1001);
    wait_until_only(&server, 0);
    assert_eq!(server.total("silent_clients_closed"), 1);
}

#[test]
fn who_vanished_without_a_word_is_gone_for_those_who_watch() {
    let server = TestServer::start(&["--ping-interval", "0.5", "--pong-timeout", "3"]);
    let mut watcher = server.client();
    watcher.send(json!({"type": "join", "room": "lobby", "presence": true}));
    let _vanished = entered(&server);
    let mut most = 0;
    // Reading answers the pings, so the watcher itself is heard.
    loop {
        let frame = watcher.next();
        let members = frame["payload"]["members"].as_u64().expect("a number");
        if most == 2 && members == 1 && frame["type"] == "presence" {
            break;
        }
        most = most.max(members);
    }
    assert_eq!(server.total("silent_clients_closed"), 1);
}

#[test]
fn who_vanished_with_much_under_way_is_gone_too() {
    let server = TestServer::start(&[
        "--ping-interval",
        "3",
        "--pong-timeout",
        "2",
        "--slow-timeout",
        "3600",
        "--outbox-bytes",
        "64MiB",
    ]);
    let mut alice = entered(&server);
    let _vanished = entered(&server);
    let words = said(&"x".repeat(32 * 1024));
    eventually("the way to it is full", || {
        alice.send(&words);
        alice.next_offset();
        (server.lagging_clients() == 1).then_some(())
    });
    eventually("it is gone", || {
        alice.say("still here");
        alice.next_offset();
        (server.connected_clients() == 1).then_some(())
    });
    assert_eq!(server.total("silent_clients_closed"), 1);
    eventually("nothing is sent to it any more", || {
        alice.say("still here");
        alice.next_offset();
        (server.lagging_clients() == 0).then_some(())
    });
}

#[test]
fn who_answers_stays() {
    let server = TestServer::start(&CURIOUS);
    let mut alice = entered(&server);
    for _ in 0..8 {
        expect_ping(&mut alice);
        alice.send_frame(true, PONG, b"");
    }
    alice.say("still here");
    while alice.frame().expect("a frame").opcode != TEXT {}
    assert_eq!(server.connected_clients(), 1);
    assert_eq!(server.total("silent_clients_closed"), 0);
}

#[test]
fn whoever_speaks_needs_no_pong() {
    let server = TestServer::start(&CURIOUS);
    let mut alice = entered(&server);
    for n in 0..4_u64 {
        expect_ping(&mut alice);
        alice.say("I am here");
        assert_eq!(alice.next_offset(), n + 1);
    }
    assert_eq!(server.connected_clients(), 1);
}

#[test]
fn who_is_in_the_middle_of_a_long_message_was_heard() {
    let server = TestServer::start(&["--ping-interval", "0.3", "--pong-timeout", "0.6"]);
    let mut alice = entered(&server);
    let words = said("slowly");
    let (first, rest) = words.split_at(words.len() / 2);
    expect_ping(&mut alice);
    alice.send(first);
    // Silent again: that must be asked anew, as the last ping was answered by what came.
    expect_ping(&mut alice);
    alice.send(rest);
    assert_eq!(alice.next()["payload"], "slowly");
}

#[test]
fn a_request_to_ping_is_answered_with_its_id() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    alice.send(json!({"type": "ping", "id": "42"}));
    assert_eq!(
        alice.next(),
        json!({"type": "pong", "payload": {}, "id": "42"})
    );
    alice.send(json!({"type": "ping"}));
    assert_eq!(alice.next(), json!({"type": "pong", "payload": {}}));
}

#[test]
fn a_pong_carries_what_the_ping_did() {
    let server = TestServer::start(&[]);
    let mut alice = entered(&server);
    alice.send(frame(true, PING, b"are you there?"));
    let pong = alice.frame().expect("a pong");
    assert_eq!(
        (pong.opcode, &pong.payload[..]),
        (PONG, &b"are you there?"[..])
    );
}
