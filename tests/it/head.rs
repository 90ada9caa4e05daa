//! Requests that come slowly, are too large or never end: each has a bound, and holds up nobody else.

use std::time::{Duration, Instant};

use crate::support::{PATIENCE, RawConnection, TestServer, request};

/// Between two bytes of a client that trickles.
const TRICKLE: Duration = Duration::from_millis(20);

#[test]
fn a_head_may_come_byte_by_byte() {
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
fn a_head_may_come_in_two_parts_split_anywhere() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    let head = request("GET", "/health", &[]);
    for at in 1..head.len() {
        // Together with the end of the last one: what belongs to the next is kept.
        client.send(&head[..at]);
        client.send(format!("{}{head}", &head[at..]));
        assert_eq!(client.response().status, 200, "split at {at}");
        assert_eq!(client.response().status, 200, "split at {at}");
    }
}

#[test]
fn a_head_of_16_kib_is_taken_and_one_byte_more_is_431() {
    let server = TestServer::start(&[]);
    let fixed = request("GET", "/health", &["A: "]).len();
    for (length, status) in [(16 * 1024, 200), (16 * 1024 + 1, 431)] {
        let line = format!("A: {}", "a".repeat(length - fixed));
        let head = request("GET", "/health", &[&line]);
        assert_eq!(head.len(), length);
        assert_eq!(answer_to(&server, &head), status, "{length} bytes");
    }
    let long_target = request("GET", &format!("/{}", "a".repeat(16 * 1024)), &[]);
    assert_eq!(answer_to(&server, &long_target), 431);
}

/// Without the blank line it never is complete, and it must not be collected for ever.
#[test]
fn a_head_that_never_ends_is_431() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    client.send("GET /health HTTP/1.1\r\n");
    while client.try_send("A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n".repeat(100)) {
        if client.hears_within(Duration::from_millis(1)) {
            break;
        }
    }
    let answer = client.response();
    assert_eq!(
        (answer.status, answer.header("Connection")),
        (431, Some("close"))
    );
    assert_eq!(answer.error_code(), "head_too_large");
    client.assert_closed();
}

#[test]
fn a_hundred_headers_are_taken_and_one_more_is_431() {
    let server = TestServer::start(&[]);
    // `Host` is one of them.
    for (others, status) in [(99, 200), (100, 431)] {
        let head = request("GET", "/health", &vec!["A: b"; others]);
        assert_eq!(answer_to(&server, &head), status, "{others} and Host");
    }
}

#[test]
fn a_head_that_stops_half_way_is_408() {
    let server = TestServer::start(&["--head-timeout=0.3"]);
    for begun in [
        "G",
        "GET /health HTTP/1.1\r\n",
        "GET /health HTTP/1.1\r\nHost: test\r\n",
    ] {
        let mut client = server.raw();
        client.send(begun);
        let answer = client.response();
        assert_eq!(answer.status, 408, "{begun:?}");
        assert_eq!(answer.header("Connection"), Some("close"));
        assert_eq!(answer.error_code(), "request_timeout");
        client.assert_closed();
    }
}

/// Each byte would buy more time if the time were counted from the last one.
#[test]
fn a_head_that_trickles_is_408_all_the_same() {
    let server = TestServer::start(&["--head-timeout=0.5"]);
    let mut client = server.raw();
    client.send("GET /health HTTP/1.1\r\nA: ");
    trickle(&mut client);
    assert_eq!(client.response().status, 408);
}

#[test]
fn the_second_head_on_a_connection_has_the_same_time() {
    let server = TestServer::start(&["--head-timeout=0.5", "--keep-alive=600"]);
    let mut client = server.raw();
    assert_eq!(client.get("/health").status, 200);
    client.send("GET /health HTTP/1.1\r\nA: ");
    trickle(&mut client);
    assert_eq!(client.response().status, 408);
}

#[test]
fn whoever_connects_and_says_nothing_is_closed_without_a_word() {
    let server = TestServer::start(&["--head-timeout=0.3"]);
    let mut client = server.raw();
    client.assert_closed();
}

#[test]
fn a_body_over_the_limit_of_its_route_is_413() {
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
        let answer = client.response();
        assert_eq!(
            (answer.status, answer.header("Connection")),
            (413, Some("close")),
            "{method} {target} {length}"
        );
        assert_eq!(answer.error_code(), "message_too_large");
    }
}

/// The answer comes although the client is still busy sending.
#[test]
fn whoever_sends_a_body_that_is_too_long_can_read_why_not() {
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
fn a_body_that_never_ends_is_408() {
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

/// The status of the answer, after which the server goes on or closes as it should.
fn answer_to(server: &TestServer, head: &str) -> u16 {
    let mut client = server.raw();
    client.send(head);
    let status = client.response().status;
    match status {
        200 => assert_eq!(client.get("/nothing").status, 404),
        _ => client.assert_closed(),
    }
    status
}

/// Sends byte after byte until the server has had enough.
fn trickle(client: &mut RawConnection) {
    let begun = Instant::now();
    while client.try_send("x") && !client.hears_within(TRICKLE) {
        assert!(begun.elapsed() < PATIENCE, "it may trickle for ever");
    }
}
