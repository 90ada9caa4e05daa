//! Invalid requests: each is refused with a code, a sentence and the request's id, and the connection stays open.

use serde_json::{Value, json};

use crate::support::{BINARY, TestClient, TestServer, wait_until};

/// Sends a request that must be refused and returns the error. Asserts that the connection is still open.
fn send_refused(client: &mut TestClient, text: &str) -> Value {
    client.send_text(text);
    let error = client.next_of("error");
    let sentence = error["payload"]["message"].as_str().expect("a sentence");
    assert!(sentence.split(' ').count() >= 3, "{error}");
    client.expect_nothing();
    error
}

/// Asserts that each of these texts is refused with this code.
fn assert_refused(code: &str, texts: &[&str]) {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    for text in texts {
        let error = send_refused(&mut alice, text);
        assert_eq!(error["payload"]["code"], code, "{text:?}: {error}");
    }
    assert_still_works(&mut alice);
}

fn assert_still_works(client: &mut TestClient) {
    client.say("still here");
    client.expect("still here");
}

/// Returns a message whose payload has nested arrays, so that the whole frame is `depth` deep.
fn nested(depth: usize) -> String {
    let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
    format!(r#"{{"type":"message","payload":{open}{close}}}"#)
}

#[test]
fn text_that_is_not_json_is_refused() {
    let texts = [
        "",
        "hello",
        "{",
        r#"{"type":"message","payload":}"#,
        r#"{"type":"message","payload":"hi"} {}"#,
        r#"{"type":"message","payload":"hi",}"#,
        r#"{'type':'message'}"#,
        r#"{"type":"message","payload":NaN}"#,
        r#"{"type":"message","payload":007}"#,
        "{\"type\":\"message\",\"payload\":\"a\nb\"}",
        r#"{"\ud800":1}"#,
        "\u{feff}\u{feff}{\"type\":\"ping\"}",
    ];
    assert_refused("invalid_json", &texts);
}

#[test]
fn json_that_is_not_an_object_is_refused() {
    let texts = ["[]", r#"["message","hi"]"#, "1", "null", "true", r#""hi""#];
    assert_refused("not_an_object", &texts);
}

#[test]
fn json_nested_too_deep_is_refused() {
    let server = TestServer::start(&["--max-message-bytes", "1MiB", "--outbox-bytes", "2MiB"]);
    let mut alice = server.client();
    let deep = 100_000;
    for text in [
        nested(65),
        nested(deep),
        "[".repeat(deep),
        r#"{"a":"#.repeat(deep),
    ] {
        let error = send_refused(&mut alice, &text);
        assert_eq!(error["payload"]["code"], "too_deep", "{error}");
    }

    alice.send_text(&nested(64));
    assert_eq!(alice.next_of("message")["offset"], 1);
    let brackets = r#"\"[{"#.repeat(100);
    alice.send_text(&format!(r#"{{"type":"message","payload":"{brackets}"}}"#));
    assert_eq!(alice.next_of("message")["offset"], 2);
}

#[test]
fn duplicate_key_is_refused() {
    let texts = [
        r#"{"type":"message","payload":1,"payload":2}"#,
        r#"{"type":"message","type":"message","payload":1}"#,
        r#"{"type":"ping","id":"a","id":"a"}"#,
        r#"{"type":"join","room":"a","room":"b"}"#,
        r#"{"type":"join","room":"a","presence":true,"presence":true}"#,
        r#"{"type":"message","payload":1,"p\u0061yload":2}"#,
        r#"{"type":"message","\u0070ayload":1,"payload":2}"#,
        r#"{"type":"ping","extra":1,"extra":2}"#,
        r#"{"type":"ping","extra":1,"extr\u0061":2}"#,
        r#"{"type":"ping","":1,"":2}"#,
        r#"{"type":"message","payload":1,"payload":null}"#,
    ];
    assert_refused("duplicate_field", &texts);
}

#[test]
fn escaped_keys_are_decoded() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    alice.send_text(r#"{"t\u0079pe":"mess\u0061ge","p\u0061yload":{"a":1,"a":2}}"#);
    assert!(alice.next_text().contains(r#""payload":{"a":1,"a":2},"#));
}

#[test]
fn unknown_fields_are_ignored() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    alice.send_json(
        json!({"type": "message", "payload": "hi", "from": "bob", "offset": 77, "x": [1]}),
    );
    let message = alice.expect("hi");
    assert_eq!(message["from"], alice.id());
    assert_eq!((&message["offset"], message.get("x")), (&json!(1), None));
}

#[test]
fn missing_field_is_refused() {
    let texts = [
        "{}",
        r#"{"payload":"hi"}"#,
        r#"{"type":null,"payload":"hi"}"#,
        r#"{"type":"message"}"#,
        r#"{"type":"custom_event"}"#,
        r#"{"type":"join"}"#,
        r#"{"type":"join","room":null}"#,
        r#"{"type":"leave"}"#,
        r#"{"type":"presence"}"#,
    ];
    assert_refused("missing_field", &texts);
}

#[test]
fn field_of_the_wrong_type_is_refused() {
    let texts = [
        r#"{"type":1,"payload":"hi"}"#,
        r#"{"type":["message"],"payload":"hi"}"#,
        r#"{"type":"message","payload":"hi","room":7}"#,
        r#"{"type":"join","room":{"name":"ops"}}"#,
        r#"{"type":"join","room":"ops","presence":"yes"}"#,
        r#"{"type":"ping","id":7}"#,
        r#"{"type":"ping","id":true}"#,
    ];
    assert_refused("invalid_field", &texts);
}

#[test]
fn unknown_request_type_is_refused() {
    let texts = [
        r#"{"type":"shout","payload":"hi"}"#,
        r#"{"type":"","payload":"hi"}"#,
        r#"{"type":"Message","payload":"hi"}"#,
        r#"{"type":"joined","room":"ops"}"#,
        r#"{"type":"error","payload":{}}"#,
        r#"{"type":"pong"}"#,
    ];
    assert_refused("unknown_type", &texts);
}

#[test]
fn invalid_room_name_is_refused() {
    let long = format!(r#"{{"type":"join","room":"{}"}}"#, "é".repeat(65));
    let texts = [
        &*long,
        r#"{"type":"join","room":""}"#,
        r#"{"type":"join","room":"two words"}"#,
        r#"{"type":"join","room":"a/b"}"#,
        r#"{"type":"join","room":"a\u0000b"}"#,
        r#"{"type":"leave","room":"*"}"#,
        r#"{"type":"presence","room":"<b>"}"#,
        r#"{"type":"message","payload":1,"room":"a\"b"}"#,
    ];
    assert_refused("invalid_room", &texts);
}

#[test]
fn empty_or_long_id_is_refused() {
    let long = "i".repeat(65);
    let wide = format!("{}i", "é".repeat(32));
    let texts = ["", &long, &wide].map(|id| json!({"type": "ping", "id": id}).to_string());
    assert_refused("invalid_id", &texts.each_ref().map(String::as_str));
}

#[test]
fn id_of_64_bytes_is_returned() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    for id in ["i".repeat(64), "é".repeat(32), "\"\n\u{0}".to_owned()] {
        alice.send_json(json!({"type": "ping", "id": id}));
        assert_eq!(alice.next_of("pong")["id"], id);
    }
}

#[test]
fn request_for_a_room_not_joined_is_refused() {
    let texts = [
        r#"{"type":"message","payload":"hi","room":"ops"}"#,
        r#"{"type":"custom_event","payload":"hi","room":"Lobby"}"#,
        r#"{"type":"leave","room":"ops"}"#,
        r#"{"type":"presence","room":"ops"}"#,
    ];
    assert_refused("not_in_room", &texts);
}

#[test]
fn join_over_the_limit_of_a_connection_is_refused() {
    let server = TestServer::start(&["--max-rooms-per-connection", "3"]);
    let mut alice = server.client();
    alice.join("one");
    alice.join("two");
    let error = send_refused(&mut alice, r#"{"type":"join","room":"three","id":"j"}"#);
    assert_eq!(
        (&error["payload"]["code"], &error["id"]),
        (&json!("too_many_rooms"), &json!("j"))
    );

    alice.join("two");
    alice.leave("one");
    alice.join("three");
}

#[test]
fn join_over_the_limit_of_the_server_is_refused() {
    let server = TestServer::start(&["--max-rooms", "2"]);
    let (mut alice, mut bob) = (server.client(), server.client());
    alice.join("one");
    let error = send_refused(&mut bob, r#"{"type":"join","room":"two","id":"j"}"#);
    assert_eq!(
        (&error["payload"]["code"], &error["id"]),
        (&json!("too_many_rooms"), &json!("j"))
    );

    assert_eq!(bob.join("one")["members"], 2);
    bob.leave("one");
    alice.leave("one");
    // The room of the last member is free a moment after the reply to that member.
    wait_until("there is space for another room", || {
        bob.send_json(json!({"type": "join", "room": "two"}));
        bob.next()["type"] == "joined"
    });
    assert_still_works(&mut bob);
}

#[test]
fn binary_frame_is_refused() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob) = (server.client(), server.client());
    for bytes in [
        &br#"{"type":"message","payload":"hi"}"#[..],
        b"",
        b"\xFF\x00",
    ] {
        alice.send_frame(true, BINARY, bytes);
        assert_eq!(alice.expect_error(), "binary_unsupported");
    }
    assert_still_works(&mut alice);
    bob.expect("still here");
}

#[test]
fn refusal_returns_the_requests_id() {
    let server = TestServer::start(&["--max-rooms-per-connection", "1"]);
    let mut alice = server.client();
    for (request, code) in [
        (json!({"type": "shout"}), "unknown_type"),
        (json!({"type": 1}), "invalid_field"),
        (json!({"payload": 1}), "missing_field"),
        (json!({"type": "message"}), "missing_field"),
        (json!({"type": "join"}), "missing_field"),
        (json!({"type": "join", "room": "a b"}), "invalid_room"),
        (
            json!({"type": "join", "room": "ops", "presence": 1}),
            "invalid_field",
        ),
        (json!({"type": "join", "room": "ops"}), "too_many_rooms"),
        (json!({"type": "leave", "room": "ops"}), "not_in_room"),
        (
            json!({"type": "message", "payload": 1, "room": "ops"}),
            "not_in_room",
        ),
    ] {
        let mut request = request;
        request["id"] = json!("the \"same\" id");
        let error = send_refused(&mut alice, &request.to_string());
        assert_eq!(
            (&error["payload"]["code"], &error["id"]),
            (&json!(code), &request["id"]),
            "{request}: {error}"
        );
    }
}

#[test]
fn refused_message_reaches_no_one_and_takes_no_offset() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob) = (server.client(), server.client());
    send_refused(&mut alice, r#"{"type":"message","payload":1,"payload":2}"#);
    send_refused(&mut alice, r#"{"type":"message","payload":1,"id":""}"#);
    alice.say("first");
    for client in [&mut alice, &mut bob] {
        assert_eq!(client.expect("first")["offset"], 1);
    }
    assert_eq!(server.total("requests_refused"), 2);
    assert_eq!(server.total("messages_published"), 1);
}

#[test]
fn original_client_gets_only_frame_types_it_knows() {
    let server = TestServer::start(&[]);
    let mut original = server.client();
    let mut modern = server.client_at("/ws?room=lobby&room=ops");
    modern.send_json(json!({"type": "join", "room": "lobby", "presence": true, "id": "1"}));
    modern.next_of("joined");
    modern.next_of("presence");
    modern.join("more");
    modern.send_json(json!({"type": "presence", "room": "lobby"}));
    modern.next_of("presence");
    modern.send_json(json!({"type": "ping"}));
    modern.next_of("pong");
    modern.say_in("ops", "not for the lobby");
    modern.expect("not for the lobby");
    modern.leave("ops");
    server.client().close();
    modern.send_json(json!({"type": "custom_event", "payload": {"n": 1}, "id": "2"}));

    assert_eq!(original.next_of("custom_event")["room"], "lobby");
    for text in ["hello", "bye"] {
        original.say(text);
        original.expect(text);
    }
}
