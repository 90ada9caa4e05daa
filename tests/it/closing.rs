//! The end of a WebSocket connection: violations of the protocol and their close codes, and the close handshake.
//! Frames are read correctly however the network splits them.

use crate::support::{
    CLOSE, CONTINUATION, PING, PONG, TEXT, TestServer, frame, handshake, message_frame,
};

/// Returns the code that a client is closed with after it sent these bytes.
fn code_for(server: &TestServer, bytes: &[u8]) -> u16 {
    let mut mallory = server.passive_client("/ws");
    mallory.send(bytes);
    mallory.close_code()
}

/// A Close frame with a code.
fn close_frame(code: u16) -> Vec<u8> {
    frame(true, CLOSE, &code.to_be_bytes())
}

/// Asserts that each of these is closed with 1002 and that a bystander notices nothing.
fn assert_protocol_errors(cases: &[(&str, Vec<u8>)]) {
    let server = TestServer::start(&[]);
    let mut bystander = server.client();
    for (what, bytes) in cases {
        assert_eq!(code_for(&server, bytes), 1002, "{what}");
    }
    bystander.expect_nothing();
    bystander.say("still here");
    bystander.expect("still here");
}

/// Sets these bits in the first byte of a frame.
fn with_bits(bits: u8, mut frame: Vec<u8>) -> Vec<u8> {
    frame[0] |= bits;
    frame
}

#[test]
fn message_over_the_limit_is_closed_with_1009() {
    let server = TestServer::start(&["--max-message-bytes", "1000", "--outbox-bytes", "4KiB"]);
    let mut alice = server.passive_client("/ws");
    let overhead = message_frame("").len() - frame(true, TEXT, b"").len();
    alice.say("x".repeat(1000 - overhead));
    assert_eq!(
        alice.next_offset(),
        1,
        "a message may be as long as the limit"
    );

    alice.say("x".repeat(1001 - overhead));
    let error = alice.next();
    assert_eq!(error["type"], "error", "{error}");
    assert_eq!(error["payload"]["code"], "message_too_large");
    let sentence = error["payload"]["message"].as_str().expect("a sentence");
    assert!(sentence.contains("1000"), "{sentence}");
    assert_eq!(alice.close_code(), 1009);
}

#[test]
fn fragments_over_the_limit_together_are_closed_with_1009() {
    let server = TestServer::start(&["--max-message-bytes", "1000", "--outbox-bytes", "4KiB"]);
    let mut alice = server.passive_client("/ws");
    alice.send_frame(false, TEXT, &[b'x'; 600]);
    alice.send_frame(true, PING, b"in between");
    alice.send_frame(false, CONTINUATION, &[b'x'; 300]);
    alice.send_frame(true, CONTINUATION, &[b'x'; 101]);
    assert_eq!(alice.frame().expect("a frame").payload, b"in between");
    assert_eq!(alice.next()["payload"]["code"], "message_too_large");
    assert_eq!(alice.close_code(), 1009);
}

#[test]
fn declared_length_over_the_limit_is_refused_before_the_payload() {
    let server = TestServer::start(&[]);
    for length in [65_537, 1 << 40, u64::MAX >> 1, u64::MAX] {
        let mut mallory = server.passive_client("/ws");
        mallory.send([0x81, 0xFF]);
        mallory.send(length.to_be_bytes());
        mallory.send([0; 4]);
        assert_eq!(mallory.close_code(), 1009, "{length}");
    }
}

#[test]
fn invalid_utf8_is_closed_with_1007() {
    let server = TestServer::start(&[]);
    let split = [
        frame(false, TEXT, b"\"\xE6\x88"),
        frame(true, CONTINUATION, b"\xFF\""),
    ];
    for (what, bytes) in [
        ("a byte of no character", frame(true, TEXT, b"\xFF")),
        ("a surrogate", frame(true, TEXT, b"\xED\xA0\x80")),
        ("an overlong form", frame(true, TEXT, b"\xC0\xAF")),
        ("half a character", frame(true, TEXT, b"\"\xE6\x88")),
        ("a broken character over two fragments", split.concat()),
    ] {
        assert_eq!(code_for(&server, &bytes), 1007, "{what}");
    }
}

#[test]
fn character_split_over_fragments_is_accepted() {
    let server = TestServer::start(&[]);
    let mut alice = server.passive_client("/ws");
    let request = r#"{"type":"message","payload":"房间"}"#.as_bytes();
    for (index, byte) in request.iter().enumerate() {
        let opcode = if index == 0 { TEXT } else { CONTINUATION };
        alice.send_frame(index + 1 == request.len(), opcode, &[*byte]);
    }
    assert_eq!(alice.next()["payload"], "房间");
}

#[test]
fn malformed_frame_is_closed_with_1002() {
    let oversized = frame(true, PING, &[b'x'; 126]);
    assert_protocol_errors(&[
        ("an unmasked frame", vec![0x81, 0x02, b'{', b'}']),
        ("reserved bit 1", with_bits(0x40, message_frame("hi"))),
        ("reserved bit 2", with_bits(0x20, message_frame("hi"))),
        ("reserved bit 3", with_bits(0x10, message_frame("hi"))),
        (
            "a reserved bit on a ping",
            with_bits(0x40, frame(true, PING, b"")),
        ),
        ("an unknown data opcode", frame(true, 0x3, b"hi")),
        ("another unknown data opcode", frame(true, 0x7, b"")),
        ("an unknown control opcode", frame(true, 0xB, b"")),
        ("another unknown control opcode", frame(true, 0xF, b"hi")),
        ("a fragmented ping", frame(false, PING, b"hi")),
        ("a fragmented close", frame(false, CLOSE, b"")),
        ("a ping of 126 bytes", oversized.clone()),
        ("a pong of 126 bytes", with_bits(PONG, oversized.clone())),
        ("a close of 126 bytes", {
            let mut close = oversized;
            close[0] = 0x80 | CLOSE;
            close
        }),
    ]);
}

#[test]
fn fragment_out_of_order_is_closed_with_1002() {
    let unfinished = frame(false, TEXT, b"{");
    assert_protocol_errors(&[
        ("a continuation of nothing", frame(true, CONTINUATION, b"}")),
        (
            "an unfinished continuation of nothing",
            frame(false, CONTINUATION, b"}"),
        ),
        (
            "a message within a message",
            [unfinished.clone(), message_frame("hi")].concat(),
        ),
        (
            "a second first fragment",
            [unfinished.clone(), unfinished].concat(),
        ),
    ]);
}

#[test]
fn reserved_close_code_is_closed_with_1002() {
    let codes = [
        0,
        999,
        1004,
        1005,
        1006,
        1015,
        1016,
        1100,
        2000,
        2999,
        5000,
        u16::MAX,
    ];
    let mut cases: Vec<_> = codes
        .iter()
        .map(|&code| ("a reserved code", close_frame(code)))
        .collect();
    cases.push(("half a code", frame(true, CLOSE, &[3])));
    assert_protocol_errors(&cases);
}

#[test]
fn close_reason_that_is_not_utf8_is_closed_with_1007() {
    let server = TestServer::start(&[]);
    let reason = frame(true, CLOSE, b"\x03\xE8\xFF\xFE");
    assert_eq!(code_for(&server, &reason), 1007);
}

#[test]
fn close_is_answered_with_the_same_code() {
    let server = TestServer::start(&[]);
    for code in [1000, 1001, 1003, 1007, 1011, 3000, 4000, 4999] {
        assert_eq!(code_for(&server, &close_frame(code)), code);
    }

    let mut alice = server.passive_client("/ws");
    alice.send_frame(true, CLOSE, b"");
    let close = alice.frame().expect("a Close frame");
    assert_eq!((close.opcode, close.payload), (CLOSE, Vec::new()));
    alice.assert_closed();
}

#[test]
fn messages_before_a_close_are_relayed() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    let mut alice = server.passive_client("/ws");
    let messages: Vec<_> = (1..=20).map(|n| message_frame(&n.to_string())).collect();
    alice.send([messages.concat(), close_frame(1000)].concat());
    for n in 1..=20 {
        bob.expect(n.to_string());
    }
    assert_eq!(alice.close_code(), 1000);
}

#[test]
fn message_before_the_end_of_the_socket_is_relayed() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    let mut alice = server.passive_client("/ws");
    alice.say("last words");
    drop(alice);
    bob.expect("last words");
}

#[test]
fn frames_after_a_close_are_ignored() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    let mut alice = server.passive_client("/ws");
    alice.send(
        [
            message_frame("before"),
            close_frame(1000),
            message_frame("after"),
        ]
        .concat(),
    );
    assert_eq!(alice.close_code(), 1000);
    alice.try_send(message_frame("long after"));
    drop(alice);
    bob.expect("before");
    server.wait_for_clients(1);
    bob.expect_nothing();
    assert_eq!(server.total("messages_published"), 1);
}

#[test]
fn frames_after_a_protocol_error_are_ignored() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    let mut mallory = server.passive_client("/ws");
    mallory.send(
        [
            message_frame("before"),
            vec![0x81, 0x00],
            message_frame("after"),
        ]
        .concat(),
    );
    assert_eq!(mallory.close_code(), 1002);
    drop(mallory);
    bob.expect("before");
    bob.expect_nothing();
    assert_eq!(server.total("messages_published"), 1);
}

#[test]
fn close_frame_is_the_last_frame_even_in_a_busy_room() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    for _ in 0..30 {
        let mut alice = server.passive_client("/ws");
        for n in 0..50 {
            bob.say(n);
        }
        alice.send(close_frame(1000));
        // Asserts that nothing follows the Close frame.
        assert_eq!(alice.close_code(), 1000);
        for n in 0..50 {
            bob.expect(n);
        }
    }
}

#[test]
fn reset_in_the_middle_of_a_frame_harms_no_one() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    let message = message_frame("never finished");
    for cut in [1, 2, 5, message.len() - 1] {
        let mut alice = server.passive_client("/ws");
        alice.send(&message[..cut]);
        alice.reset();
    }
    server.wait_for_clients(1);
    bob.expect_nothing();
    bob.say("still here");
    assert_eq!(bob.expect("still here")["offset"], 1);
}

#[test]
fn frame_sent_byte_by_byte_is_read() {
    let server = TestServer::start(&[]);
    let mut alice = server.passive_client("/ws");
    let long = "x".repeat(300);
    for text in ["hi", &long] {
        for byte in message_frame(text) {
            alice.send([byte]);
        }
        assert_eq!(alice.next()["payload"], text);
    }
    for byte in close_frame(1000) {
        alice.send([byte]);
    }
    assert_eq!(alice.close_code(), 1000);
}

#[test]
fn many_frames_in_one_segment_are_all_answered() {
    let server = TestServer::start(&[]);
    let mut alice = server.passive_client("/ws");
    let ping = frame(true, PING, b"between");
    let frames = [
        message_frame("one"),
        ping,
        message_frame("two"),
        message_frame("three"),
    ];
    alice.send(frames.concat());
    let mut messages = Vec::new();
    let mut pong = None;
    while messages.len() < 3 || pong.is_none() {
        let frame = alice.frame().expect("a frame");
        match frame.opcode {
            PONG => pong = Some(frame.payload),
            _ => messages.push(String::from_utf8(frame.payload).expect("text")),
        }
    }
    assert_eq!(pong.as_deref(), Some(&b"between"[..]));
    for (message, text) in messages.iter().zip(["one", "two", "three"]) {
        assert!(message.contains(text), "{messages:?}");
    }
}

#[test]
fn frames_in_the_segment_of_the_handshake_are_read() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    let mut alice = server.raw();
    let request = handshake("/ws").into_bytes();
    alice.send(
        [
            request.clone(),
            message_frame("early"),
            message_frame("bird"),
        ]
        .concat(),
    );
    assert_eq!(alice.response().status, 101);
    assert_eq!(alice.next_json()["from"], "server");
    for text in ["early", "bird"] {
        assert_eq!(alice.next_json()["payload"], text);
        bob.expect(text);
    }

    let mut carol = server.raw();
    let half = message_frame("cut in two");
    carol.send([&request, &half[..5]].concat());
    assert_eq!(carol.response().status, 101);
    assert_eq!(carol.next_json()["from"], "server");
    carol.send(&half[5..]);
    assert_eq!(carol.next_json()["payload"], "cut in two");
}

#[test]
fn pong_carries_the_payload_of_the_ping() {
    let server = TestServer::start(&[]);
    let mut alice = server.passive_client("/ws");
    for payload in [&b""[..], b"\x00\xFF", &[b'x'; 125]] {
        alice.send_frame(true, PING, payload);
        let pong = alice.frame().expect("a pong");
        assert_eq!((pong.opcode, &pong.payload[..]), (PONG, payload));
    }
    alice.send_frame(true, PONG, b"unsolicited");
    alice.say("still here");
    assert_eq!(alice.next()["payload"], "still here");
}
