//! Heartbeats: silent clients are pinged, and those that do not answer are disconnected.

use serde_json::json;

use crate::support::{
    PING, PONG, RawConnection, TEXT, TestServer, frame, message_frame, wait_until,
};

/// Pings soon and waits a short time for the pong.
const SHORT_TIMEOUT: [&str; 4] = ["--ping-interval", "0.2", "--pong-timeout", "0.2"];
/// Pings soon and waits longer than a busy machine needs.
const LONG_TIMEOUT: [&str; 4] = ["--ping-interval", "0.1", "--pong-timeout", "15"];

/// The next frame must be a Ping from the server.
fn expect_ping(client: &mut RawConnection) {
    let ping = client.frame().expect("a ping");
    assert_eq!(ping.opcode, PING, "{ping:?}");
}

/// Blocks until health and the room both count this many clients.
fn wait_until_left(server: &TestServer, clients: u64) {
    wait_until("the silent are gone", || {
        let health = server.get_json("/health");
        health["connected_clients"] == clients
    });
    wait_until("the silent are gone from the rooms", || {
        let rooms = server.get_json("/rooms");
        let members = rooms["rooms"][0]["members"].as_u64().unwrap_or_default();
        members == clients
    });
}

#[test]
fn client_that_never_answers_a_ping_is_closed() {
    let server = TestServer::start(&SHORT_TIMEOUT);
    let mut silent = server.passive_client("/ws");
    expect_ping(&mut silent);
    assert_eq!(silent.close_code(), 1001);
    wait_until_left(&server, 0);
    assert_eq!(server.total("silent_clients_closed"), 1);
}

#[test]
fn vanished_client_disappears_from_presence() {
    let server = TestServer::start(&["--ping-interval", "0.5", "--pong-timeout", "3"]);
    let mut watcher = server.client();
    watcher.send_json(json!({"type": "join", "room": "lobby", "presence": true}));
    let _vanished = server.passive_client("/ws");
    let mut most = 0;
    // The watcher answers pings as it reads.
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
fn vanished_client_with_a_full_socket_is_disconnected() {
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
    let mut alice = server.passive_client("/ws");
    let _vanished = server.passive_client("/ws");
    let message = message_frame(&"x".repeat(32 * 1024));
    wait_until("the client's socket is full", || {
        alice.send(&message);
        alice.next_offset();
        server.lagging_clients() == 1
    });
    wait_until("the client is disconnected", || {
        alice.say("still here");
        alice.next_offset();
        server.connected_clients() == 1
    });
    assert_eq!(server.total("silent_clients_closed"), 1);
    wait_until("nothing is queued for the client any more", || {
        alice.say("still here");
        alice.next_offset();
        server.lagging_clients() == 0
    });
}

#[test]
fn client_that_answers_pings_stays() {
    let server = TestServer::start(&LONG_TIMEOUT);
    let mut alice = server.passive_client("/ws");
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
fn client_that_publishes_needs_no_pong() {
    let server = TestServer::start(&LONG_TIMEOUT);
    let mut alice = server.passive_client("/ws");
    for n in 0..4_u64 {
        expect_ping(&mut alice);
        alice.say("I am here");
        assert_eq!(alice.next_offset(), n + 1);
    }
    assert_eq!(server.connected_clients(), 1);
}

#[test]
fn client_in_the_middle_of_a_message_counts_as_alive() {
    let server = TestServer::start(&["--ping-interval", "0.3", "--pong-timeout", "0.6"]);
    let mut alice = server.passive_client("/ws");
    let message = message_frame("slowly");
    let (first, rest) = message.split_at(message.len() / 2);
    expect_ping(&mut alice);
    alice.send(first);
    // The half message answered the first ping, so the server must send another one.
    expect_ping(&mut alice);
    alice.send(rest);
    assert_eq!(alice.next()["payload"], "slowly");
}

#[test]
fn ping_request_is_answered_with_its_id() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    alice.send_json(json!({"type": "ping", "id": "42"}));
    assert_eq!(
        alice.next(),
        json!({"type": "pong", "payload": {}, "id": "42"})
    );
    alice.send_json(json!({"type": "ping"}));
    assert_eq!(alice.next(), json!({"type": "pong", "payload": {}}));
}

#[test]
fn pong_frame_carries_the_payload_of_the_ping() {
    let server = TestServer::start(&[]);
    let mut alice = server.passive_client("/ws");
    alice.send(frame(true, PING, b"are you there?"));
    let pong = alice.frame().expect("a pong");
    assert_eq!(
        (pong.opcode, &pong.payload[..]),
        (PONG, &b"are you there?"[..])
    );
}
