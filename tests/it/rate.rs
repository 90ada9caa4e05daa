//! A connection may ask so much in a time, and hears when it is too much.

use serde_json::{Value, json};

use crate::support::{TestClient, TestServer, eventually, frame};

/// Publishes until one is refused as too much; gives how many were not, and the refusal.
fn publish_until_refused(client: &mut TestClient) -> (u64, Value) {
    for published in 0.. {
        client.send(json!({"type": "message", "payload": published, "id": published.to_string()}));
        loop {
            let frame = client.next();
            match frame["type"].as_str() {
                Some("error") => return (published, frame),
                Some("ack") => break,
                _ => {}
            }
        }
    }
    unreachable!("without end")
}

#[test]
fn a_connection_that_asks_too_much_is_told_when_to_ask_again() {
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
    // What was refused was not published, and nobody else is bound by it.
    for n in 0..published {
        assert_eq!(bob.next_of("message")["payload"], n);
    }
    bob.say("mine");
    bob.expect("mine");
    // In time it may ask again.
    eventually("it may ask again", || {
        alice.send(json!({"type": "ping", "id": "again"}));
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
fn a_connection_that_goes_on_regardless_is_closed() {
    let server = TestServer::start(&["--max-request-rate", "5"]);
    let mut alice = server.client();
    let mut bob = server.client();
    let flood = frame(true, 1, br#"{"type":"ping"}"#).repeat(500);
    let _may_be_cut_off = std::io::Write::write_all(alice.socket(), &flood);
    assert_eq!(alice.close_code(), 4101);
    bob.say("undisturbed");
    bob.expect("undisturbed");
}

/// Frames that are no requests cost as much to read.
#[test]
fn pings_and_binary_frames_count_as_well() {
    let server = TestServer::start(&["--max-request-rate", "5"]);
    for (opcode, payload) in [(0x2, &b"binary"[..]), (0x9, b"ping"), (0xA, b"pong")] {
        let mut raw = server.raw();
        raw.enter("/ws");
        // So few pass without a word, whatever they are.
        raw.send(frame(true, opcode, payload).repeat(50));
        raw.send(frame(true, opcode, payload).repeat(10));
        raw.send(frame(true, 1, br#"{"type":"ping","id":"asked"}"#));
        let answer = loop {
            let frame = raw.frame().expect("an answer");
            if frame.opcode == 1 {
                let answer: Value = serde_json::from_slice(&frame.payload).expect("JSON");
                if answer["id"] == "asked" {
                    break answer;
                }
            }
        };
        assert_eq!(
            answer["payload"]["code"], "rate_limited",
            "{opcode}: {answer}"
        );
        raw.try_send(frame(true, opcode, payload).repeat(500));
        let code = loop {
            let frame = raw.frame().expect("closed without a Close frame");
            if frame.opcode == 8 {
                break frame.close_code();
            }
        };
        assert_eq!(code, 4101, "{opcode}");
    }
}

#[test]
fn bytes_are_bounded_as_well_but_the_largest_message_always_fits() {
    let server = TestServer::start(&["--max-byte-rate", "1KiB"]);
    let mut alice = server.client();
    alice.say("x".repeat(60_000));
    alice.expect("x".repeat(60_000));
    alice.say("x".repeat(10_000));
    assert_eq!(alice.expect_error(), "rate_limited");
}
