//! Clients that mean harm before any WebSocket: slow, endless and forged requests. After each of them the
//! server serves, and holds nothing of theirs.

use std::thread;

use serde_json::json;

use crate::support::{
    Certificate, RawConnection, Siege, TestServer, allow_many_sockets, handshake, request,
};

/// What would show that a line of a client's has become a line of the server's.
const INJECTED: &str = "X-Injected: yes";

#[test]
fn five_hundred_slow_heads() {
    allow_many_sockets();
    let mut siege = Siege::begin(&[]);
    siege.endures("slow heads", |siege| {
        let mut slow: Vec<RawConnection> = (0..500)
            .map(|_| {
                let mut client = siege.server.raw();
                client.send("GET /health HTTP/1.1\r\nHost");
                client
            })
            .collect();
        siege.serves("while they are there");
        // A byte now and then buys no time.
        for client in &mut slow {
            client.try_send(":");
        }
        for client in &mut slow {
            assert_eq!(client.response().status, 408);
        }
    });
}

/// Those who are in are served all the while; whoever comes is told to come back, and can soon.
#[test]
fn idle_sockets_to_the_cap() {
    const PLACES: usize = 100;
    allow_many_sockets();
    let mut siege = Siege::begin(&[&format!("--max-connections={PLACES}")]);
    siege.endures("idle sockets", |siege| {
        // The witness and the monitor are in already.
        let idle: Vec<_> = (2..PLACES).map(|_| siege.server.raw()).collect();
        let refused: Vec<_> = (0..200).map(|_| siege.server.raw()).collect();
        for mut one in refused {
            let answer = one.read_to_end();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        }
        siege.broadcast("while they are there");
        for mut one in idle {
            one.assert_closed();
        }
    });
}

#[test]
fn a_tls_hello_on_a_plain_port() {
    let mut siege = Siege::begin(&[]);
    let hello = Certificate::client_hello();
    siege.endures("TLS hellos", |siege| {
        for round in 0..200 {
            let mut client = siege.server.raw();
            // Whole, or no more than its first byte.
            client.send(&hello[..if round % 2 == 0 { hello.len() } else { 1 }]);
            let answer = client.response();
            assert_eq!(answer.status, 400);
            assert!(answer.text().contains("TLS"), "{}", answer.text());
            client.assert_closed();
        }
    });
}

#[test]
fn heads_of_any_size() {
    let mut siege = Siege::begin(&[]);
    let line = format!("A: {}\r\n", "b".repeat(1000));
    let many = "a: b\r\n".repeat(2000);
    let address = siege.server.address();
    siege.endures("huge heads", |siege| {
        thread::scope(|scope| {
            for round in 0..100 {
                let (line, many) = (&line, &many);
                scope.spawn(move || {
                    let mut client = RawConnection::connect(address);
                    client.send("GET /health HTTP/1.1\r\nHost: test\r\n");
                    match round % 4 {
                        0 => drop(client.try_send(many)),
                        1 => drop(client.try_send("x".repeat(1 << 20))),
                        2 => drop(client.try_send("\u{fffd}".repeat(1 << 18))),
                        // Until the server has had enough.
                        _ => while client.try_send(line.repeat(100)) {},
                    }
                });
            }
            siege.serves("while they are there");
        });
    });
}

/// As much as a body may be, in each of them, but for its last byte.
#[test]
fn bodies_that_never_end() {
    const BODY_BYTES: usize = 64 * 1024;
    let mut siege = Siege::begin(&[]);
    let target = "/rooms/lobby/messages";
    let head = request(
        "POST",
        target,
        &[
            "Content-Type: application/json",
            &format!("Content-Length: {BODY_BYTES}"),
        ],
    );
    let body = vec![b' '; BODY_BYTES - 1];
    siege.endures("endless bodies", |siege| {
        let mut endless: Vec<RawConnection> = (0..40)
            .map(|_| {
                let mut client = siege.server.raw();
                client.send(&head);
                client.send(&body);
                client
            })
            .collect();
        siege.serves("while they are there");
        for client in &mut endless {
            assert_eq!(client.response().status, 408);
        }
        for _ in 0..100 {
            let mut chunked = siege.server.raw();
            chunked.send(request("POST", target, &["Transfer-Encoding: chunked"]));
            chunked.try_send("ffffffff\r\n");
            assert_eq!(chunked.response().status, 411);
        }
    });
}

/// Wherever a client may name something, in each way that a line break can be written.
#[test]
fn line_breaks_in_names() {
    let mut siege = Siege::begin(&[]);
    siege.endures("line breaks in names", |siege| {
        let server = &siege.server;
        for encoded in ["%0d%0a", "%0D%0A", "%0a", "%0d", "%E2%80%A8", "%00"] {
            let name = format!("a{encoded}X-Injected:%20yes{encoded}{encoded}b");
            for target in [
                format!("/{name}"),
                format!("/rooms/{name}"),
                format!("/rooms/{name}/messages"),
                format!("/rooms/{name}/events"),
                format!("/rooms?after={name}"),
                format!("/rooms/lobby/messages?since={name}"),
                format!("/ws?room={name}"),
                format!("/ws?since={name}"),
                format!("/ws?epoch={name}&since=1"),
                format!("/assets/{name}"),
            ] {
                answered_in_one_piece(server, &request("GET", &target, &["Connection: close"]));
                if target.starts_with("/ws") {
                    answered_in_one_piece(server, &handshake(&target));
                }
            }
            // A session is never repeated, and may be any text.
            let target = format!("/ws?session={name}");
            siege.server.client_at(&target).close();
        }
        for name in [
            "a\r\nX-Injected: yes\r\n\r\nb",
            "a\nb",
            "a\rb",
            "a\u{2028}b",
        ] {
            let mut client = siege.server.client();
            for kind in ["join", "leave", "history", "presence", "message"] {
                client.send(json!({"type": kind, "room": name, "payload": 1, "id": "1"}));
                assert_eq!(client.expect_error(), "invalid_room", "{kind}");
            }
            client.send(json!({"type": name}));
            assert_eq!(client.expect_error(), "unknown_type");
            client.close();
        }
        let log = siege.server.log();
        assert!(
            !log.lines().any(|line| line.starts_with("X-Injected")),
            "{log}"
        );
    });
}

/// An id may be any text, and so may a payload: whoever reads them as lines finds one event all the same.
#[test]
fn line_breaks_in_what_is_relayed() {
    let mut siege = Siege::begin(&[]);
    siege.endures("line breaks in ids", |siege| {
        let mut events = siege.server.raw();
        events.send(request("GET", "/rooms/lobby/events", &[]));
        events.read_until("}\n\n");
        let mut client = siege.server.client();
        let id = "1\r\n\r\ndata: forged\r\nid: 9";
        client.send(json!({"type": "message", "payload": id, "id": id}));
        for _ in ["the ack", "the message"] {
            assert_eq!(client.next()["id"], id);
        }
        // Between tokens line breaks stay, as all of a payload does.
        client.send_text("{\"type\":\"message\",\"payload\":[1,\r\n\r\n2,\n\n\"data: forged\"]}");
        client.next_of("message");
        client.say("the end");
        client.expect("the end");
        let stream = events.read_until("the end");
        let lines = stream.split(['\r', '\n']);
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        let data = |line: &&str| line.starts_with("data: ") || line.starts_with("id: ");
        assert!(
            lines.iter().all(|line| data(line) || line.starts_with(':')),
            "{stream}"
        );
        assert!(
            !lines.contains(&"data: forged") && !lines.contains(&"id: 9"),
            "{stream}"
        );
        client.close();
    });
}

/// Nothing of the attack stands on a line of its own, and no second answer follows.
fn answered_in_one_piece(server: &TestServer, request: &str) {
    let mut client = server.raw();
    client.send(request);
    let answer = client.read_to_end();
    let (head, _) = answer.split_once("\r\n\r\n").expect("a head");
    // A name to go on after may be any text, and is in no room's list.
    let known = ["HTTP/1.1 4", "HTTP/1.1 200 "];
    assert!(
        known.iter().any(|known| head.starts_with(known)),
        "{request}: {head}"
    );
    assert!(!head.contains(INJECTED), "{request}: {head}");
    assert_eq!(
        answer.matches("HTTP/1.1 ").count(),
        1,
        "{request}: {answer}"
    );
}
