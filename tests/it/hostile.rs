//! Clients that mean harm or are broken: after each of them the server serves, and holds nothing of
//! theirs.

use std::io::Read;
use std::time::Duration;

use serde_json::json;

use crate::support::{
    Chance, PATIENCE, RawConnection, Siege, allow_many_sockets, eventually, frame, handshake,
    request, said,
};

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CONTINUATION: u8 = 0x0;

#[test]
fn garbage() {
    let mut chance = Chance::new();
    let mut siege = Siege::begin(&[]);
    siege.endures("garbage", |siege| {
        let mut open = Vec::new();
        for _ in 0..200 {
            let length = chance.within(1..3000);
            let bytes = chance.bytes(length);
            let mut client = siege.server.raw();
            client.try_send(bytes);
            open.push(client);
        }
        siege.serves("while they are there");
        // Each ends by itself: at once, or because its head does not come.
        for client in &mut open {
            while client.hears_within(PATIENCE) && !ended(client) {}
        }
        drop(open);
    });
}

#[test]
fn resets_at_any_point() {
    let mut chance = Chance::new();
    let mut siege = Siege::begin(&[]);
    siege.endures("resets", |siege| {
        let conversation = [
            request("GET", "/assets/page/page.js", &[]).into_bytes(),
            request("POST", "/health", &["Content-Length: 5"]).into_bytes(),
            b"hello".to_vec(),
            handshake("/ws").into_bytes(),
            said("hi"),
            frame(
                true,
                TEXT,
                br#"{"type":"join","room":"other","presence":true}"#,
            ),
            frame(false, TEXT, br#"{"type":"message","pay"#),
            frame(true, CONTINUATION, br#"load":"in two parts"}"#),
            frame(true, 0x9, b"ping"),
            frame(true, 0x8, &1000u16.to_be_bytes()),
        ]
        .concat();
        for _ in 0..200 {
            let end = chance.within(0..conversation.len() + 1);
            let mut client = siege.server.raw();
            client.try_send(&conversation[..end]);
            if chance.within(0..2) == 0 {
                // Some wait until the server has begun to answer.
                client.hears_within(Duration::from_millis(5));
            }
            client.reset();
        }
    });
}

#[test]
fn half_open_connections() {
    let mut siege = Siege::begin(&[]);
    let begun = handshake("/ws");
    // They never close: the server must.
    let mut silent: Vec<RawConnection> = (0..50)
        .map(|n| {
            let mut client = siege.server.raw();
            client.send(&begun[..n]);
            client
        })
        .collect();
    let half_closed: Vec<RawConnection> = (0..50)
        .map(|_| {
            let mut client = siege.server.raw();
            client.enter("/ws");
            client.shutdown_write();
            client
        })
        .collect();
    siege.serves("while they are there");
    for client in &mut silent {
        while client.hears_within(PATIENCE) && !ended(client) {}
    }
    // The other ends are still held here.
    siege.survives("half-open connections");
    drop((silent, half_closed));
}

#[test]
fn json_a_hundred_thousand_deep() {
    let mut siege = Siege::begin(&["--max-message-bytes=1MiB", "--outbox-bytes=8MiB"]);
    siege.endures("deep JSON", |siege| {
        let deep = 100_000;
        let arrays = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        let objects = format!("{}1{}", r#"{"a":"#.repeat(deep), "}".repeat(deep));
        for nested in [&arrays, &objects, &"[".repeat(deep)] {
            for text in [
                (*nested).clone(),
                format!(r#"{{"type":"message","payload":{nested}}}"#),
                format!(r#"{{"type":"message","payload":1,"unknown":{nested}}}"#),
                format!(r#"{{"type":{nested},"payload":1}}"#),
            ] {
                let mut attacker = siege.server.client();
                attacker.send_text(&text);
                let answer = attacker.next();
                assert_eq!(answer["type"], "error", "{answer}");
                attacker.send(json!({"type": "ping"}));
                attacker.next_of("pong");
            }
        }
    });
}

/// As wide, as long or as costly to hash as a message may be. Each is relayed or refused, and soon.
#[test]
fn json_that_swells() {
    const MESSAGE_BYTES: usize = 64 * 1024;
    let mut siege = Siege::begin(&[]);
    let fill = |piece: &str, head: &str, tail: &str| {
        let room = MESSAGE_BYTES - head.len() - tail.len();
        format!("{head}{}{tail}", piece.repeat(room / piece.len()))
    };
    let keys: String = (0..3000).map(|n| format!(r#","{n:x}":0"#)).collect();
    let payload = r#"{"type":"message","payload":"#;
    let bombs = [
        fill("[],", &format!("{payload}["), "0]}"),
        fill(r#"{"":0},"#, &format!("{payload}["), "0]}"),
        fill("9", &format!("{payload}-0."), "e-9999}"),
        fill(r"\u0000", &format!("{payload}\""), "\"}"),
        fill(" ", payload, "0}"),
        fill("1,", payload, "0}"),
        fill("\u{7f}", r#"{"type":"ping",""#, r#"":0}"#),
        fill(r"\ud83d\ude00", r#"{"id":""#, r#"","type":"ping"}"#),
        format!(r#"{{"type":"ping"{keys}}}"#),
        format!(r#"{{"type":"ping"{keys}{}}}"#, &keys[..keys.len() / 2]),
    ];
    siege.endures("JSON that swells", |siege| {
        let mut attacker = siege.server.client();
        for bomb in bombs.iter().cycle().take(20 * bombs.len()) {
            assert!(bomb.len() <= MESSAGE_BYTES, "{}", bomb.len());
            attacker.send_text(bomb);
            let answer = attacker.next_text();
            assert!(answer.len() < bomb.len() + 200, "{} bytes", answer.len());
        }
        attacker.close();
    });
}

#[test]
fn frames_that_declare_a_huge_length() {
    let mut siege = Siege::begin(&[]);
    siege.endures("huge lengths", |siege| {
        for length in [1 << 63, u64::MAX, (1 << 63) - 1, 1 << 32, 65_537] {
            for first in [0x80 | TEXT, TEXT, 0x80 | BINARY] {
                let mut attacker = siege.server.raw();
                attacker.enter("/ws");
                let mut header = vec![first, 0x80 | 127];
                header.extend(u64::to_be_bytes(length));
                header.extend([0; 4]);
                attacker.send(header);
                let code = loop {
                    let frame = attacker.frame().expect("closed without a Close frame");
                    if frame.opcode == 8 {
                        break frame.close_code();
                    }
                };
                assert!([1002, 1009].contains(&code), "{length:#x}: {code}");
            }
        }
    });
}

#[test]
fn ten_thousand_fragments_of_one_byte() {
    let mut siege = Siege::begin(&[]);
    siege.endures("fragments", |siege| {
        let text = "x".repeat(10_000 - r#"{"type":"message","payload":""}"#.len());
        let whole = json!({"type": "message", "payload": text}).to_string();
        assert_eq!(whole.len(), 10_000);
        let last = whole.len() - 1;
        let fragment = |(n, byte): (usize, u8)| {
            frame(n == last, if n == 0 { TEXT } else { CONTINUATION }, &[byte])
        };
        let mut patient = siege.server.raw();
        patient.enter("/ws");
        let fragments: Vec<u8> = whole.bytes().enumerate().flat_map(fragment).collect();
        patient.send(fragments);
        assert_eq!(patient.next()["payload"], text.as_str());

        // And with no end to them: neither empty ones nor too many bytes are collected for ever.
        let mut endless = siege.server.raw();
        endless.enter("/ws");
        endless.send(frame(false, TEXT, b"\""));
        endless.send(frame(false, CONTINUATION, b"").repeat(10_000));
        let over = frame(false, CONTINUATION, &[b'x'; 1000]);
        endless.try_send(over.repeat(66));
        assert_eq!(error_then_close(&mut endless), 1009);
        drop((patient, endless));
    });
}

#[test]
fn random_bytes_as_frames() {
    let mut chance = Chance::new();
    let mut siege = Siege::begin(&[]);
    siege.endures("random frames", |siege| {
        for _ in 0..300 {
            let mut attacker = siege.server.raw();
            attacker.upgrade("/ws");
            for _ in 0..7 {
                let bytes = random_frame(&mut chance);
                if !attacker.try_send(bytes) {
                    break;
                }
            }
            match chance.within(0..3) {
                0 => attacker.reset(),
                1 => attacker.shutdown_write(),
                _ => drop(attacker),
            }
        }
    });
}

/// Requests that are nearly right find other paths than bytes without any sense.
#[test]
fn nearly_correct_requests() {
    let mut chance = Chance::new();
    let mut siege = Siege::begin(&[]);
    siege.endures("nearly correct requests", |siege| {
        let right = [
            r#"{"type":"message","payload":{"a":[1,2.5,"x"]},"id":"1"}"#,
            r#"{"type":"custom_event","payload":null,"room":"lobby"}"#,
            r#"{"type":"join","room":"ops","presence":true,"id":"2"}"#,
            r#"{"type":"leave","room":"ops"}"#,
            r#"{"type":"presence","room":"lobby"}"#,
            r#"{"type":"ping","id":"\u00e9\u0000"}"#,
        ];
        for _ in 0..20 {
            let mut attacker = siege.server.raw();
            attacker.upgrade("/ws");
            for _ in 0..100 {
                let mut text = right[chance.within(0..right.len())].as_bytes().to_vec();
                for _ in 0..chance.within(0..4) {
                    let at = chance.within(0..text.len());
                    match chance.within(0..3) {
                        0 => text[at] = (chance.number() % 128) as u8,
                        1 => text.insert(at, b"{}[]\",:\\0"[chance.within(0..9)]),
                        _ => drop(text.remove(at)),
                    }
                }
                attacker.send_frame(true, TEXT, &text);
            }
            // Everything was ASCII text, so the connection has lasted, and every request was heard.
            attacker.send_frame(true, TEXT, br#"{"type":"ping","id":"the last"}"#);
            while attacker.next()["id"] != "the last" {}
        }
    });
}

#[test]
fn a_crowd_that_connects_and_leaves_at_once() {
    allow_many_sockets();
    let mut siege = Siege::begin(&[]);
    for _ in 0..4 {
        let crowd: Vec<RawConnection> = (0..100)
            .map(|_| {
                let mut client = siege.server.raw();
                client.send(handshake("/ws"));
                client
            })
            .collect();
        drop(crowd);
    }
    siege.survives("a crowd");
    let log = siege.server.log();
    eventually("each that came has left", || {
        let log = siege.server.log();
        let ends = log.matches(" disconnected: ").count();
        // The witness stays.
        (log.matches(" connected\n").count() == ends + 1).then_some(())
    });
    assert!(!log.contains("[ERROR]"), "{log}");
}

/// A header that is likely to be valid, and a payload that is likely not to be.
fn random_frame(chance: &mut Chance) -> Vec<u8> {
    let length = chance.within(0..300);
    let payload = chance.bytes(length);
    let opcode = [TEXT, BINARY, CONTINUATION, 0x8, 0x9, 0xA][chance.within(0..6)];
    match chance.within(0..4) {
        0 => payload,
        1 => frame(chance.within(0..2) == 0, opcode, &payload),
        2 => {
            let mut bytes = frame(true, opcode, &payload);
            let at = chance.within(0..bytes.len().min(14));
            bytes[at] = chance.number() as u8;
            bytes
        }
        _ => {
            let ascii: Vec<u8> = payload.iter().map(|byte| 32 + byte % 95).collect();
            frame(true, TEXT, &ascii)
        }
    }
}

/// Takes what was sent; whether the server has closed.
fn ended(client: &mut RawConnection) -> bool {
    !matches!(client.socket.read(&mut [0; 4096]), Ok(1..))
}

/// The code of the Close that comes, after an error that says why.
fn error_then_close(client: &mut RawConnection) -> u16 {
    let error = client.next();
    assert_eq!(error["payload"]["code"], "message_too_large", "{error}");
    loop {
        let frame = client.frame().expect("closed without a Close frame");
        if frame.opcode == 8 {
            return frame.close_code();
        }
    }
}
