//! Limits per connection: requests and bytes per second.

use serde_json::{Value, json};

use crate::support::{CLOSE, TestClient, TestServer, frame, wait_for};

/// Publishes until a message is refused; returns the number accepted and the refusal.
fn publish_until_refused(client: &mut TestClient) -> (u64, Value) {
    for published in 0.. {
        client.send_json(
            json!({"type": "message", "payload": published, "id": published.to_string()}),
        );
        loop {
            let frame = client.next();
            match frame["type"].as_str() {
                Some("error") => return (published, frame),
                Some("ack") => break,
                _ => {}
            }
        }
    }
    unreachable!("the loop has no end")
}

#[test]
fn connection_over_the_request_rate_receives_the_time_to_retry() {
    let server = TestServer::start(&["--max-request-rate", "5"]);
    let mut bob = server.client();
    let mut alice = server.client();
    let (published, error) = publish_until_refused(&mut alice);
    assert!(
        published >= 50,
        "ten seconds' worth at once, not {published}"
    );
    let payload = &error["payload"];
    assert_eq!(payload["code"], "rate_limited");
    assert_eq!(error["id"], published.to_string());
    let wait = payload["retry_after_ms"].as_u64().expect("milliseconds");
    assert!((1..=200).contains(&wait), "{error}");
    // The refused message was not published, and other clients are not limited.
    for n in 0..published {
        assert_eq!(bob.next_of("message")["payload"], n);
    }
    bob.say("mine");
    bob.expect("mine");

    wait_for("the client may send requests again", || {
        alice.send_json(json!({"type": "ping", "id": "again"}));
        loop {
            let frame = alice.next();
            if frame["id"] == "again" {
                return (frame["type"] == "pong").then_some(());
            }
        }
    });
    assert!(server.total("requests_rate_limited") >= 1);
}

#[test]
fn connection_that_ignores_the_limit_is_closed() {
    let server = TestServer::start(&["--max-request-rate", "5"]);
    let mut alice = server.client();
    let mut bob = server.client();
    let flood = frame(true, 1, br#"{"type":"ping"}"#).repeat(500);
    alice.try_send(flood);
    assert_eq!(alice.close_code(), 4101);
    bob.say("undisturbed");
    bob.expect("undisturbed");
}

/// Frames that are not requests cost as much to read.
#[test]
fn pings_and_binary_frames_count_as_well() {
    let server = TestServer::start(&["--max-request-rate", "5"]);
    for (opcode, payload) in [(0x2, &b"binary"[..]), (0x9, b"ping"), (0xA, b"pong")] {
        let mut raw = server.passive_client("/ws");
        // The burst of 50 frames is not refused, whatever they are.
        raw.send(frame(true, opcode, payload).repeat(50));
        raw.send(frame(true, opcode, payload).repeat(10));
        raw.send(frame(true, 1, br#"{"type":"ping","id":"asked"}"#));
        let reply = loop {
            let frame = raw.frame().expect("a reply");
            if frame.opcode == 1 {
                let reply: Value = serde_json::from_slice(&frame.payload).expect("JSON");
                if reply["id"] == "asked" {
                    break reply;
                }
            }
        };
        assert_eq!(
            reply["payload"]["code"], "rate_limited",
            "{opcode}: {reply}"
        );
        raw.try_send(frame(true, opcode, payload).repeat(500));
        let code = loop {
            let frame = raw.frame().expect("closed without a Close frame");
            if frame.opcode == CLOSE {
                break frame.close_code();
            }
        };
        assert_eq!(code, 4101, "{opcode}");
    }
}

/// The pongs to pings that arrive together wait for each other, but not until the Close was sent.
#[test]
fn client_that_is_closed_for_its_pings_gets_the_pongs_first() {
    let server = TestServer::start(&["--max-request-rate", "5"]);
    let mut raw = server.passive_client("/ws");
    raw.try_send(frame(true, 0x9, b"ping").repeat(500));
    let mut pongs = 0;
    loop {
        let frame = raw.frame().expect("closed without a Close frame");
        match frame.opcode {
            0xA => pongs += 1,
            CLOSE => break,
            _ => {}
        }
    }
    assert!(pongs > 50, "{pongs} pongs");
}

#[test]
fn byte_rate_is_limited_but_the_largest_message_always_fits() {
    let server = TestServer::start(&["--max-byte-rate", "1KiB"]);
    let mut alice = server.client();
    alice.say("x".repeat(60_000));
    alice.expect("x".repeat(60_000));
    alice.say("x".repeat(10_000));
    assert_eq!(alice.expect_error(), "rate_limited");
}
