//! Bodies in chunks (RFC 9112 §7.1), as clients send them that do not know the length in advance.

use serde_json::{Value, json};

use crate::support::{RawConnection, Response, TestServer, offsets, request};

const CHUNKED: &str = "Transfer-Encoding: chunked";
const JSON: &str = "Content-Type: application/json";
const EXPECT: &str = "Expect: 100-continue";
const MESSAGES: &str = "/rooms/ops/messages";

/// A body in chunks of `bytes` each.
fn in_chunks(body: &str, bytes: usize) -> String {
    let chunks = body.as_bytes().chunks(bytes).map(|chunk| {
        let text = std::str::from_utf8(chunk).expect("ASCII");
        format!("{:x}\r\n{text}\r\n", chunk.len())
    });
    chunks.collect::<String>() + "0\r\n\r\n"
}

fn message(payload: &Value) -> String {
    json!({"type": "message", "payload": payload}).to_string()
}

fn post(client: &mut RawConnection, chunks: &str) -> Response {
    client.send(request("POST", MESSAGES, &[JSON, CHUNKED]) + chunks);
    client.response()
}

#[test]
fn body_in_chunks_of_any_size_is_published() {
    let server = TestServer::start(&[]);
    let mut alice = server.client_at("/ws?room=ops");
    let mut client = server.raw();
    let payload = json!("x".repeat(5000));
    for bytes in [1, 7, 1024, 100_000] {
        let response = post(&mut client, &in_chunks(&message(&payload), bytes));
        let connection = response.header("Connection");
        assert_eq!(response.status, 201, "{bytes}: {}", response.text());
        assert_ne!(connection, Some("close"), "{bytes}");
        assert_eq!(alice.next_of("message")["payload"], payload, "{bytes}");
    }
}

#[test]
fn body_may_arrive_byte_by_byte_with_extensions_and_trailers() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    let body = message(&json!("slowly"));
    let (first, second) = body.split_at(9);
    let chunks = format!(
        "9;name=value;flag;quoted=\"a;b\"\r\n{first}\r\n{:X}\r\n{second}\r\n000;last\r\n\
         Checksum: abc\r\nEmpty:\r\n\r\n",
        second.len()
    );
    client.send(request("POST", MESSAGES, &[JSON, CHUNKED]));
    for byte in chunks.chars() {
        client.send(byte.to_string());
    }
    assert_eq!(client.response().status, 201);
    assert_eq!(client.get("/health").status, 200);
}

/// No byte after a body is lost, and none of the body is taken for a request.
#[test]
fn next_request_follows_the_last_chunk() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    let smuggled = request("DELETE", "/clients/a", &[]);
    let attack = message(&json!(smuggled));
    for body in ["{}", attack.as_str()] {
        let post = request("POST", MESSAGES, &[JSON, CHUNKED]) + &in_chunks(body, 50);
        let get = request("GET", "/health", &[CHUNKED]) + &in_chunks(&smuggled, 10);
        client.send((post + &get).repeat(3));
        let status = if body == "{}" { 400 } else { 201 };
        for _ in 0..3 {
            assert_eq!(client.response().status, status, "{body}");
            assert_eq!(client.response().status, 200, "{body}");
        }
    }
    assert_eq!(offsets(&server.get_json(MESSAGES)), [1, 2, 3]);
}

/// .NET's `Expect100Continue` with a body that it serialises while it sends.
#[test]
fn chunks_are_sent_after_100_continue() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    for _ in 0..2 {
        client.send(request("POST", MESSAGES, &[JSON, CHUNKED, EXPECT]));
        assert_eq!(client.response().status, 100);
        client.send(in_chunks(&message(&json!([1, 2])), 3));
        assert_eq!(client.response().status, 201);
    }
    // No 100 is sent to a client that has sent the body already.
    let at_once = request("POST", MESSAGES, &[JSON, CHUNKED, EXPECT]);
    client.send(at_once + &in_chunks(&message(&json!(1)), 5));
    assert_eq!(client.response().status, 201);
}

/// The size of a chunk is enough to refuse it, so the server does not wait for its bytes.
#[test]
fn limit_of_the_route_applies_to_chunks() {
    let server = TestServer::start(&["--max-message-bytes=1KiB"]);
    let full = message(&json!("x".repeat(1024 - message(&json!("")).len())));
    assert_eq!(full.len(), 1024);
    assert_eq!(post(&mut server.raw(), &in_chunks(&full, 100)).status, 201);
    for (method, target, chunks) in [
        ("POST", MESSAGES, "401\r\n".to_owned()),
        ("POST", MESSAGES, "FFFFFFFFFFFFFFFF\r\n".to_owned()),
        ("POST", MESSAGES, in_chunks(&(full.clone() + " "), 1)),
        ("GET", "/health", "4001\r\n".to_owned()),
        ("GET", "/rooms/ops/events", "4001;a\r\n".to_owned()),
    ] {
        let mut client = server.raw();
        client.send(request(method, target, &[JSON, CHUNKED]) + &chunks);
        let response = client.response();
        assert_eq!(response.status, 413, "{target}: {}", response.text());
        assert_eq!(response.header("Connection"), Some("close"));
        client.assert_closed();
    }
}

#[test]
fn endless_framing_is_refused() {
    let server = TestServer::start(&["--head-timeout=60"]);
    for start in ["1;", "0\r\nTrailer: ", "0\r\n", "1;a\r\nx\r\n0;"] {
        let mut client = server.raw();
        client.send(request("POST", MESSAGES, &[JSON, CHUNKED]) + start + &"x".repeat(20_000));
        let response = client.response();
        assert_eq!(response.status, 400, "{start:?}");
        client.assert_closed();
    }
    let mut client = server.raw();
    let trailers = "A: b\r\n".repeat(4000);
    assert_eq!(
        post(&mut client, &format!("0\r\n{trailers}\r\n")).status,
        400
    );
}

#[test]
fn chunks_that_stop_time_out() {
    let server = TestServer::start(&["--head-timeout=0.3"]);
    for start in ["", "5\r\nhel", "5\r\nhello\r\n", "0\r\n"] {
        let mut client = server.raw();
        assert_eq!(post(&mut client, start).status, 408, "{start:?}");
        client.assert_closed();
    }
}

/// The types that .NET, axios, Java and CloudEvents send. Pages can send the others without a preflight.
#[test]
fn any_content_type_of_json_is_accepted() {
    let server = TestServer::start(&[]);
    let body = message(&json!("你好"));
    for content_type in [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "Application/JSON ; charset=\"utf-8\"",
        "application/json; odata.metadata=minimal; charset=utf-8",
        "text/json",
        "application/vnd.api+json",
        "application/cloudevents+json; charset=UTF-8",
    ] {
        let response = server.post_as(content_type, MESSAGES, &body);
        assert_eq!(response.status, 201, "{content_type}: {}", response.text());
    }
    for content_type in [
        "",
        // A form is a text for `curl -d`, but not JSON without its header.
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=json",
        "application/jsonp",
        "application/+json",
        "json",
        "*/*",
    ] {
        let response = server.post_as(content_type, MESSAGES, &body);
        assert_eq!(response.status, 415, "{content_type}");
        assert_eq!(response.error_code(), "unsupported_media_type");
    }
    let packed = request("POST", MESSAGES, &[JSON, CHUNKED, "Content-Encoding: gzip"]);
    let mut client = server.raw();
    client.send(packed + &in_chunks(&"x".repeat(20), 20));
    assert_eq!(client.response().status, 415);
}

#[test]
fn post_without_a_body_is_refused_with_the_reason() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    let response = client.request("POST", MESSAGES, &[JSON]);
    assert_eq!(response.status, 411);
    assert_eq!(response.error_code(), "length_required");
    let response = post(&mut client, "0\r\n\r\n");
    assert_eq!(response.status, 400);
    assert_eq!(response.error_code(), "invalid_json");
}
