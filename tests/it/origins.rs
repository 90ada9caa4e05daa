//! Pages of which origins may open a WebSocket, and what the log says of those that may not.

use std::time::Instant;

use crate::handshake::{CONNECTION, KEY, UPGRADE, VERSION, refused};
use crate::support::{TestServer, eventually, request};

#[test]
fn a_page_from_elsewhere_is_refused_and_the_log_says_what_would_allow_it() {
    let server = TestServer::start(&["--allow-origin=https://a.example", "--log-level=info"]);
    let lines = [UPGRADE, CONNECTION, VERSION, KEY];
    let from = |origin: &str| {
        let origin = format!("Origin: {origin}");
        request("GET", "/ws", &[&lines[..], &[&origin]].concat())
    };
    for origin in [
        "https://evil.example",
        "null",
        "http://a.example",
        "https://a.example:8443",
    ] {
        let answer = refused(&server, &from(origin));
        assert_eq!(answer.status, 403, "{origin}");
        assert_eq!(answer.error_code(), "origin_not_allowed", "{origin}");
        let told = answer.header("Access-Control-Allow-Origin");
        assert_eq!(told, None, "{origin}");
    }
    eventually(
        "the log has the setting that would allow it, to be copied",
        || {
            let told = "--allow-origin \"https://a.example,https://evil.example\" would allow it";
            server.log().contains(told).then_some(())
        },
    );
    for allowed in [
        from("https://a.example"),
        from("HTTPS://A.Example"),
        request("GET", "/ws", &lines),
    ] {
        let mut client = server.raw();
        client.send(&allowed);
        assert_eq!(client.response().status, 101, "{allowed}");
    }
}

/// Two of them are one too many to tell which counts.
#[test]
fn a_second_origin_does_not_hide_behind_an_allowed_one() {
    let server = TestServer::start(&["--allow-origin=https://a.example"]);
    let (allowed, other) = ("Origin: https://a.example", "Origin: https://evil.example");
    for origins in [[allowed, other], [other, allowed]] {
        let lines = [&[UPGRADE, CONNECTION, VERSION, KEY], &origins[..]].concat();
        let answer = refused(&server, &request("GET", "/ws", &lines));
        assert!([400, 403].contains(&answer.status), "{}", answer.head);
    }
}

/// How a handshake of a page with this origin is answered.
fn status_for(server: &TestServer, origin: &str) -> u16 {
    let origin = format!("Origin: {origin}");
    let mut client = server.raw();
    let lines = [UPGRADE, CONNECTION, VERSION, KEY, &origin];
    client.send(request("GET", "/ws", &lines));
    client.response().status
}

/// A page in a sandbox, or from a file, has this origin; any page can put itself into one.
#[test]
fn the_origin_null_is_allowed_only_where_it_is_listed() {
    let server = TestServer::start(&["--allow-origin=null"]);
    for (origin, status) in [("null", 101), ("https://a.example", 403)] {
        assert_eq!(status_for(&server, origin), status, "{origin}");
    }
}

/// Browsers leave the port of their scheme out; operators need not.
#[test]
fn an_origin_may_be_listed_with_the_port_that_browsers_leave_out() {
    let server = TestServer::start(&["--allow-origin=https://a.example:443"]);
    for (origin, status) in [("https://a.example", 101), ("http://a.example", 403)] {
        assert_eq!(status_for(&server, origin), status, "{origin}");
    }
}

#[test]
fn refused_origins_are_logged_about_once_a_second() {
    let begun = Instant::now();
    let server = TestServer::start(&["--allow-origin=https://a.example", "--log-level=info"]);
    for n in 0..300 {
        let origin = format!("Origin: https://{n}.example");
        let lines = [UPGRADE, CONNECTION, VERSION, KEY, &origin];
        let answer = refused(&server, &request("GET", "/ws", &lines));
        assert_eq!(answer.status, 403);
    }
    let told = |log: &str| log.matches("refused origin").count() as u64;
    eventually("it is logged", || (told(&server.log()) > 0).then_some(()));
    let lines = told(&server.log());
    assert!(lines <= begun.elapsed().as_secs() + 2, "{}", server.log());
}

/// Whoever writes a header must not be able to write lines of the log.
#[test]
fn a_refused_origin_cannot_fill_the_log() {
    let server = TestServer::start(&["--allow-origin=https://a.example", "--log-level=info"]);
    let origin = format!("Origin: https://{}.example", "x".repeat(10_000));
    let before = server.log().len();
    refused(
        &server,
        &request("GET", "/ws", &[UPGRADE, CONNECTION, VERSION, KEY, &origin]),
    );
    let line = eventually("the refusal is logged", || {
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
