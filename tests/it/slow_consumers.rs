//! Slow consumers: they cost bounded memory and no other client anything, and lose nothing if they catch up in time.

use std::thread;

use serde_json::json;

use crate::support::{
    PING, TEXT, TIMEOUT, TestClient, TestServer, frame, message_frame, wait_until,
};

/// The length of a message's text. Such messages soon fill the kernel's buffers.
const TEXT_BYTES: usize = 16 * 1024;

/// Far more than the kernel's buffers of one connection hold.
const FLOOD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The smallest outbox allowed, so that few messages fill it.
const SMALL_OUTBOX: [&str; 4] = ["--max-message-bytes", "32KiB", "--outbox-bytes", "33KiB"];

/// Publishes and receives its own messages until `condition` holds; returns the last offset.
fn publish_until(
    publisher: &mut TestClient,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> u64 {
    let message = message_frame(&"x".repeat(TEXT_BYTES));
    for _ in 0..FLOOD_BYTES_MAX / TEXT_BYTES {
        publisher.send(&message);
        let offset = publisher.next_offset();
        if condition() {
            return offset;
        }
    }
    panic!("the limit of bytes was reached before: {what}");
}

/// Publishes until one client lags.
fn publish_until_one_lags(server: &TestServer, publisher: &mut TestClient) -> u64 {
    publish_until(publisher, "the kernel's buffers are full", || {
        server.lagging_clients() == 1
    })
}

fn publish_until_one_is_evicted(server: &TestServer, publisher: &mut TestClient) -> u64 {
    publish_until(publisher, "an eviction", || {
        server.total("slow_consumers_evicted") == 1
    })
}

fn publish_and_expect(client: &mut TestClient, offset: u64) {
    client.say("still here");
    assert_eq!(client.next_offset(), offset);
}

fn wait_until_none_lags(server: &TestServer) {
    wait_until("no client lags", || server.lagging_clients() == 0);
}

#[test]
fn slow_consumer_is_evicted_and_others_lose_nothing() {
    let server = TestServer::start(&SMALL_OUTBOX);
    let (mut alice, _stalled, mut bob) = (
        server.passive_client("/ws"),
        server.passive_client("/ws"),
        server.passive_client("/ws"),
    );
    let mut received = 0;
    let last = publish_until(&mut alice, "an eviction", || {
        received += 1;
        assert_eq!(bob.next_offset(), received);
        server.total("slow_consumers_evicted") == 1
    });
    wait_until_none_lags(&server);
    server.wait_for_clients(2);
    publish_and_expect(&mut alice, last + 1);
    assert_eq!(bob.next_offset(), last + 1);
    assert_eq!(server.total("slow_consumers_evicted"), 1);
}

#[test]
fn client_that_reads_nothing_for_too_long_is_evicted() {
    let server = TestServer::start(&["--slow-timeout", "0.2"]);
    let (mut alice, _stalled) = (server.passive_client("/ws"), server.passive_client("/ws"));
    let last = publish_until(&mut alice, "the kernel's buffers are full", || {
        server.lagging_clients() == 1 || server.total("slow_consumers_evicted") == 1
    });
    wait_until("an eviction", || {
        server.total("slow_consumers_evicted") == 1
    });
    wait_until_none_lags(&server);
    server.wait_for_clients(1);
    publish_and_expect(&mut alice, last + 1);
}

#[test]
fn evicted_client_that_reads_again_gets_close_code_4100() {
    let server = TestServer::start(&SMALL_OUTBOX);
    let (mut alice, mut slow) = (server.passive_client("/ws"), server.passive_client("/ws"));
    publish_until_one_is_evicted(&server, &mut alice);
    assert_eq!(slow.close_code_after_offset(0), 4100);
    wait_until_none_lags(&server);
}

#[test]
fn evicted_client_is_disconnected_soon_despite_long_timeouts() {
    let mut args = SMALL_OUTBOX.to_vec();
    args.extend(["--slow-timeout", "3600", "--ping-interval", "3600"]);
    let server = TestServer::start(&args);
    let (mut alice, _stalled) = (server.passive_client("/ws"), server.passive_client("/ws"));
    publish_until_one_is_evicted(&server, &mut alice);
    wait_until_none_lags(&server);
    server.wait_for_clients(1);
}

#[test]
fn evicted_client_that_does_not_close_is_disconnected() {
    let mut args = SMALL_OUTBOX.to_vec();
    args.extend(["--ping-interval", "3600"]);
    let server = TestServer::start(&args);
    let (mut alice, mut slow) = (server.passive_client("/ws"), server.passive_client("/ws"));
    publish_until_one_is_evicted(&server, &mut alice);
    assert_eq!(slow.close_code_after_offset(0), 4100);
    server.wait_for_clients(1);
}

#[test]
fn evicted_client_that_keeps_sending_is_disconnected() {
    let server = TestServer::start(&SMALL_OUTBOX);
    let (mut alice, mut slow) = (server.passive_client("/ws"), server.passive_client("/ws"));
    publish_until_one_is_evicted(&server, &mut alice);
    wait_until("the client is disconnected", || {
        let ping = frame(true, PING, b"I am still here");
        !slow.try_send(ping)
    });
    server.wait_for_clients(1);
}

#[test]
fn client_that_catches_up_gets_everything_in_order() {
    let server = TestServer::start(&["--slow-timeout", "60"]);
    let (mut alice, mut slow) = (server.passive_client("/ws"), server.passive_client("/ws"));
    let mut last = publish_until_one_lags(&server, &mut alice);
    // These messages are queued in the outbox.
    for _ in 0..20 {
        last += 1;
        publish_and_expect(&mut alice, last);
    }
    for offset in 1..=last {
        assert_eq!(slow.next_offset(), offset);
    }
    wait_until_none_lags(&server);
    publish_and_expect(&mut alice, last + 1);
    assert_eq!(slow.next_offset(), last + 1);
    assert_eq!(server.total("slow_consumers_evicted"), 0);
    assert_eq!(server.connected_clients(), 2);
}

#[test]
fn slow_consumer_can_still_publish() {
    let server = TestServer::start(&["--slow-timeout", "60"]);
    let (mut alice, mut slow) = (server.passive_client("/ws"), server.passive_client("/ws"));
    let last = publish_until_one_lags(&server, &mut alice);
    slow.say("I am behind");
    assert_eq!(alice.next()["payload"], "I am behind");
    for offset in 1..=last {
        assert_eq!(slow.next_offset(), offset);
    }
    assert_eq!(slow.next()["payload"], "I am behind");
}

/// Sends the same request again and again, never reads a reply, and is evicted.
fn flood_until_evicted(server: &TestServer, alice: &mut TestClient, request: &[u8]) {
    let mut flood = server.passive_client("/ws");
    flood
        .socket
        .set_write_timeout(Some(TIMEOUT))
        .expect("time-out");
    publish_until_one_lags(server, alice);
    let segment = request.repeat(16 * 1024 / request.len());
    let evicted = server.total("slow_consumers_evicted");
    let mut sent = 0;
    while server.total("slow_consumers_evicted") == evicted {
        flood.try_send(&segment);
        sent += segment.len();
        assert!(sent < FLOOD_BYTES_MAX, "never evicted");
    }
}

#[test]
fn client_that_never_reads_replies_is_evicted_within_bounded_memory() {
    const RSS_GROWTH_KIB_MAX: u64 = 24 * 1024;
    let server = TestServer::start(&["--slow-timeout", "3600"]);
    let mut alice = server.passive_client("/ws");
    let before = server.rss_kib();
    for request in [
        frame(true, PING, &[b'x'; 125]),
        frame(true, PING, b""),
        frame(true, TEXT, br#"{"type":"ping"}"#),
        frame(true, TEXT, br#"{"type":"presence","room":"lobby"}"#),
        frame(true, TEXT, b"no JSON"),
    ] {
        flood_until_evicted(&server, &mut alice, &request);
        let growth = server.rss_kib().saturating_sub(before);
        assert!(growth < RSS_GROWTH_KIB_MAX, "grew by {growth} KiB");
        wait_until_none_lags(&server);
        server.wait_for_clients(1);
    }
    alice.say("still here");
    assert_eq!(alice.next()["payload"], "still here");
}

#[test]
fn client_behind_by_a_few_small_messages_is_not_evicted() {
    let server = TestServer::start(&["--slow-timeout", "0.1"]);
    let (mut alice, mut slow) = (server.passive_client("/ws"), server.passive_client("/ws"));
    for offset in 1..=200 {
        publish_and_expect(&mut alice, offset);
    }
    for offset in 1..=200 {
        assert_eq!(slow.next_offset(), offset);
    }
    assert_eq!(server.total("slow_consumers_evicted"), 0);
}

// A single request publishes far more than an outbox and the kernel's buffers hold.
#[test]
fn large_batch_evicts_no_client_that_reads() {
    const ENTRIES: usize = 14;
    let rooms: Vec<String> = (0..32).map(|n| format!("room-{n}")).collect();
    let server = TestServer::start(&SMALL_OUTBOX);
    let target = format!("/ws?room={}", rooms.join("&room="));
    let mut readers: Vec<TestClient> = (0..3).map(|_| server.client_at(&target)).collect();
    let stalled = server.passive_client(&target);
    let entry =
        json!({"type": "message", "rooms": rooms, "payload": "x".repeat(TEXT_BYTES)}).to_string();
    let body = format!("{entry}\n").repeat(ENTRIES);
    thread::scope(|scope| {
        for reader in &mut readers {
            scope.spawn(|| {
                for _ in 0..ENTRIES * rooms.len() {
                    reader.next_offset();
                }
            });
        }
        let response = server.post_as("application/x-ndjson", "/messages", &body);
        assert_eq!(response.json()["published"], ENTRIES * rooms.len());
    });
    drop(stalled);
    assert!(server.total("slow_consumers_evicted") <= 1);
    for reader in &mut readers {
        reader.say_in("room-0", "still here");
    }
}
