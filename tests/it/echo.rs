//! `echo: false`: the publisher gets an acknowledgement in place of its message, and everybody else the message.

use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, ops_with_claims, signed};
use crate::support::{
    RawConnection, Seed, TempDir, TestClient, TestServer, payloads, publish_without_echo, request,
};

const SESSION: &str = "chosen-once-at-random";

fn quiet(payload: impl Into<Value>, id: &str) -> Value {
    json!({"type": "message", "payload": payload.into(), "id": id, "echo": false})
}

fn expect_in_place(client: &mut TestClient, offset: u64) -> Value {
    let ack = client.next_of("ack");
    assert_eq!(ack["payload"]["offset"], offset, "{ack}");
    assert_eq!(ack["payload"]["echo"], false, "{ack}");
    ack
}

#[test]
fn publisher_gets_an_acknowledgement_and_others_the_message() {
    let disk = TempDir::new();
    for server in [TestServer::start(&[]), disk.serve(&[])] {
        let (mut alice, mut bob) = (server.client(), server.client());
        alice.send_json(quiet("hi", "1"));
        assert_eq!(expect_in_place(&mut alice, 1)["id"], "1");
        alice.expect_nothing();
        let message = bob.expect("hi");
        assert_eq!((&message["offset"], message.get("echo")), (&json!(1), None));
        let page = server.get_json("/rooms/lobby/messages");
        assert_eq!(payloads(&page), ["hi"]);
        // The acknowledgement also comes without an id, because nothing else has the offset.
        alice.send_json(json!({"type": "custom_event", "payload": 2, "echo": false}));
        assert_eq!(expect_in_place(&mut alice, 2).get("id"), None);
        alice.send_json(json!({"type": "message", "payload": 3, "echo": true}));
        alice.expect(3);
    }
}

#[test]
fn acknowledgements_keep_their_places_in_a_burst() {
    let disk = TempDir::new();
    for server in [TestServer::start(&[]), disk.serve(&[])] {
        let (mut alice, mut bob) = (server.client(), server.client());
        let mut carol = server.client();
        const COUNT: u64 = 300;
        for n in 0..COUNT {
            match n % 3 {
                0 => alice.say(n),
                1 => alice.send_json(quiet(n, &n.to_string())),
                _ => bob.send_json(quiet(n, &n.to_string())),
            }
        }
        for client in [&mut alice, &mut bob, &mut carol] {
            let mut in_place = 0;
            for offset in 1..=COUNT {
                let frame = client.next();
                let seen = match frame["type"].as_str() {
                    Some("ack") => {
                        in_place += 1;
                        assert_eq!(frame["payload"]["echo"], false);
                        &frame["payload"]["offset"]
                    }
                    _ => &frame["offset"],
                };
                assert_eq!(*seen, offset, "{frame}");
            }
            assert!(in_place == 0 || in_place == COUNT / 3, "{in_place}");
            client.expect_nothing();
        }
    }
}

#[test]
fn resume_gives_the_publisher_its_message_and_a_retry_the_first_offset() {
    let server = TestServer::start(&[]);
    let mut alice = server.client_at(&format!("/ws?session={SESSION}"));
    let epoch = alice.welcome().room("lobby").epoch;
    alice.send_json(quiet("once", "7"));
    expect_in_place(&mut alice, 1);
    alice.close();
    let target = |since| format!("/ws?session={SESSION}&since={since}&epoch={epoch}");
    let mut again = server.client_at(&target(0));
    again.expect("once");
    again.send_json(quiet("once", "7"));
    let ack = again.next_of("ack");
    assert_eq!(
        (&ack["payload"]["offset"], ack["payload"].get("echo")),
        (&json!(1), None)
    );
    again.expect_nothing();
    // A client that counted the acknowledgement has missed nothing.
    let mut after = server.client_at(&target(1));
    assert_eq!(after.welcome().room("lobby").recovered, Some(true));
    after.expect_nothing();
}

#[test]
fn publisher_that_leaves_is_answered_once() {
    let server = TestServer::start(&[]);
    let mut alice = server.client_at("/ws?room=a&room=b");
    for n in 0..50 {
        let mut publish = quiet(n, &n.to_string());
        publish["room"] = json!("b");
        alice.send_json(publish);
        alice.send_json(json!({"type": "leave", "room": "b"}));
        let frames = [alice.next(), alice.next()];
        let acks = frames.iter().filter(|frame| frame["type"] == "ack");
        assert_eq!(acks.count(), 1, "{frames:?}");
        alice.join("b");
    }
    alice.expect_nothing();
}

#[test]
fn http_publish_is_not_delivered_to_the_clients_of_its_session() {
    let server = TestServer::start(&[]);
    let target = format!("/rooms/ops/messages?session={SESSION}");
    let mut alice = server.client_at(&format!("/ws?room=ops&session={SESSION}"));
    let (mut bob, mut carol) = (
        server.client_at("/ws?room=ops"),
        server.client_at("/ws?room=dev"),
    );
    let mut events: RawConnection = server.raw();
    let stream = format!("/rooms/ops/events?session={SESSION}");
    events.send(request("GET", &stream, &[]));
    events.read_until("event: joined");
    let published = server.post(&target, &quiet("hi", "1"));
    assert_eq!(published.status, 201, "{}", published.text());
    // The response has answered the request.
    assert_eq!(expect_in_place(&mut alice, 1).get("id"), None);
    bob.expect("hi");
    carol.expect_nothing();
    let epoch = published.json()["epoch"]
        .as_str()
        .expect("epoch")
        .to_owned();
    let text = events.read_until(&format!("id: {epoch}-1\n\n"));
    assert!(!text.contains("hi"), "{text}");
    let echoed = json!({"type": "message", "payload": "echoed", "id": "2"});
    assert_eq!(server.post(&target, &echoed).status, 201);
    alice.expect("echoed");
    events.read_until("echoed");
    bob.expect("echoed");
}

/// A user who learns the session of another cannot keep a message from that user.
#[test]
fn session_of_another_user_receives_the_message() {
    let server = TestServer::with_tokens(&["--anonymous=both"]);
    let bearer = |user: Value| format!("Authorization: Bearer {}", user_token(user));
    let alice_target = ops_with_claims(json!({"sub": "alice"}));
    let mut alice = server.client_at(&format!("{alice_target}&session={SESSION}"));
    let mut guest = server.client_at(&format!("/ws?room=ops&session={SESSION}"));
    let publishers = [
        (bearer(json!("alice")), [false, true]),
        (bearer(json!("bob")), [true, true]),
        (bearer(json!("Alice")), [true, true]),
        // A backend publishes for any user.
        (bearer(Value::Null), [false, false]),
        ("Accept: */*".to_owned(), [true, false]),
    ];
    for (offset, (line, receives)) in (1_u64..).zip(publishers) {
        let target = format!("/rooms/ops/messages?session={SESSION}");
        let body = quiet(offset, &offset.to_string()).to_string();
        let length = format!("Content-Length: {}", body.len());
        let lines = [line.as_str(), "Content-Type: application/json", &length];
        let mut raw = server.raw();
        raw.send(request("POST", &target, &lines) + &body);
        assert_eq!(raw.response().status, 201, "{line}");
        for (client, receives) in [&mut alice, &mut guest].into_iter().zip(receives) {
            if receives {
                client.expect(offset);
            } else {
                expect_in_place(client, offset);
            }
        }
    }
}

fn user_token(user: Value) -> String {
    signed(SECRET, &claims(json!({"sub": user})))
}

#[test]
fn texts_and_lists_are_published_without_an_echo_too() {
    let server = TestServer::start(&[]);
    let mut alice = server.client_at(&format!("/ws?room=ops&session={SESSION}"));
    let mut bob = server.client_at("/ws?room=ops");
    let target = format!("/rooms/ops/messages?session={SESSION}&echo=false");
    assert_eq!(server.post_as("text/plain", &target, "text").status, 201);
    expect_in_place(&mut alice, 1);
    bob.expect("text");
    let list = json!([
        {"type": "message", "room": "ops", "payload": 2, "echo": false},
        {"type": "message", "room": "ops", "payload": 3},
    ]);
    let results = server.post(&format!("/messages?session={SESSION}"), &list);
    assert_eq!(results.json()["published"], 2, "{}", results.text());
    expect_in_place(&mut alice, 2);
    alice.expect(3);
    (2..=3).for_each(|n| drop(bob.expect(n)));
    let refused = server.post("/messages", &list).json();
    assert_eq!(
        (&refused["published"], &refused["failed"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(refused["results"][0]["error"]["code"], "invalid_field");
    let target = format!("/rooms/ops/messages?session={SESSION}&echo=no");
    assert_eq!(server.post_as("text/plain", &target, "text").status, 400);
}

#[test]
fn wrong_wishes_are_refused() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    for echo in [json!("false"), json!(0), json!([])] {
        alice.send_json(json!({"type": "message", "payload": 1, "echo": echo}));
        assert_eq!(alice.expect_error(), "invalid_field", "{echo}");
    }
    let response = server.post("/rooms/lobby/messages", &quiet("hi", "1"));
    assert_eq!(
        (response.status, response.error_code().as_str()),
        (400, "invalid_field")
    );
    assert!(response.error_message().contains("`session`"));
    alice.expect_nothing();
}

#[test]
fn publishers_without_echo_that_reconnect_get_every_offset_once() {
    for seed in [Seed::fixed(31), Seed::new()] {
        let server = TestServer::start(&["--history-messages=100000", "--log-level=info"]);
        publish_without_echo(&[&server], &seed);
    }
}

#[test]
fn publishers_without_echo_that_reconnect_get_every_offset_once_from_disk() {
    let disk = TempDir::new();
    let server = disk.serve(&["--history-messages=100000", "--log-level=info"]);
    publish_without_echo(&[&server], &Seed::new());
}
