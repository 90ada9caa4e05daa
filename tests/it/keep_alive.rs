//! Connections that carry several requests: in their order, each with its time, and until one of both sides ends it.

use std::time::Duration;

use crate::support::{TestServer, request};

#[test]
fn one_connection_carries_many_requests() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    for _ in 0..50 {
        let answer = client.get("/health");
        assert_eq!((answer.status, answer.header("Connection")), (200, None));
    }
    assert_eq!(server.total("connections"), 2);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    let batch = [
        ("GET", "/health", 200),
        ("HEAD", "/", 200),
        ("GET", "/nothing", 404),
        ("POST", "/stats", 405),
        ("OPTIONS", "/rooms", 204),
        ("GET", "/ws", 426),
        ("GET", "/assets/page/page.js", 200),
    ];
    let requests: String = batch
        .iter()
        .map(|(method, target, _)| request(method, target, &[]))
        .collect();
    client.send(requests.repeat(10));
    for _ in 0..10 {
        for (method, target, status) in batch {
            let answer = client.response_to(method);
            assert_eq!(answer.status, status, "{method} {target}");
        }
    }
    client.shutdown_write();
    client.assert_closed();
}

#[test]
fn http_1_0_closes_unless_it_asks_to_stay() {
    let server = TestServer::start(&[]);
    let mut old = server.raw();
    old.send("GET /health HTTP/1.0\r\n\r\n");
    let answer = old.response();
    assert_eq!(
        (answer.status, answer.header("Connection")),
        (200, Some("close"))
    );
    old.assert_closed();

    let mut staying = server.raw();
    for _ in 0..3 {
        staying.send("GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        let answer = staying.response();
        assert_eq!(answer.status, 200);
        let connection = answer.header("Connection").map(str::to_ascii_lowercase);
        assert_eq!(connection.as_deref(), Some("keep-alive"));
    }
}

#[test]
fn connection_close_is_answered_and_honoured() {
    let server = TestServer::start(&[]);
    for line in [
        "Connection: close",
        "connection: x, CLOSE",
        "Connection: x\r\nConnection: close",
    ] {
        let mut client = server.raw();
        // The second request must not be looked at.
        client.send(request("GET", "/health", &[line]) + &request("GET", "/health", &[]));
        let answer = client.response();
        assert_eq!(
            (answer.status, answer.header("Connection")),
            (200, Some("close")),
            "{line}"
        );
        client.assert_closed();
    }
}

#[test]
fn a_connection_that_idles_is_closed_without_a_word() {
    let server = TestServer::start(&["--keep-alive=0.2"]);
    let mut client = server.raw();
    assert_eq!(client.get("/health").status, 200);
    client.assert_closed();
}

/// The time to idle ends with the first byte; from there on it is the head's time that counts.
#[test]
fn a_request_begun_in_time_is_not_cut_off_by_the_keep_alive() {
    let server = TestServer::start(&["--keep-alive=0.3", "--head-timeout=20"]);
    let mut client = server.raw();
    assert_eq!(client.get("/health").status, 200);
    client.send("GET /health HTTP/1.1\r\n");
    // Longer than the keep-alive, and nothing is said.
    assert!(!client.hears_within(Duration::from_millis(600)));
    client.send("Host: test\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

/// Time spent idling is not taken off the head's, when both settings are the same neither.
#[test]
fn a_request_begun_late_has_the_whole_time_of_a_head() {
    let server = TestServer::start(&["--keep-alive=3", "--head-timeout=3"]);
    let mut client = server.raw();
    assert_eq!(client.get("/health").status, 200);
    assert!(!client.hears_within(Duration::from_secs(2)));
    client.send("GET /health HTTP/1.1\r\n");
    assert!(!client.hears_within(Duration::from_secs(2)));
    client.send("Host: test\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

/// A proxy that says both wants no other request read on this connection.
#[test]
fn close_outweighs_keep_alive() {
    let server = TestServer::start(&[]);
    for version in ["1.0", "1.1"] {
        let mut client = server.raw();
        let head = format!(
            "GET /health HTTP/{version}\r\nHost: h\r\nConnection: keep-alive, close\r\n\r\n"
        );
        client.send(head.repeat(2));
        assert_eq!(client.response().status, 200, "{version}");
        client.assert_closed();
    }
}

#[test]
fn a_client_that_expects_100_continue_is_told_to_go_on() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    client.send(request(
        "GET",
        "/health",
        &["Content-Length: 4", "Expect: 100-Continue"],
    ));
    assert_eq!(client.response().status, 100);
    client.send("body");
    assert_eq!(client.response().status, 200);

    // Whoever has sent the body already is not told to send it.
    let at_once = request(
        "GET",
        "/health",
        &["Content-Length: 4", "Expect: 100-continue"],
    ) + "body";
    client.send(at_once);
    assert_eq!(client.response().status, 200);

    // A body that will not be taken is refused before it is sent.
    client.send(request(
        "GET",
        "/health",
        &["Content-Length: 2000000", "Expect: 100-continue"],
    ));
    assert_eq!(client.response().status, 413);
    client.assert_closed();
}

/// RFC 9110 §10.1.1: HTTP/1.0 knows no interim answers.
#[test]
fn http_1_0_is_never_told_to_continue() {
    let server = TestServer::start(&[]);
    let mut old = server.raw();
    old.send("GET /health HTTP/1.0\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert!(!old.hears_within(Duration::from_millis(300)));
    old.send("body");
    assert_eq!(old.response().status, 200);
}

#[test]
fn a_body_is_never_taken_for_a_request() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    let smuggled = request("GET", "/stats", &[]);
    let length = format!("Content-Length: {}", smuggled.len());
    for (method, target, status) in [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/ws", 426),
        ("HEAD", "/rooms/lobby/events", 200),
        ("POST", "/rooms/lobby/messages", 415),
    ] {
        client.send(request(method, target, &[&length]));
        // Apart from its head, as a slow client sends it, and then with what follows.
        let (first, rest) = smuggled.split_at(10);
        client.send(first);
        client.send(format!("{rest}{}", request("GET", "/nothing", &[])));
        assert_eq!(
            client.response_to(method).status,
            status,
            "{method} {target}"
        );
        assert_eq!(client.response().status, 404, "{method} {target}");
    }
    // The largest body there may be.
    let largest = 64 * 1024;
    let length = format!("Content-Length: {largest}");
    client.send(request("POST", "/rooms/lobby/messages", &[&length]));
    client.send(&smuggled.repeat(largest / smuggled.len() + 1).as_bytes()[..largest]);
    assert_eq!(client.response().status, 415);
    assert_eq!(client.get("/nothing").status, 404);
}
