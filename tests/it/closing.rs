//! The end of a connection: who breaks the protocol is told which rule, who closes is answered, and
//! nobody else notices. Frames arrive however the network cuts them.

use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::support::{RawConnection, TestServer, eventually, frame, handshake, said};

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

fn entered(server: &TestServer) -> RawConnection {
    let mut raw = server.raw();
    raw.enter("/ws");
    raw
}

/// The code a client is closed with after it sent this.
fn code_for(server: &TestServer, bytes: &[u8]) -> u16 {
    let mut mallory = entered(server);
    mallory.send(bytes);
    mallory.close_code()
}

/// A Close frame with a code.
fn close_frame(code: u16) -> Vec<u8> {
    frame(true, CLOSE, &code.to_be_bytes())
}

/// Each of these breaks the protocol; a bystander notices nothing.
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

/// A frame whose first byte has these bits too.
fn with_bits(bits: u8, mut frame: Vec<u8>) -> Vec<u8> {
    frame[0] |= bits;
    frame
}

#[test]
fn a_message_over_the_bound() {
    let server = TestServer::start(&["--max-message-bytes", "1000", "--outbox-bytes", "4KiB"]);
    let mut alice = entered(&server);
    let overhead = said("").len() - frame(true, TEXT, b"").len();
    alice.say(&"x".repeat(1000 - overhead));
    assert_eq!(
        alice.next_offset(),
        1,
        "a message may be as long as the bound"
    );

    alice.say(&"x".repeat(1001 - overhead));
    let error = alice.next();
    assert_eq!(error["type"], "error", "{error}");
    assert_eq!(error["payload"]["code"], "message_too_large");
    let sentence = error["payload"]["message"].as_str().expect("a sentence");
    assert!(sentence.contains("1000"), "{sentence}");
    assert_eq!(alice.close_code(), 1009);
}

#[test]
fn fragments_over_the_bound_together() {
    let server = TestServer::start(&["--max-message-bytes", "1000", "--outbox-bytes", "4KiB"]);
    let mut alice = entered(&server);
    alice.send_frame(false, TEXT, &[b'x'; 600]);
    alice.send_frame(true, PING, b"in between");
    alice.send_frame(false, CONTINUATION, &[b'x'; 300]);
    alice.send_frame(true, CONTINUATION, &[b'x'; 101]);
    assert_eq!(alice.frame().expect("a frame").payload, b"in between");
    assert_eq!(alice.next()["payload"]["code"], "message_too_large");
    assert_eq!(alice.close_code(), 1009);
}

#[test]
fn a_length_no_message_may_have_is_refused_before_it_is_sent() {
    let server = TestServer::start(&[]);
    for length in [65_537, 1 << 40, u64::MAX >> 1, u64::MAX] {
        let mut mallory = entered(&server);
        mallory.send([0x81, 0xFF]);
        mallory.send(length.to_be_bytes());
        mallory.send([0; 4]);
        assert_eq!(mallory.close_code(), 1009, "{length}");
    }
}

#[test]
fn text_that_is_not_utf8() {
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
fn characters_may_be_split_over_fragments() {
    let server = TestServer::start(&[]);
    let mut alice = entered(&server);
    let request = r#"{"type":"message","payload":"房间"}"#.as_bytes();
    for (index, byte) in request.iter().enumerate() {
        let opcode = if index == 0 { TEXT } else { CONTINUATION };
        alice.send_frame(index + 1 == request.len(), opcode, &[*byte]);
    }
    assert_eq!(alice.next()["payload"], "房间");
}

#[test]
fn frames_that_are_malformed() {
    let oversized = frame(true, PING, &[b'x'; 126]);
    assert_protocol_errors(&[
        ("an unmasked frame", vec![0x81, 0x02, b'{', b'}']),
        ("reserved bit 1", with_bits(0x40, said("hi"))),
        ("reserved bit 2", with_bits(0x20, said("hi"))),
        ("reserved bit 3", with_bits(0x10, said("hi"))),
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
fn fragments_out_of_turn() {
    let unfinished = frame(false, TEXT, b"{");
    assert_protocol_errors(&[
        ("a continuation of nothing", frame(true, CONTINUATION, b"}")),
        (
            "an unfinished continuation of nothing",
            frame(false, CONTINUATION, b"}"),
        ),
        (
            "a message within a message",
            [unfinished.clone(), said("hi")].concat(),
        ),
        (
            "a second beginning",
            [unfinished.clone(), unfinished].concat(),
        ),
    ]);
}

#[test]
fn close_codes_that_nobody_may_send() {
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
fn a_close_reason_that_is_not_utf8() {
    let server = TestServer::start(&[]);
    let reason = frame(true, CLOSE, b"\x03\xE8\xFF\xFE");
    assert_eq!(code_for(&server, &reason), 1007);
}

#[test]
fn a_client_that_closes_is_answered_with_its_code() {
    let server = TestServer::start(&[]);
    for code in [1000, 1001, 1003, 1007, 1011, 3000, 4000, 4999] {
        assert_eq!(code_for(&server, &close_frame(code)), code);
    }

    let mut alice = entered(&server);
    alice.send_frame(true, CLOSE, b"");
    let answer = alice.frame().expect("an answer");
    assert_eq!((answer.opcode, answer.payload), (CLOSE, Vec::new()));
    alice.assert_closed();
}

#[test]
fn what_was_said_just_before_a_close_is_relayed() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    let mut alice = entered(&server);
    let words: Vec<_> = (1..=20).map(|n| said(&n.to_string())).collect();
    alice.send([words.concat(), close_frame(1000)].concat());
    for n in 1..=20 {
        bob.expect(n.to_string());
    }
    assert_eq!(alice.close_code(), 1000);
}

#[test]
fn what_was_said_just_before_the_socket_ends_is_relayed() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    let mut alice = entered(&server);
    alice.say("last words");
    drop(alice);
    bob.expect("last words");
}

#[test]
fn what_follows_a_close_is_ignored() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    let mut alice = entered(&server);
    alice.send([said("before"), close_frame(1000), said("after")].concat());
    assert_eq!(alice.close_code(), 1000);
    alice.try_send(said("long after"));
    drop(alice);
    bob.expect("before");
    eventually("alice is gone", || {
        (server.connected_clients() == 1).then_some(())
    });
    bob.expect_nothing();
    assert_eq!(server.total("messages_published"), 1);
}

#[test]
fn what_follows_an_error_is_ignored() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    let mut mallory = entered(&server);
    mallory.send([said("before"), vec![0x81, 0x00], said("after")].concat());
    assert_eq!(mallory.close_code(), 1002);
    drop(mallory);
    bob.expect("before");
    bob.expect_nothing();
    assert_eq!(server.total("messages_published"), 1);
}

#[test]
fn the_close_frame_is_the_last_thing_even_in_a_busy_room() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    for _ in 0..30 {
        let mut alice = entered(&server);
        for n in 0..50 {
            bob.say(n);
        }
        alice.send(close_frame(1000));
        // Asserts that the stream ends with it.
        assert_eq!(alice.close_code(), 1000);
        for n in 0..50 {
            bob.expect(n);
        }
    }
}

#[test]
fn a_reset_in_the_middle_of_a_frame() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    let words = said("never finished");
    for cut in [1, 2, 5, words.len() - 1] {
        let mut alice = entered(&server);
        alice.send(&words[..cut]);
        set_socket_linger(&alice.socket, Some(Duration::ZERO)).expect("linger");
        drop(alice);
    }
    eventually("all that were reset are gone", || {
        (server.connected_clients() == 1).then_some(())
    });
    bob.expect_nothing();
    bob.say("still here");
    assert_eq!(bob.expect("still here")["offset"], 1);
}

#[test]
fn a_frame_that_comes_byte_by_byte() {
    let server = TestServer::start(&[]);
    let mut alice = entered(&server);
    let long = "x".repeat(300);
    for text in ["hi", &long] {
        for byte in said(text) {
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
fn many_frames_in_one_segment() {
    let server = TestServer::start(&[]);
    let mut alice = entered(&server);
    let ping = frame(true, PING, b"between");
    let frames = [said("one"), ping, said("two"), said("three")];
    alice.send(frames.concat());
    let mut answers = Vec::new();
    let mut pong = None;
    while answers.len() < 3 || pong.is_none() {
        let frame = alice.frame().expect("a frame");
        match frame.opcode {
            PONG => pong = Some(frame.payload),
            _ => answers.push(String::from_utf8(frame.payload).expect("text")),
        }
    }
    assert_eq!(pong.as_deref(), Some(&b"between"[..]));
    for (answer, text) in answers.iter().zip(["one", "two", "three"]) {
        assert!(answer.contains(text), "{answers:?}");
    }
}

#[test]
fn a_frame_in_the_same_segment_as_the_handshake() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    let mut alice = server.raw();
    let request = handshake("/ws").into_bytes();
    alice.send([request.clone(), said("early"), said("bird")].concat());
    assert_eq!(alice.response().status, 101);
    assert_eq!(alice.next()["from"], "server");
    for text in ["early", "bird"] {
        assert_eq!(alice.next()["payload"], text);
        bob.expect(text);
    }

    let mut carol = server.raw();
    let half = said("cut in two");
    carol.send([&request, &half[..5]].concat());
    assert_eq!(carol.response().status, 101);
    assert_eq!(carol.next()["from"], "server");
    carol.send(&half[5..]);
    assert_eq!(carol.next()["payload"], "cut in two");
}

#[test]
fn pings_are_answered_with_what_they_carry() {
    let server = TestServer::start(&[]);
    let mut alice = entered(&server);
    for payload in [&b""[..], b"\x00\xFF", &[b'x'; 125]] {
        alice.send_frame(true, PING, payload);
        let pong = alice.frame().expect("a pong");
        assert_eq!((pong.opcode, &pong.payload[..]), (PONG, payload));
    }
    alice.send_frame(true, PONG, b"nobody asked");
    alice.say("still here");
    assert_eq!(alice.next()["payload"], "still here");
}
