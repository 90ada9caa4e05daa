//! Limits of HTTP requests: heads and bodies that come slowly, are too large or never end.

use std::time::{Duration, Instant};

use crate::support::{RawConnection, TIMEOUT, TestServer, request};

/// The time between two bytes of a client that trickles.
const TRICKLE: Duration = Duration::from_millis(20);

#[test]
fn head_sent_byte_by_byte_is_read() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    for _ in 0..2 {
        for byte in request("GET", "/health", &["A: b", "Content-Length: 3"]).bytes() {
            client.send([byte]);
        }
        client.send("a");
        client.send("bc");
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn head_split_anywhere_is_read() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    let head = request("GET", "/health", &[]);
    for at in 1..head.len() {
        // The second part comes with the whole next head, which must be kept.
        client.send(&head[..at]);
        client.send(format!("{}{head}", &head[at..]));
        assert_eq!(client.response().status, 200, "split at {at}");
        assert_eq!(client.response().status, 200, "split at {at}");
    }
}

#[test]
fn head_over_16_kib_gets_431() {
    let server = TestServer::start(&[]);
    let fixed = request("GET", "/health", &["A: "]).len();
    for (length, status) in [(16 * 1024, 200), (16 * 1024 + 1, 431)] {
        let line = format!("A: {}", "a".repeat(length - fixed));
        let head = request("GET", "/health", &[&line]);
        assert_eq!(head.len(), length);
        assert_eq!(status_of(&server, &head), status, "{length} bytes");
    }
    let long_target = request("GET", &format!("/{}", "a".repeat(16 * 1024)), &[]);
    assert_eq!(status_of(&server, &long_target), 431);
}

/// A head without its blank line must not be buffered without limit.
#[test]
fn endless_head_gets_431() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    client.send("GET /health HTTP/1.1\r\n");
    while client.try_send("A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n".repeat(100)) {
        if client.has_input_within(Duration::from_millis(1)) {
            break;
        }
    }
    let response = client.response();
    assert_eq!(
        (response.status, response.header("Connection")),
        (431, Some("close"))
    );
    assert_eq!(response.error_code(), "head_too_large");
    client.assert_closed();
}

#[test]
fn more_than_a_hundred_headers_get_431() {
    let server = TestServer::start(&[]);
    // `Host` is one of them.
    for (others, status) in [(99, 200), (100, 431)] {
        let head = request("GET", "/health", &vec!["A: b"; others]);
        assert_eq!(status_of(&server, &head), status, "{others} and Host");
    }
}

#[test]
fn incomplete_head_gets_408() {
    let server = TestServer::start(&["--head-timeout=0.3"]);
    for sent in [
        "G",
        "GET /health HTTP/1.1\r\n",
        "GET /health HTTP/1.1\r\nHost: test\r\n",
    ] {
        let mut client = server.raw();
        client.send(sent);
        let response = client.response();
        assert_eq!(response.status, 408, "{sent:?}");
        assert_eq!(response.header("Connection"), Some("close"));
        assert_eq!(response.error_code(), "request_timeout");
        client.assert_closed();
    }
}

/// The deadline counts from the first byte, not from the last one.
#[test]
fn trickling_head_gets_408() {
    let server = TestServer::start(&["--head-timeout=0.5"]);
    let mut client = server.raw();
    client.send("GET /health HTTP/1.1\r\nA: ");
    trickle(&mut client);
    assert_eq!(client.response().status, 408);
}

#[test]
fn second_head_on_a_connection_has_the_same_deadline() {
    let server = TestServer::start(&["--head-timeout=0.5", "--keep-alive=600"]);
    let mut client = server.raw();
    assert_eq!(client.get("/health").status, 200);
    client.send("GET /health HTTP/1.1\r\nA: ");
    trickle(&mut client);
    assert_eq!(client.response().status, 408);
}

#[test]
fn silent_connection_is_closed_without_a_response() {
    let server = TestServer::start(&["--head-timeout=0.3"]);
    let mut client = server.raw();
    client.assert_closed();
}

#[test]
fn body_over_the_limit_of_its_route_gets_413() {
    let server = TestServer::start(&[]);
    for (method, target, length) in [
        ("GET", "/health", "16385"),
        ("GET", "/health", "99999999999"),
        ("POST", "/rooms/lobby/messages", "65537"),
        ("POST", "/rooms/lobby/messages", "99999999999"),
    ] {
        let mut client = server.raw();
        client.send(request(
            method,
            target,
            &[&format!("Content-Length: {length}")],
        ));
        let response = client.response();
        assert_eq!(
            (response.status, response.header("Connection")),
            (413, Some("close")),
            "{method} {target} {length}"
        );
        assert_eq!(response.error_code(), "message_too_large");
    }
}

/// The client is still sending when the response comes.
#[test]
fn client_that_sends_too_long_a_body_can_read_the_413() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    client.send(request("GET", "/health", &["Content-Length: 1500000"]));
    for _ in 0..15 {
        client.send([b'x'; 100_000]);
    }
    assert_eq!(client.response().status, 413);
    client.shutdown_write();
    client.assert_closed();
}

#[test]
fn endless_body_gets_408() {
    let server = TestServer::start(&["--head-timeout=0.5"]);
    for sent in ["", "half"] {
        let mut client = server.raw();
        client.send(request("GET", "/health", &["Content-Length: 10000"]) + sent);
        assert_eq!(client.response().status, 408, "{sent:?}");
        client.assert_closed();
    }
    let mut client = server.raw();
    client.send(request("GET", "/health", &["Content-Length: 10000"]));
    trickle(&mut client);
    assert_eq!(client.response().status, 408);
}

/// Returns the status of the response. Asserts that the connection stays open after 200 and closes otherwise.
fn status_of(server: &TestServer, head: &str) -> u16 {
    let mut client = server.raw();
    client.send(head);
    let status = client.response().status;
    match status {
        200 => assert_eq!(client.get("/nothing").status, 404),
        _ => client.assert_closed(),
    }
    status
}

/// Sends byte after byte until the server responds or closes.
fn trickle(client: &mut RawConnection) {
    let start = Instant::now();
    while client.try_send("x") && !client.has_input_within(TRICKLE) {
        assert!(start.elapsed() < TIMEOUT, "the server never responds");
    }
}
