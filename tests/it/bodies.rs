//! Request bodies are read, and `100 Continue` is granted, only after route, method and token were accepted.

use serde_json::json;

use crate::support::token::{SECRET, claims, signed};
use crate::support::{TestServer, request, wait_until};

const LARGE: &str = "Content-Length: 60000";
const CHUNKED: &str = "Transfer-Encoding: chunked";
const EXPECT: &str = "Expect: 100-continue";

/// No byte of the body is sent, so a server that wanted to read it would respond with 408 or 100 instead.
#[test]
fn refused_request_is_answered_before_its_body_is_sent() {
    let server = TestServer::with_tokens(&[]);
    let reader = signed(SECRET, &claims(json!({"publish": null})));
    let reader = format!("Authorization: Bearer {reader}");
    let reader = Some(reader.as_str());
    let cases = [
        ("POST", "/nothing", None, 404, "not_found"),
        ("POST", "/health", None, 405, "method_not_allowed"),
        (
            "PUT",
            "/rooms/ops/messages",
            reader,
            405,
            "method_not_allowed",
        ),
        ("POST", "/rooms/ops/messages", None, 401, "unauthorized"),
        ("POST", "/rooms/ops/messages", reader, 403, "forbidden"),
        ("DELETE", "/clients/a", reader, 403, "forbidden"),
        ("GET", "/rooms/ops/events", None, 401, "unauthorized"),
        ("GET", "/rooms/other/events", reader, 403, "forbidden"),
    ];
    for (method, target, token, status, code) in cases {
        for framing in [&[LARGE][..], &[LARGE, EXPECT], &[CHUNKED, EXPECT]] {
            let what = format!("{method} {target} {framing:?}");
            let mut client = server.raw();
            let lines: Vec<&str> = token.into_iter().chain(framing.iter().copied()).collect();
            client.send(request(method, target, &lines));
            let response = client.response();
            assert_eq!(response.status, status, "{what}");
            assert_eq!(response.error_code(), code, "{what}");
            // The body may still follow, so the connection cannot carry another request.
            assert_eq!(response.header("Connection"), Some("close"), "{what}");
            client.send(request("GET", "/health", &[]));
            client.assert_closed();
        }
    }
}

#[test]
fn body_over_the_limit_of_its_route_is_refused_before_it_is_sent() {
    let server = TestServer::start(&["--max-message-bytes=1KiB"]);
    for (method, target, length) in [
        ("POST", "/rooms/ops/messages", 1025),
        ("GET", "/health", 16 * 1024 + 1),
        ("GET", "/rooms/ops/events", 16 * 1024 + 1),
    ] {
        let length = format!("Content-Length: {length}");
        let mut client = server.raw();
        let response = client.request(method, target, &[&length, EXPECT]);
        assert_eq!(response.status, 413, "{method} {target}");
        assert_eq!(response.header("Connection"), Some("close"));
        client.assert_closed();
    }
}

#[test]
fn accepted_body_gets_100_continue_and_the_connection_stays_open() {
    let server = TestServer::start(&[]);
    let body = r#"{"type":"message","payload":"hi"}"#;
    let lines = [
        "Content-Type: application/json",
        &format!("Content-Length: {}", body.len()),
        EXPECT,
    ];
    let mut client = server.raw();
    for offset in 1..=3 {
        client.send(request("POST", "/rooms/ops/messages", &lines));
        assert_eq!(client.response().status, 100);
        client.send(body);
        let response = client.response();
        assert_eq!(
            (response.status, response.header("Connection")),
            (201, Some("keep-alive"))
        );
        assert_eq!(response.json()["offset"], offset);
    }
}

/// Refused streams cost as much as any other request, so they use up the same rate.
#[test]
fn refused_event_streams_are_counted_by_the_http_rate() {
    const ALICE: &str = "203.0.113.7";
    let server = TestServer::behind_proxy(&["--max-http-rate=1"]);
    let mut refused = 0;
    let limited = loop {
        let response = server.raw().get_as(ALICE, "/rooms/not%20a%20room/events");
        if response.status != 400 {
            break response;
        }
        refused += 1;
        assert!(refused < 1000, "never limited");
    };
    assert!(refused >= 10, "ten seconds' worth at once, not {refused}");
    assert_eq!(limited.refused_stream()["code"], "rate_limited");
    assert!(server.total("http_requests_rate_limited") >= 1);
    wait_until("the address may ask again", || {
        let response = server.raw().get_as(ALICE, "/rooms/not%20a%20room/events");
        response.status == 400
    });
}
