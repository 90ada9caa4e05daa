//! The origins whose pages may open a WebSocket, and the log lines about the others.

use std::time::Instant;

use crate::support::{TEXT, TestServer, handshake, handshake_with, wait_for, wait_until};

#[test]
fn page_of_another_origin_is_refused_and_the_log_names_the_setting() {
    let server = TestServer::start(&["--allow-origin=https://a.example", "--log-level=info"]);
    let from = |origin: &str| handshake_with("/ws", &[&format!("Origin: {origin}")]);
    for origin in [
        "https://evil.example",
        "null",
        "http://a.example",
        "https://a.example:8443",
    ] {
        let (response, code, reason) = server.rejected_page(&from(origin));
        let allowed = response.header("Access-Control-Allow-Origin");
        assert_eq!(allowed, None, "{origin}");
        assert_eq!(code, 4003, "{origin}");
        assert_eq!(
            reason,
            format!("the origin {origin} is not on --allow-origin")
        );
    }
    wait_until("the log has the setting that would allow it", || {
        let setting = "--allow-origin \"https://a.example,https://evil.example\" would allow it";
        server.log().contains(setting)
    });
    for allowed in [
        from("https://a.example"),
        from("HTTPS://A.Example"),
        handshake("/ws"),
    ] {
        let mut client = server.raw();
        client.send(&allowed);
        assert_eq!(client.response().status, 101, "{allowed}");
    }
}

/// A page under an attacker's name that resolves to this machine has the origin of its own `Host`.
#[test]
fn origin_of_the_server_itself_must_be_listed() {
    let server = TestServer::start(&["--allow-origin=https://a.example"]);
    let host = format!("{}:8443", "x".repeat(60));
    for (origin, shown) in [
        (
            "http://evil.example:5000",
            "http://evil.example:5000".to_owned(),
        ),
        (
            &format!("https://{host}"),
            format!("https://{}:…", "x".repeat(60)),
        ),
    ] {
        let host = origin.split_once("://").unwrap().1;
        let request = handshake_with("/ws", &[&format!("Origin: {origin}")]);
        let own = request.replace("Host: test", &format!("Host: {host}"));
        let (_, code, reason) = server.rejected_page(&own);
        let expected = format!("the server's own origin {shown} is not on --allow-origin");
        assert_eq!((code, reason), (4003, expected));
    }
}

/// An IP address is no name that an attacker could let resolve to this machine.
#[test]
fn own_page_by_address_or_localhost_is_allowed_without_being_listed() {
    let server = TestServer::start(&["--allow-origin=https://a.example"]);
    for (origin, host, allowed) in [
        ("http://127.0.0.1:5000", "127.0.0.1:5000", true),
        ("https://192.168.1.7", "192.168.1.7", true),
        ("http://[::1]:5000", "[::1]:5000", true),
        ("http://localhost:5000", "localhost:5000", true),
        ("http://127.0.0.1:5000", "127.0.0.1:6000", false),
        ("http://10.0.0.1:5000", "10.0.0.2:5000", false),
        (
            "http://localhost.evil.example",
            "localhost.evil.example",
            false,
        ),
        ("file://127.0.0.1", "127.0.0.1", false),
    ] {
        let request = handshake_with("/ws", &[&format!("Origin: {origin}")]);
        let mut client = server.raw();
        client.send(request.replace("Host: test", &format!("Host: {host}")));
        assert_eq!(client.response().status, 101, "{origin}");
        let frame = client.frame().expect("a frame");
        let is_welcome = frame.opcode == TEXT || frame.close_code() != 4003;
        assert_eq!(is_welcome, allowed, "{origin} at {host}");
    }
}

/// With two Origin headers, neither is trusted.
#[test]
fn second_origin_header_is_refused() {
    let server = TestServer::start(&["--allow-origin=https://a.example"]);
    let (allowed, other) = ("Origin: https://a.example", "Origin: https://evil.example");
    for origins in [[allowed, other], [other, allowed]] {
        let response = server.refused_handshake(handshake_with("/ws", &origins));
        assert!([400, 403].contains(&response.status), "{}", response.head);
    }
}

/// Returns whether a page of this origin is welcomed.
fn is_allowed(server: &TestServer, origin: &str) -> bool {
    let origin = format!("Origin: {origin}");
    let mut client = server.raw();
    client.send(handshake_with("/ws", &[&origin]));
    assert_eq!(client.response().status, 101, "{origin}");
    let frame = client.frame().expect("a frame");
    frame.opcode == TEXT || frame.close_code() != 4003
}

/// A page in a sandbox or from a file has this origin, and any page can load itself in a sandbox.
#[test]
fn origin_null_is_allowed_only_if_listed() {
    let server = TestServer::start(&["--allow-origin=null"]);
    for (origin, allowed) in [("null", true), ("https://a.example", false)] {
        assert_eq!(is_allowed(&server, origin), allowed, "{origin}");
    }
}

/// Browsers leave out the default port of a scheme; an operator may write it.
#[test]
fn allowed_origin_may_name_the_default_port() {
    let server = TestServer::start(&["--allow-origin=https://a.example:443"]);
    for (origin, allowed) in [("https://a.example", true), ("http://a.example", false)] {
        assert_eq!(is_allowed(&server, origin), allowed, "{origin}");
    }
}

#[test]
fn refused_origins_are_logged_about_once_a_second() {
    let start = Instant::now();
    let server = TestServer::start(&["--allow-origin=https://a.example", "--log-level=info"]);
    for n in 0..300 {
        let origin = format!("Origin: https://{n}.example");
        let (_, code, _) = server.rejected_page(&handshake_with("/ws", &[&origin]));
        assert_eq!(code, 4003);
    }
    let count = |log: &str| log.matches("refused origin").count() as u64;
    wait_until("the refusal is logged", || count(&server.log()) > 0);
    let lines = count(&server.log());
    assert!(lines <= start.elapsed().as_secs() + 2, "{}", server.log());
}

/// A client must not be able to write long lines into the log.
#[test]
fn log_line_of_a_refused_origin_is_bounded() {
    let server = TestServer::start(&["--allow-origin=https://a.example", "--log-level=info"]);
    let origin = format!("Origin: https://{}.example", "x".repeat(10_000));
    let before = server.log().len();
    // No browser sends such an origin.
    let response = server.refused_handshake(handshake_with("/ws", &[&origin]));
    assert_eq!(response.status, 403);
    assert_eq!(response.error_code(), "origin_not_allowed");
    let line = wait_for("the refusal is logged", || {
        let log = server.log();
        log[before..]
            .ends_with('\n')
            .then(|| log[before..].to_owned())
    });
    assert!(
        line.len() < 1000,
        "{} bytes of log for one refusal",
        line.len()
    );
}
