//! Messages reach every member of the room, the publisher too, with their payload unchanged.

use serde_json::json;

use crate::support::TestServer;

#[test]
fn message_reaches_everyone_in_the_lobby() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob) = (server.client(), server.client());
    alice.say("hi");
    for client in [&mut alice, &mut bob] {
        let frame = client.expect("hi");
        assert_eq!(
            (&frame["room"], &frame["offset"]),
            (&json!("lobby"), &json!(1))
        );
        assert!(frame["ts"].as_u64().is_some());
    }
    assert_eq!(server.connected_clients(), 2);
}

#[test]
fn payload_is_relayed_byte_for_byte() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    for payload in [
        r#"{"n":1.0e400,"s":"\ud83d\ude00"}"#,
        r#"  [ 1 , 2.50 , -0 , 123456789012345678901234567890 ]"#,
        r#""line\nbreak \u0000 \/""#,
        "null",
        "\"𝄞 房间\"",
        "{\"a\" : {\"a\":\t1}}",
    ] {
        alice.send_text(&format!(
            "{{\"payload\":{payload},\"type\":\"custom_event\"}}"
        ));
        let text = alice.next_text();
        let trimmed = payload.trim_start();
        assert!(
            text.starts_with(&format!(
                "{{\"type\":\"custom_event\",\"payload\":{trimmed},"
            )),
            "{text}"
        );
    }
}

#[test]
fn publish_with_an_id_is_acknowledged_with_its_position() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    alice.send_json(json!({"type": "message", "payload": 1, "id": "a\"1"}));
    let (first, second) = (alice.next(), alice.next());
    let (ack, message) = if first["type"] == "ack" {
        (first, second)
    } else {
        (second, first)
    };
    assert_eq!(
        (&ack["id"], &ack["room"]),
        (&json!("a\"1"), &json!("lobby")),
        "{ack}"
    );
    assert_eq!(ack["payload"]["offset"], 1);
    assert_eq!(ack["payload"]["epoch"], alice.welcome().room("lobby").epoch);
    assert_eq!(
        (&message["offset"], &message["id"]),
        (&json!(1), &json!("a\"1")),
        "{message}"
    );
}
