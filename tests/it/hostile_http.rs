//! Hostile HTTP clients: slow, endless and forged requests. After each attack the server serves and has freed all
//! resources.

use std::thread;

use serde_json::json;

use crate::support::{
    AttackedServer, Certificate, RawConnection, TestServer, allow_many_sockets, handshake, request,
};

/// A header line that must not appear in a response or in the log.
const INJECTED: &str = "X-Injected: yes";

#[test]
fn five_hundred_slow_heads_get_408() {
    allow_many_sockets();
    let mut attacked = AttackedServer::start(&[]);
    attacked.withstands("slow heads", |attacked| {
        let mut slow: Vec<RawConnection> = (0..500)
            .map(|_| {
                let mut client = attacked.server.raw();
                client.send("GET /health HTTP/1.1\r\nHost");
                client
            })
            .collect();
        attacked.assert_serves("meanwhile");
        // Another byte does not extend the deadline.
        for client in &mut slow {
            client.try_send(":");
        }
        for client in &mut slow {
            assert_eq!(client.response().status, 408);
        }
    });
}

/// Connected clients are served meanwhile; new ones get 503 until the idle ones time out.
#[test]
fn idle_sockets_up_to_the_limit_time_out() {
    const CONNECTIONS: usize = 100;
    allow_many_sockets();
    let mut attacked = AttackedServer::start(&[&format!("--max-connections={CONNECTIONS}")]);
    attacked.withstands("idle sockets", |attacked| {
        // Bystander and monitor are connected already.
        let idle: Vec<_> = (2..CONNECTIONS).map(|_| attacked.server.raw()).collect();
        let refused: Vec<_> = (0..200).map(|_| attacked.server.raw()).collect();
        for mut client in refused {
            let response = client.read_to_end();
            assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        }
        attacked.broadcast("meanwhile");
        for mut client in idle {
            client.assert_closed();
        }
    });
}

#[test]
fn tls_hello_on_a_plain_port_gets_400() {
    let mut attacked = AttackedServer::start(&[]);
    let hello = Certificate::client_hello();
    attacked.withstands("TLS hellos", |attacked| {
        for round in 0..200 {
            let mut client = attacked.server.raw();
            // The whole hello, or its first byte only.
            client.send(&hello[..if round % 2 == 0 { hello.len() } else { 1 }]);
            let response = client.response();
            assert_eq!(response.status, 400);
            assert!(response.text().contains("TLS"), "{}", response.text());
            client.assert_closed();
        }
    });
}

#[test]
fn huge_heads_are_survived() {
    let mut attacked = AttackedServer::start(&[]);
    let line = format!("A: {}\r\n", "b".repeat(1000));
    let many = "a: b\r\n".repeat(2000);
    let address = attacked.server.address();
    attacked.withstands("huge heads", |attacked| {
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
                        // Until the server closes.
                        _ => while client.try_send(line.repeat(100)) {},
                    }
                });
            }
            attacked.assert_serves("meanwhile");
        });
    });
}

/// Each body is as long as allowed and lacks its last byte.
#[test]
fn bodies_that_never_end_get_408() {
    const BODY_BYTES: usize = 64 * 1024;
    let mut attacked = AttackedServer::start(&[]);
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
    attacked.withstands("endless bodies", |attacked| {
        let mut endless: Vec<RawConnection> = (0..40)
            .map(|_| {
                let mut client = attacked.server.raw();
                client.send(&head);
                client.send(&body);
                client
            })
            .collect();
        attacked.assert_serves("meanwhile");
        for client in &mut endless {
            assert_eq!(client.response().status, 408);
        }
        for _ in 0..100 {
            let mut chunked = attacked.server.raw();
            chunked.send(request("POST", target, &["Transfer-Encoding: chunked"]));
            chunked.try_send("ffffffff\r\n");
            assert_eq!(chunked.response().status, 413);
        }
    });
}

// Attack: line breaks in every encoding, in every part of a request that can hold a name.
// Invariants: one response each, without the injected header; no injected line in the log.
#[test]
fn line_breaks_in_names_forge_no_header_and_no_log_line() {
    let mut attacked = AttackedServer::start(&[]);
    attacked.withstands("line breaks in names", |attacked| {
        let server = &attacked.server;
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
                assert_one_response(server, &request("GET", &target, &["Connection: close"]));
                if target.starts_with("/ws") {
                    assert_one_response(server, &handshake(&target));
                }
            }
            // A session may be any text, because it is never sent back.
            let target = format!("/ws?session={name}");
            attacked.server.client_at(&target).close();
        }
        for name in [
            "a\r\nX-Injected: yes\r\n\r\nb",
            "a\nb",
            "a\rb",
            "a\u{2028}b",
        ] {
            let mut client = attacked.server.client();
            for kind in ["join", "leave", "history", "presence", "message"] {
                client.send_json(json!({"type": kind, "room": name, "payload": 1, "id": "1"}));
                assert_eq!(client.expect_error(), "invalid_room", "{kind}");
            }
            client.send_json(json!({"type": name}));
            assert_eq!(client.expect_error(), "unknown_type");
            client.close();
        }
        let log = attacked.server.log();
        assert!(
            !log.lines().any(|line| line.starts_with("X-Injected")),
            "{log}"
        );
    });
}

/// An id and a payload may be any text. Readers that split the stream into lines must still find one event.
#[test]
fn line_breaks_in_ids_and_payloads_forge_no_event() {
    let mut attacked = AttackedServer::start(&[]);
    attacked.withstands("line breaks in ids", |attacked| {
        let mut events = attacked.server.raw();
        // HTTP/1.0 has no chunks between the events.
        events.send("GET /rooms/lobby/events HTTP/1.0\r\n\r\n");
        events.read_until("}\n\n");
        let mut client = attacked.server.client();
        let id = "1\r\n\r\ndata: forged\r\nid: 9";
        client.send_json(json!({"type": "message", "payload": id, "id": id}));
        for _ in ["the ack", "the message"] {
            assert_eq!(client.next()["id"], id);
        }
        // Line breaks between the tokens of a payload are kept.
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

/// Asserts that the response is an error or an empty list, has no injected header, and that no second response follows.
fn assert_one_response(server: &TestServer, request: &str) {
    let mut client = server.raw();
    client.send(request);
    let response = client.read_to_end();
    let (head, _) = response.split_once("\r\n\r\n").expect("a head");
    // `after` may be any text, so its response is 200.
    let known = ["HTTP/1.1 4", "HTTP/1.1 200 "];
    assert!(
        known.iter().any(|known| head.starts_with(known)),
        "{request}: {head}"
    );
    assert!(!head.contains(INJECTED), "{request}: {head}");
    assert_eq!(
        response.matches("HTTP/1.1 ").count(),
        1,
        "{request}: {response}"
    );
}
