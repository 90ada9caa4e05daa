//! `last`: the newest stored messages follow `joined` or the welcome, before live ones, without a gap or a duplicate.

use std::sync::mpsc;
use std::thread;

use rand::RngExt;
use serde_json::{Value, json};

use crate::support::{Seed, TempDir, TestServer, handshake, request};

/// Publishes the numbers up to `count` to a room, so that each payload is its offset.
fn publish(server: &TestServer, room: &str, count: u64) {
    let mut alice = server.client_at(&format!("/ws?room={room}"));
    for n in 1..=count {
        alice.say(n);
        alice.expect(n);
    }
}

#[test]
fn newest_messages_come_first_from_memory_and_from_disk() {
    let disk = TempDir::new();
    for server in [TestServer::start(&[]), disk.serve(&[])] {
        publish(&server, "ops", 20);
        for (last, offset) in [(1, 19), (5, 15), (20, 0), (21, 0), (1000, 0)] {
            let mut bob = server.client_at(&format!("/ws?room=ops&last={last}"));
            let room = &bob.welcome()["rooms"][0];
            assert_eq!(room["offset"], offset, "{room}");
            assert_eq!(
                (&room["live_after"], &room["recovered"]),
                (&json!(20), &json!(false))
            );
            (offset + 1..=20).for_each(|n| drop(bob.expect(n)));
            bob.expect_nothing();
        }
        let mut bob = server.client();
        bob.send_json(json!({"type": "join", "room": "ops", "last": 3, "id": "j"}));
        let joined = bob.next_of("joined");
        assert_eq!(joined["id"], "j");
        assert_eq!(joined["payload"]["offset"], 17);
        (18..=20).for_each(|n| drop(bob.expect(n)));
        bob.say_in("ops", "live");
        bob.expect("live");
    }
}

#[test]
fn client_that_does_not_ask_is_sent_nothing_new() {
    let server = TestServer::start(&[]);
    publish(&server, "lobby", 3);
    for target in ["/ws", "/ws?last=0", "/ws?room=lobby&last=0"] {
        let mut bob = server.client_at(target);
        let room = &bob.welcome()["rooms"][0];
        assert_eq!(
            (&room["offset"], room.get("live_after")),
            (&json!(3), None),
            "{target}"
        );
        bob.expect_nothing();
    }
}

#[test]
fn last_counts_for_each_room() {
    let server = TestServer::start(&[]);
    publish(&server, "a", 5);
    publish(&server, "b", 9);
    let epoch = server.get_json("/rooms/a/messages")["epoch"].clone();
    let epoch = epoch.as_str().expect("epoch");
    let offsets = |target: &str, count: usize| {
        let mut bob = server.client_at(target);
        let read = |_| {
            let frame = bob.next();
            (
                frame["room"].as_str().expect("room").to_owned(),
                frame["offset"].as_u64(),
            )
        };
        let offsets: Vec<_> = (0..count).map(read).collect();
        bob.expect_nothing();
        offsets
    };
    let in_room = |room: &str, offset| (room.to_owned(), Some(offset));
    let expected = [
        in_room("a", 4),
        in_room("a", 5),
        in_room("b", 8),
        in_room("b", 9),
    ];
    assert_eq!(offsets("/ws?room=a&room=b&room=c&last=2", 4), expected);
    // A room that resumes is sent what it missed.
    let target = format!("/ws?room=b&since=5&epoch={epoch}&room=a&last=1");
    let expected = [6, 7, 8, 9].map(|offset| in_room("b", offset));
    assert_eq!(
        offsets(&target, 5),
        [&expected[..], &[in_room("a", 5)]].concat()
    );
}

#[test]
fn since_wins_if_it_can_be_recovered() {
    let server = TestServer::start(&["--history-messages=10"]);
    publish(&server, "lobby", 20);
    let epoch = server.get_json("/rooms/lobby/messages")["epoch"].clone();
    let epoch = epoch.as_str().expect("epoch");
    for (target, recovered, offset) in [
        (format!("/ws?since=18&epoch={epoch}&last=5"), true, 18),
        (format!("/ws?since=20&epoch={epoch}&last=5"), true, 20),
        (format!("/ws?since=10&epoch={epoch}&last=5"), true, 10),
        (format!("/ws?since=9&epoch={epoch}&last=5"), false, 15),
        (
            "/ws?since=19&epoch=00000000deadbeef&last=5".to_owned(),
            false,
            15,
        ),
        (format!("/ws?since=99&epoch={epoch}&last=5"), false, 15),
        (format!("/ws?since=99&epoch={epoch}"), false, 20),
    ] {
        let mut bob = server.client_at(&target);
        let room = bob.welcome().room("lobby");
        assert_eq!(
            (room.recovered, room.offset),
            (Some(recovered), offset),
            "{target}"
        );
        (offset + 1..=20).for_each(|n| drop(bob.expect(n)));
        bob.expect_nothing();
    }
    let mut bob = server.client_at("/ws?room=other");
    bob.send_json(json!({"type": "join", "room": "lobby", "since": 2, "last": 4}));
    let joined = bob.next_of("joined");
    assert_eq!(
        (
            &joined["payload"]["recovered"],
            &joined["payload"]["offset"]
        ),
        (&json!(false), &json!(16))
    );
    (17..=20).for_each(|n| drop(bob.expect(n)));
    bob.expect_nothing();
}

#[test]
fn newest_messages_are_as_many_as_fit_into_a_page() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    for _ in 0..30 {
        alice.say("x".repeat(16_000));
        alice.next_of("message");
    }
    let mut bob = server.client_at("/ws?last=1000");
    for offset in 15..=30 {
        assert_eq!(bob.next()["offset"], offset);
    }
    bob.expect_nothing();
}

#[test]
fn wrong_numbers_are_refused() {
    let server = TestServer::start(&[]);
    for last in [
        "1001",
        "-1",
        "x",
        "",
        "1.5",
        "99999999999999999999",
        "5&last=6",
    ] {
        let head = handshake(&format!("/ws?room=a&last={last}"));
        let response = server.refused_handshake(head);
        assert_eq!(
            (response.status, response.error_code().as_str()),
            (400, "invalid_field"),
            "{last}"
        );
        assert!(response.error_message().contains("`last`"), "{last}");
    }
    let mut alice = server.client();
    for last in [json!(1001), json!(-1), json!("5"), json!(1.5), json!([])] {
        alice.send_json(json!({"type": "join", "room": "a", "last": last}));
        assert_eq!(alice.expect_error(), "invalid_field", "{last}");
    }
    let response = server.raw().get("/rooms/a/events?last=1001");
    assert_eq!(
        (response.status, response.error_code().as_str()),
        (400, "invalid_field")
    );
}

#[test]
fn event_stream_starts_with_the_newest_unless_it_resumes() {
    let server = TestServer::start(&["--history-messages=10"]);
    publish(&server, "ops", 20);
    let epoch = server.get_json("/rooms/ops/messages")["epoch"].clone();
    let epoch = epoch.as_str().expect("epoch");
    for (target, first) in [
        ("/rooms/ops/events?last=2".to_owned(), 19),
        (
            "/rooms/ops/events?last=2&last_event_id=unknown".to_owned(),
            19,
        ),
        (
            format!("/rooms/ops/events?last=2&last_event_id={epoch}-3"),
            19,
        ),
        (
            format!("/rooms/ops/events?last=2&last_event_id={epoch}-15"),
            16,
        ),
        ("/rooms/ops/events?last=2&last_event_id=0".to_owned(), 11),
    ] {
        let mut raw = server.raw();
        raw.send(request("GET", &target, &[]));
        assert_eq!(raw.response().status, 200, "{target}");
        let text = raw.read_until(&format!("id: {epoch}-20\ndata: "));
        let messages: Vec<&str> = text.split("\ndata: {\"type\"").collect();
        assert!(
            messages[0].ends_with(&format!("id: {epoch}-{first}")),
            "{target}: {text}"
        );
        let joined = messages[0]
            .split("event: joined\ndata: ")
            .nth(1)
            .expect("joined");
        let joined: Value =
            serde_json::from_str(joined.lines().next().expect("a line")).expect("JSON");
        assert_eq!(joined["offset"], first - 1, "{joined}");
    }
}

// Actors: a publisher, and clients that join with `last`.
// Faults: history is as short as `last` may be long, so that it changes while it is read. While a client is held, fewer
// messages are published than history keeps.
// Invariants: nobody is closed; offsets up to `live_after` rise, and later ones grow by one.
#[test]
fn client_that_joins_a_flooded_room_is_neither_closed_nor_sent_a_message_twice() {
    const WHILE_JOINING: u64 = 600;
    const AFTER_JOINING: u64 = 30;
    let seed = Seed::new();
    let mut rng = seed.rng();
    let server = TestServer::start(&["--history-messages=1000"]);
    publish(&server, "lobby", 1000);
    let mut published = 1000;
    let (ask, asked) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let asked = asked;
            let mut alice = server.client();
            for _ in asked.iter().flat_map(|messages: u64| 0..messages / 10) {
                (0..10).for_each(|n| alice.say(n));
                (0..10).for_each(|_| drop(alice.next_of("message")));
            }
        });
        // Moved here, so that a failure ends the publisher as well.
        let ask = ask;
        for _ in 0..60 {
            let last = rng.random_range(1..=1000);
            ask.send(WHILE_JOINING).expect("publisher");
            let mut bob = server.client_at(&format!("/ws?last={last}"));
            ask.send(AFTER_JOINING).expect("publisher");
            published += WHILE_JOINING + AFTER_JOINING;
            let room = bob.welcome()["rooms"][0].clone();
            let live_after = room["live_after"].as_u64().expect("live_after");
            let mut offset = room["offset"].as_u64().expect("offset");
            assert!(live_after - offset <= last, "{room}");
            while offset < published {
                let next = bob.next_offset();
                let is_next = next == offset + 1 || (next > offset && next <= live_after + 1);
                assert!(is_next, "{next} after {offset} in {room}");
                offset = next;
            }
        }
    });
}
