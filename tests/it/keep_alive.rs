//! Connections that carry several requests: order, deadlines, bodies, and who closes.

use std::time::Duration;

use crate::support::{TestServer, request};

#[test]
fn one_connection_carries_many_requests() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    for _ in 0..50 {
        let response = client.get("/health");
        assert_eq!(
            (response.status, response.header("Connection")),
            (200, Some("keep-alive"))
        );
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
            let response = client.response_to(method);
            assert_eq!(response.status, status, "{method} {target}");
        }
    }
    client.shutdown_write();
    client.assert_closed();
}

#[test]
fn http_1_0_connection_closes_unless_keep_alive_is_requested() {
    let server = TestServer::start(&[]);
    let mut old = server.raw();
    old.send("GET /health HTTP/1.0\r\n\r\n");
    let response = old.response();
    assert_eq!(
        (response.status, response.header("Connection")),
        (200, Some("close"))
    );
    old.assert_closed();

    let mut staying = server.raw();
    for _ in 0..3 {
        staying.send("GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        let response = staying.response();
        assert_eq!(response.status, 200);
        let connection = response.header("Connection").map(str::to_ascii_lowercase);
        assert_eq!(connection.as_deref(), Some("keep-alive"));
    }
}

#[test]
fn connection_close_is_honoured() {
    let server = TestServer::start(&[]);
    for line in [
        "Connection: close",
        "connection: x, CLOSE",
        "Connection: x\r\nConnection: close",
    ] {
        let mut client = server.raw();
        // The second request must not be read.
        client.send(request("GET", "/health", &[line]) + &request("GET", "/health", &[]));
        let response = client.response();
        assert_eq!(
            (response.status, response.header("Connection")),
            (200, Some("close")),
            "{line}"
        );
        client.assert_closed();
    }
}

/// Proxies and clients such as Node's `fetch` do not reuse a connection that is about to be closed.
#[test]
fn idle_time_is_announced_while_the_connection_stays_open() {
    for (flags, timeout) in [
        (&[][..], Some("timeout=75")),
        (&["--keep-alive=10m"], Some("timeout=600")),
        (&["--keep-alive=1.9"], Some("timeout=1")),
        // No number of whole seconds would be true.
        (&["--keep-alive=0.5"], None),
    ] {
        let server = TestServer::start(flags);
        let mut client = server.raw();
        for (method, target) in [("GET", "/health"), ("HEAD", "/"), ("GET", "/nothing")] {
            let response = client.request(method, target, &[]);
            assert_eq!(response.header("Keep-Alive"), timeout, "{flags:?} {target}");
            let connection = timeout.map(|_| "keep-alive");
            assert_eq!(
                response.header("Connection"),
                connection,
                "{flags:?} {target}"
            );
        }
        client.send("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(client.response().header("Keep-Alive"), timeout, "{flags:?}");
        for bytes in [
            "GET /health HTTP/1.0\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            "GET /health HTTP/1.1\r\n\r\n",
            "GET /rooms/ops/events HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            let mut closing = server.raw();
            closing.send(bytes);
            let response = closing.response();
            assert_eq!(response.header("Connection"), Some("close"), "{bytes:?}");
            assert_eq!(response.header("Keep-Alive"), None, "{bytes:?}");
        }
    }
}

#[test]
fn idle_connection_is_closed_without_a_response() {
    let server = TestServer::start(&["--keep-alive=0.2"]);
    let mut client = server.raw();
    assert_eq!(client.get("/health").status, 200);
    client.assert_closed();
}

/// The keep-alive time ends with the first byte of a request; from then on the head time-out counts.
#[test]
fn request_started_in_time_outlasts_the_keep_alive() {
    let server = TestServer::start(&["--keep-alive=0.3", "--head-timeout=20"]);
    let mut client = server.raw();
    assert_eq!(client.get("/health").status, 200);
    client.send("GET /health HTTP/1.1\r\n");
    // Silence for longer than the keep-alive.
    assert!(!client.has_input_within(Duration::from_millis(600)));
    client.send("Host: test\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

/// Idle time does not count towards the head time-out, even if both settings are equal.
#[test]
fn request_started_late_has_the_whole_head_timeout() {
    let server = TestServer::start(&["--keep-alive=3", "--head-timeout=3"]);
    let mut client = server.raw();
    assert_eq!(client.get("/health").status, 200);
    assert!(!client.has_input_within(Duration::from_secs(2)));
    client.send("GET /health HTTP/1.1\r\n");
    assert!(!client.has_input_within(Duration::from_secs(2)));
    client.send("Host: test\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

/// A proxy that sends both expects that no further request is read on the connection.
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
fn expected_100_continue_is_sent_before_the_body() {
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

    // No 100 is sent to a client that has sent the body already.
    let at_once = request(
        "GET",
        "/health",
        &["Content-Length: 4", "Expect: 100-continue"],
    ) + "body";
    client.send(at_once);
    assert_eq!(client.response().status, 200);

    // A body over the limit is refused before it is sent.
    client.send(request(
        "GET",
        "/health",
        &["Content-Length: 2000000", "Expect: 100-continue"],
    ));
    assert_eq!(client.response().status, 413);
    client.assert_closed();
}

/// RFC 9110 §10.1.1: HTTP/1.0 has no interim responses.
#[test]
fn http_1_0_never_gets_100_continue() {
    let server = TestServer::start(&[]);
    let mut old = server.raw();
    old.send("GET /health HTTP/1.0\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert!(!old.has_input_within(Duration::from_millis(300)));
    old.send("body");
    assert_eq!(old.response().status, 200);
}

#[test]
fn body_is_never_read_as_a_request() {
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
        // The body comes apart from its head, and its end together with the next request.
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
    // The largest body allowed.
    let largest = 64 * 1024;
    let length = format!("Content-Length: {largest}");
    client.send(request("POST", "/rooms/lobby/messages", &[&length]));
    client.send(&smuggled.repeat(largest / smuggled.len() + 1).as_bytes()[..largest]);
    assert_eq!(client.response().status, 415);
    assert_eq!(client.get("/nothing").status, 404);
}
