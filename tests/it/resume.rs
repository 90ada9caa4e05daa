//! A client that resumes receives every missed message once, or `recovered: false` if some are no longer stored.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use crate::support::{Seed, StopOnDrop, TempDir, TestServer, read_while_reconnecting};

#[test]
fn readers_that_reconnect_get_everything_once() {
    for seed in [Seed::fixed(17), Seed::new()] {
        let server = TestServer::start(&["--history-messages", "100000", "--log-level", "info"]);
        read_while_reconnecting(&[&server], &seed);
    }
}

#[test]
fn readers_that_reconnect_get_everything_once_from_disk() {
    for seed in [Seed::fixed(18), Seed::new()] {
        let disk = TempDir::new();
        let server = disk.serve(&["--history-messages", "100000", "--log-level", "info"]);
        read_while_reconnecting(&[&server], &seed);
    }
}

#[test]
fn member_without_any_message_can_resume() {
    let server = TestServer::start(&[]);
    let room = server.client().welcome().room("lobby");
    assert_eq!(room.offset, 0);
    let mut alice = server.client();
    alice.say("while you were away");
    alice.expect("while you were away");
    let target = format!("/ws?since=0&epoch={}", room.epoch);
    let mut bob = server.client_at(&target);
    assert_eq!(bob.welcome().room("lobby").recovered, Some(true));
    bob.expect("while you were away");
    alice.say("and now live");
    bob.expect("and now live");
}

#[test]
fn gap_that_history_no_longer_holds_is_reported() {
    let server = TestServer::start(&["--history-messages", "10"]);
    let mut alice = server.client();
    let epoch = alice.welcome().room("lobby").epoch;
    for n in 1..=20 {
        alice.say(n);
        alice.expect(n);
    }
    for (target, recovered, offset) in [
        (format!("/ws?since=9&epoch={epoch}"), false, 20),
        (format!("/ws?since=10&epoch={epoch}"), true, 10),
        (format!("/ws?since=20&epoch={epoch}"), true, 20),
        (format!("/ws?since=21&epoch={epoch}"), false, 20),
        ("/ws?since=15&epoch=00000000deadbeef".to_owned(), false, 20),
        ("/ws?since=15".to_owned(), true, 15),
    ] {
        let mut bob = server.client_at(&target);
        let room = bob.welcome().room("lobby");
        assert_eq!(room.recovered, Some(recovered), "{target}: {room:?}");
        assert_eq!(room.offset, offset, "{target}: {room:?}");
        for n in offset + 1..=20 {
            bob.expect(n);
        }
        bob.expect_nothing();
    }
}

#[test]
fn join_with_since_replays_the_gap_before_live_messages() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob) = (server.client_at("/ws?room=ops"), server.client());
    for n in 1..=5 {
        alice.say(n);
        alice.expect(n);
    }
    bob.send_json(json!({"type": "join", "room": "ops", "since": 2, "id": "j"}));
    let joined = bob.next_of("joined");
    assert_eq!(
        (&joined["id"], &joined["payload"]["recovered"]),
        (&json!("j"), &json!(true))
    );
    (3..=5).for_each(|n| drop(bob.expect(n)));
    alice.say(6);
    bob.expect(6);
    bob.leave("ops");
    bob.send_json(json!({"type": "join", "room": "ops", "since": 99}));
    assert_eq!(bob.next_of("joined")["payload"]["recovered"], false);
}

#[test]
fn several_rooms_resume_with_their_own_positions() {
    let server = TestServer::start(&[]);
    let mut alice = server.client_at("/ws?room=a&room=b");
    for n in 1..=4 {
        alice.say_in("a", n);
        alice.say_in("b", n * 10);
        alice.expect(n);
        alice.expect(n * 10);
    }
    let epoch = |room: &str| alice.welcome().room(room).epoch;
    let target = format!(
        "/ws?room=a&since=3&epoch={}&room=b&since=2&epoch={}",
        epoch("a"),
        epoch("b")
    );
    let mut bob = server.client_at(&target);
    for payload in [4, 30, 40] {
        bob.expect(payload);
    }
    bob.expect_nothing();
}

/// The gap is far larger than the outbox: only the reader's own thread waits for the reader.
#[test]
fn gap_larger_than_the_outbox_is_replayed_at_the_clients_pace() {
    let server = TestServer::start(&[
        "--outbox-bytes=80KiB",
        "--history-messages=100000",
        "--history-bytes=64MiB",
        "--log-level=info",
    ]);
    let mut alice = server.client();
    let filler = "x".repeat(10_000);
    const MESSAGES: u64 = 600;
    for _ in 0..MESSAGES {
        alice.say(filler.as_str());
        alice.next_of("message");
    }
    let mut bob = server.client_at("/ws?since=0");
    let stop = AtomicBool::new(false);
    let published = thread::scope(|scope| {
        // The publisher ends also when an assertion fails.
        let _stop = StopOnDrop(&stop);
        let publisher = scope.spawn(|| {
            let mut published = 0u64;
            while !stop.load(Ordering::Relaxed) {
                alice.say("live");
                alice.expect("live");
                published += 1;
            }
            published
        });
        for offset in 1..=MESSAGES {
            assert_eq!(bob.next()["offset"], offset);
        }
        stop.store(true, Ordering::Relaxed);
        publisher.join().expect("the publisher failed")
    });
    for offset in MESSAGES + 1..=MESSAGES + published {
        assert_eq!(bob.next()["offset"], offset);
    }
    bob.expect_nothing();
    assert_eq!(server.stats()["totals"]["slow_consumers_evicted"], 0);
}

#[test]
fn repeated_id_is_acknowledged_with_its_first_offset_and_published_once() {
    let server = TestServer::start(&[]);
    let session = "/ws?session=a-session-chosen-at-random";
    let mut reader = server.client();
    let mut alice = server.client_at(session);
    let publish = json!({"type": "message", "payload": "once", "id": "7"});
    let first = alice.publish_and_await_ack(&publish);
    assert_eq!(alice.publish_and_await_ack(&publish), first);
    alice.close();
    let mut again = server.client_at(session);
    assert_eq!(again.publish_and_await_ack(&publish), first);
    // The same id of another client is another message.
    let mut bob = server.client();
    assert_eq!(bob.publish_and_await_ack(&publish), first + 1);
    reader.expect("once");
    reader.expect("once");
    reader.expect_nothing();
}
