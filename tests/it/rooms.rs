//! Rooms: members receive messages from their join position on, and other clients receive none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::support::{StopOnDrop, TestClient, TestServer, wait_until};

/// Messages that a publisher at full speed has in flight.
const WINDOW: usize = 20;

/// The offset in `joined` or in a message.
fn offset(fields: &Value) -> u64 {
    fields["offset"].as_u64().expect("an offset")
}

/// Publishes to `ops` until `stop` is set.
fn publish_at_full_speed(server: &TestServer, stop: &AtomicBool) {
    let mut publisher = server.client_at("/ws?room=ops");
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..WINDOW {
            publisher.say("tick");
        }
        for _ in 0..WINDOW {
            publisher.expect("tick");
        }
    }
}

/// Asserts that the next `count` messages have the offsets after `after`.
fn expect_offsets(client: &mut TestClient, after: u64, count: u64) {
    for expected in after + 1..=after + count {
        let message = client.next_of("message");
        assert_eq!(offset(&message), expected, "{message}");
    }
}

#[test]
fn messages_reach_members_until_they_leave() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob, mut carol) = (server.client(), server.client(), server.client());
    assert_eq!(alice.join("ops")["members"], 1);
    assert_eq!(bob.join("ops")["members"], 2);
    alice.say_in("ops", "for ops");
    for member in [&mut alice, &mut bob] {
        assert_eq!(member.expect("for ops")["room"], "ops");
    }
    carol.expect_nothing();

    bob.leave("ops");
    alice.say_in("ops", "bob is gone");
    alice.expect("bob is gone");
    bob.expect_nothing();

    alice.say_in("lobby", "for all");
    for client in [&mut alice, &mut bob, &mut carol] {
        assert_eq!(client.expect("for all")["room"], "lobby");
    }
}

#[test]
fn each_room_has_its_own_offsets() {
    let server = TestServer::start(&[]);
    let mut alice = server.client_at("/ws?room=red&room=blue");
    for (room, expected) in [("red", 1), ("red", 2), ("blue", 1), ("red", 3), ("blue", 2)] {
        alice.say_in(room, room);
        let message = alice.expect(room);
        assert_eq!(
            (&message["room"], offset(&message)),
            (&json!(room), expected)
        );
    }
}

#[test]
fn query_names_the_rooms_and_the_first_is_the_default() {
    let server = TestServer::start(&[]);
    let mut alice = server.client_at("/ws?room=red&room=blue&room=red");
    let rooms = alice.welcome()["rooms"].as_array().expect("rooms").clone();
    let names: Vec<_> = rooms.iter().map(|room| room["room"].clone()).collect();
    assert_eq!(names, ["red", "blue"]);

    alice.say("to the first");
    assert_eq!(alice.expect("to the first")["room"], "red");
    alice.say_in("blue", "to the second");
    assert_eq!(alice.expect("to the second")["room"], "blue");
    alice.send_json(json!({"type": "message", "room": "lobby", "payload": 1}));
    assert_eq!(alice.expect_error(), "not_in_room");

    alice.join("green");
    alice.leave("red");
    alice.say("red is left");
    assert_eq!(alice.expect("red is left")["room"], "blue");
}

#[test]
fn client_that_names_no_room_joins_the_lobby() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    assert_eq!(alice.welcome().rooms()[0].room, "lobby");
    alice.join("ops");
    alice.say("hi");
    assert_eq!(alice.expect("hi")["room"], "lobby");
}

#[test]
fn client_that_left_its_last_room_cannot_publish() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    alice.leave("lobby");
    alice.send_json(json!({"type": "message", "payload": "hi", "id": "1"}));
    let error = alice.next_of("error");
    assert_eq!(
        (&error["payload"]["code"], &error["id"]),
        (&json!("not_in_room"), &json!("1"))
    );

    alice.join("ops");
    alice.say("here");
    assert_eq!(alice.expect("here")["room"], "ops");
}

#[test]
fn member_joins_after_earlier_messages() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob) = (server.client_at("/ws?room=ops"), server.client());
    for text in ["one", "two", "three"] {
        alice.say(text);
        alice.expect(text);
    }
    assert_eq!(offset(&bob.join("ops")), 3);
    let carol = server.client_at("/ws?room=ops");
    assert_eq!(carol.welcome().room("ops").offset, 3);
    alice.say("four");
    for mut client in [bob, carol] {
        assert_eq!(offset(&client.expect("four")), 4);
    }
}

#[test]
fn member_that_joins_a_busy_room_misses_nothing_afterwards() {
    let server = TestServer::start(&[]);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| publish_at_full_speed(&server, &stop));

        let mut bob = server.client();
        for _ in 0..30 {
            let joined = bob.join("ops");
            expect_offsets(&mut bob, offset(&joined), 25);
            // Messages may come before `left`, but none after it.
            bob.send_json(json!({"type": "leave", "room": "ops"}));
            let mut last = offset(&joined) + 25;
            loop {
                let frame = bob.next();
                if frame["type"] == "left" {
                    break;
                }
                last += 1;
                assert_eq!(offset(&frame), last, "{frame}");
            }
            bob.expect_nothing();
        }
        for _ in 0..30 {
            let mut carol = server.client_at("/ws?room=ops");
            let joined = carol.welcome().room("ops").offset;
            expect_offsets(&mut carol, joined, 25);
        }
    });
}

#[test]
fn joining_twice_counts_once() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    for _ in 0..3 {
        assert_eq!(alice.join("ops")["members"], 1);
    }
    alice.say_in("ops", "once");
    alice.expect("once");
    alice.expect_nothing();
    alice.leave("ops");
    alice.say_in("ops", "not in");
    assert_eq!(alice.expect_error(), "not_in_room");
}

#[test]
fn replies_return_the_requests_id() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    for (request, reply) in [
        ("join", "joined"),
        ("presence", "presence"),
        ("leave", "left"),
    ] {
        alice.send_json(json!({"type": request, "room": "ops", "id": request}));
        let frame = alice.next_of(reply);
        assert_eq!(
            (&frame["room"], &frame["id"]),
            (&json!("ops"), &json!(request)),
            "{frame}"
        );
    }
}

#[test]
fn room_names_of_every_script_work() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob) = (
        server.client(),
        server.client_at("/ws?room=%E6%88%BF%E9%97%B4"),
    );
    assert_eq!(bob.welcome().rooms()[0].room, "房间");
    let widest = "𠀀".repeat(64);
    for room in ["房间", "Ελλάδα", "a.b_c-d:e", "٣", &*widest] {
        alice.join(room);
        alice.say_in(room, "hi");
        assert_eq!(alice.expect("hi")["room"], room);
    }
    assert_eq!(bob.expect("hi")["room"], "房间");
    // Names are compared byte for byte: these two only look alike.
    assert_eq!(alice.join("é")["members"], 1);
    assert_eq!(bob.join("e")["members"], 1);
}

#[test]
fn member_that_disconnects_leaves_its_rooms() {
    let server = TestServer::start(&[]);
    let mut alice = server.client_at("/ws?room=ops&room=red");
    let bob = server.client_at("/ws?room=ops&room=red");
    assert_eq!(server.members("ops"), 2);
    drop(bob);
    wait_until("bob is out of both rooms", || {
        server.members("ops") == 1 && server.members("red") == 1
    });
    alice.say("alone");
    alice.expect("alone");
}

#[test]
fn emptied_room_keeps_its_numbering() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    let first = alice.join("ops");
    alice.say_in("ops", "remembered");
    alice.expect("remembered");
    alice.leave("ops");
    let again = alice.join("ops");
    assert_eq!(again["epoch"], first["epoch"]);
    assert_eq!(offset(&again), 1);
}

#[test]
fn emptied_room_is_forgotten_with_its_history() {
    let server = TestServer::start(&["--history-age", "0.2"]);
    let mut alice = server.client();
    let first = alice.join("ops");
    alice.say_in("ops", "soon forgotten");
    alice.expect("soon forgotten");
    alice.leave("ops");
    let mut http = server.raw();
    wait_until("the room is forgotten", || {
        http.get("/rooms/ops").status == 404
    });
    assert_eq!(
        server.stats()["history"],
        json!({"messages": 0, "bytes": 0, "messages_pruned": 1})
    );

    let again = alice.join("ops");
    assert_ne!(again["epoch"], first["epoch"], "numbering restarted");
    assert_eq!(offset(&again), 0);
    alice.say_in("ops", "anew");
    assert_eq!(offset(&alice.expect("anew")), 1);
}

#[test]
fn room_with_members_keeps_its_numbering_when_its_history_expires() {
    let server = TestServer::start(&["--history-age", "0.2"]);
    let mut alice = server.client();
    alice.say("one");
    alice.expect("one");
    wait_until("the history expires", || {
        server.stats()["history"]["messages"] == 0
    });
    alice.say("two");
    assert_eq!(offset(&alice.expect("two")), 2);
    let bob = server.client();
    assert_eq!(
        bob.welcome().room("lobby").epoch,
        alice.welcome().room("lobby").epoch
    );
}
