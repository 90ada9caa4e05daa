//! Hostile or broken WebSocket clients: after each attack the server serves and has freed all resources.

use std::io::Read;
use std::time::Duration;

use serde_json::json;

use crate::support::{
    AttackedServer, BINARY, CONTINUATION, RawConnection, Seed, TEXT, TIMEOUT, TestClient,
    allow_many_sockets, frame, handshake, message_frame, random_bytes, request, wait_until,
};
use rand::RngExt;
use rand::rngs::StdRng;

#[test]
fn random_bytes_instead_of_a_request_are_survived() {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut attacked = AttackedServer::start(&[]);
    attacked.withstands("garbage", |attacked| {
        let mut open = Vec::new();
        for _ in 0..200 {
            let length = rng.random_range(1..3000);
            let bytes = random_bytes(&mut rng, length);
            let mut client = attacked.server.raw();
            client.try_send(bytes);
            open.push(client);
        }
        attacked.assert_serves("meanwhile");
        // The server closes each: at once, or because no complete head comes.
        for client in &mut open {
            while client.has_input_within(TIMEOUT) && !is_closed(client) {}
        }
        drop(open);
    });
}

#[test]
fn resets_at_any_point_are_survived() {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut attacked = AttackedServer::start(&[]);
    attacked.withstands("resets", |attacked| {
        let conversation = [
            request("GET", "/assets/page/page.js", &[]).into_bytes(),
            request("POST", "/health", &["Content-Length: 5"]).into_bytes(),
            b"hello".to_vec(),
            handshake("/ws").into_bytes(),
            message_frame("hi"),
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
            let end = rng.random_range(0..conversation.len() + 1);
            let mut client = attacked.server.raw();
            client.try_send(&conversation[..end]);
            if rng.random_range(0..2) == 0 {
                // Some clients reset only after the server has started to respond.
                client.has_input_within(Duration::from_millis(5));
            }
            client.reset();
        }
    });
}

#[test]
fn half_open_connections_are_closed_by_the_server() {
    let mut attacked = AttackedServer::start(&[]);
    let head = handshake("/ws");
    // These clients never close: the server must.
    let mut silent: Vec<RawConnection> = (0..50)
        .map(|n| {
            let mut client = attacked.server.raw();
            client.send(&head[..n]);
            client
        })
        .collect();
    let half_closed: Vec<_> = (0..50)
        .map(|_| {
            let client = attacked.server.passive_client("/ws");
            client.shutdown_write();
            client
        })
        .collect();
    attacked.assert_serves("meanwhile");
    for client in &mut silent {
        while client.has_input_within(TIMEOUT) && !is_closed(client) {}
    }
    // The clients' ends are still open here.
    attacked.assert_recovers("half-open connections");
    drop((silent, half_closed));
}

#[test]
fn json_nested_a_hundred_thousand_deep_is_refused() {
    let mut attacked = AttackedServer::start(&["--max-message-bytes=1MiB", "--outbox-bytes=8MiB"]);
    attacked.withstands("deep JSON", |attacked| {
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
                let mut attacker = attacked.server.client();
                attacker.send_text(&text);
                let reply = attacker.next();
                assert_eq!(reply["type"], "error", "{reply}");
                attacker.send_json(json!({"type": "ping"}));
                attacker.next_of("pong");
            }
        }
    });
}

/// Each message is as wide, as long or as costly to hash as allowed. Each is relayed or refused without delay.
#[test]
fn json_bombs_do_not_grow() {
    const MESSAGE_BYTES: usize = 64 * 1024;
    let mut attacked = AttackedServer::start(&[]);
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
    attacked.withstands("JSON bombs", |attacked| {
        let mut attacker = attacked.server.client();
        for bomb in bombs.iter().cycle().take(20 * bombs.len()) {
            assert!(bomb.len() <= MESSAGE_BYTES, "{}", bomb.len());
            attacker.send_text(bomb);
            let reply = attacker.next_text();
            assert!(reply.len() < bomb.len() + 200, "{} bytes", reply.len());
        }
        attacker.close();
    });
}

#[test]
fn frames_that_declare_a_huge_length_are_refused() {
    let mut attacked = AttackedServer::start(&[]);
    attacked.withstands("huge lengths", |attacked| {
        for length in [1 << 63, u64::MAX, (1 << 63) - 1, 1 << 32, 65_537] {
            for first in [0x80 | TEXT, TEXT, 0x80 | BINARY] {
                let mut attacker = attacked.server.passive_client("/ws");
                let mut header = vec![first, 0x80 | 127];
                header.extend(u64::to_be_bytes(length));
                header.extend([0; 4]);
                attacker.send(header);
                let code = attacker.close_code_if_any().expect("a Close frame");
                assert!([1002, 1009].contains(&code), "{length:#x}: {code}");
            }
        }
    });
}

#[test]
fn ten_thousand_fragments_are_joined_and_endless_ones_refused() {
    let mut attacked = AttackedServer::start(&[]);
    attacked.withstands("fragments", |attacked| {
        let text = "x".repeat(10_000 - r#"{"type":"message","payload":""}"#.len());
        let whole = json!({"type": "message", "payload": text}).to_string();
        assert_eq!(whole.len(), 10_000);
        let last = whole.len() - 1;
        let fragment = |(n, byte): (usize, u8)| {
            frame(n == last, if n == 0 { TEXT } else { CONTINUATION }, &[byte])
        };
        let mut client = attacked.server.passive_client("/ws");
        let fragments: Vec<u8> = whole.bytes().enumerate().flat_map(fragment).collect();
        client.send(fragments);
        assert_eq!(client.next()["payload"], text.as_str());

        // A message that never ends: its fragments are collected up to the limit only.
        let mut endless = attacked.server.passive_client("/ws");
        endless.send(frame(false, TEXT, b"\""));
        endless.send(frame(false, CONTINUATION, b"").repeat(10_000));
        let over = frame(false, CONTINUATION, &[b'x'; 1000]);
        endless.try_send(over.repeat(66));
        assert_eq!(error_then_close(&mut endless), 1009);
        drop((client, endless));
    });
}

#[test]
fn random_frames_are_survived() {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut attacked = AttackedServer::start(&[]);
    attacked.withstands("random frames", |attacked| {
        for _ in 0..300 {
            let mut attacker = attacked.server.raw();
            attacker.upgrade("/ws");
            for _ in 0..7 {
                let bytes = random_frame(&mut rng);
                if !attacker.try_send(bytes) {
                    break;
                }
            }
            match rng.random_range(0..3) {
                0 => attacker.reset(),
                1 => attacker.shutdown_write(),
                _ => drop(attacker),
            }
        }
    });
}

/// Nearly correct requests reach other code than random bytes do.
#[test]
fn nearly_correct_requests_are_answered_on_the_same_connection() {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut attacked = AttackedServer::start(&[]);
    attacked.withstands("nearly correct requests", |attacked| {
        let correct = [
            r#"{"type":"message","payload":{"a":[1,2.5,"x"]},"id":"1"}"#,
            r#"{"type":"custom_event","payload":null,"room":"lobby"}"#,
            r#"{"type":"join","room":"ops","presence":true,"id":"2"}"#,
            r#"{"type":"leave","room":"ops"}"#,
            r#"{"type":"presence","room":"lobby"}"#,
            r#"{"type":"ping","id":"\u00e9\u0000"}"#,
        ];
        for _ in 0..20 {
            let mut attacker = attacked.server.raw();
            attacker.upgrade("/ws");
            for _ in 0..100 {
                let mut text = correct[rng.random_range(0..correct.len())]
                    .as_bytes()
                    .to_vec();
                for _ in 0..rng.random_range(0..4) {
                    let at = rng.random_range(0..text.len());
                    match rng.random_range(0..3) {
                        0 => text[at] = (rng.random::<u64>() % 128) as u8,
                        1 => text.insert(at, b"{}[]\",:\\0"[rng.random_range(0..9)]),
                        _ => drop(text.remove(at)),
                    }
                }
                attacker.send_frame(true, TEXT, &text);
            }
            // All frames were ASCII text, so the connection is still open and every request was read.
            attacker.send_frame(true, TEXT, br#"{"type":"ping","id":"the last"}"#);
            while attacker.next_json()["id"] != "the last" {}
        }
    });
}

#[test]
fn crowd_that_connects_and_leaves_is_disconnected_and_logged() {
    allow_many_sockets();
    let mut attacked = AttackedServer::start(&[]);
    for _ in 0..4 {
        let crowd: Vec<RawConnection> = (0..100)
            .map(|_| {
                let mut client = attacked.server.raw();
                client.send(handshake("/ws"));
                client
            })
            .collect();
        drop(crowd);
    }
    attacked.assert_recovers("a crowd");
    let log = attacked.server.log();
    wait_until("each client has disconnected", || {
        let log = attacked.server.log();
        let ends = log.matches(" disconnected: ").count();
        // The bystander stays.
        log.matches(" connected\n").count() == ends + 1
    });
    assert!(!log.contains("[ERROR]"), "{log}");
}

/// Returns a frame whose header is likely valid and whose payload is likely not.
fn random_frame(rng: &mut StdRng) -> Vec<u8> {
    let length = rng.random_range(0..300);
    let payload = random_bytes(rng, length);
    let opcode = [TEXT, BINARY, CONTINUATION, 0x8, 0x9, 0xA][rng.random_range(0..6)];
    match rng.random_range(0..4) {
        0 => payload,
        1 => frame(rng.random_range(0..2) == 0, opcode, &payload),
        2 => {
            let mut bytes = frame(true, opcode, &payload);
            let at = rng.random_range(0..bytes.len().min(14));
            bytes[at] = rng.random::<u64>() as u8;
            bytes
        }
        _ => {
            let ascii: Vec<u8> = payload.iter().map(|byte| 32 + byte % 95).collect();
            frame(true, TEXT, &ascii)
        }
    }
}

/// Reads once; returns whether the server has closed.
fn is_closed(client: &mut RawConnection) -> bool {
    !matches!(client.socket.read(&mut [0; 4096]), Ok(1..))
}

/// Reads the error with the reason, then the Close, and returns its code.
fn error_then_close(client: &mut TestClient) -> u16 {
    let error = client.next();
    assert_eq!(error["payload"]["code"], "message_too_large", "{error}");
    client.close_code_if_any().expect("a Close frame")
}
