//! Request smuggling by chunks: codings and bodies that two servers could read differently are refused, and nothing
//! after them is read.

use crate::support::{AttackedServer, TestServer, request};

/// The request that follows each attack. A response to it would mean that it was smuggled.
const STOLEN: &str = "GET /health HTTP/1.1\r\nHost: next\r\n\r\n";

/// Header lines that name a coding, and the status that they must get.
const CODINGS: &[(&[&str], u16)] = &[
    (&["Transfer-Encoding: xchunked"], 400),
    (&["Transfer-Encoding: identity"], 400),
    (&["Transfer-Encoding: gzip"], 400),
    (&["Transfer-Encoding:"], 400),
    (&["Transfer-Encoding: , chunked"], 400),
    (&["Transfer-Encoding: chunked,"], 400),
    (&["Transfer-Encoding: chunked, chunked"], 400),
    (
        &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        400,
    ),
    (
        &["Transfer-Encoding: chunked", "transfer-encoding: identity"],
        400,
    ),
    (
        &["Transfer-Encoding: identity", "transfer-encoding: chunked"],
        501,
    ),
    (&["Transfer-Encoding: chunked, gzip"], 400),
    (&["Transfer-Encoding: chunked;q=1"], 400),
    (&["Transfer-Encoding: \"chunked\""], 400),
    (&["Transfer-Encoding: chunked chunked"], 400),
    (&["Transfer-Encoding: \u{b}chunked"], 400),
    (&["Transfer-Encoding: \u{a0}chunked"], 400),
    (&["Transfer-Encoding : chunked"], 400),
    (&["Transfer-Encoding: gzip, chunked"], 501),
    (
        &["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
        501,
    ),
    (&["Transfer-Encoding: chunked", "Content-Length: 5"], 400),
    (&["Content-Length: 0", "Transfer-Encoding: chunked"], 400),
];

/// Bodies in chunks that another server could read differently.
const CHUNKS: &[(&str, &str)] = &[
    ("no size", "\r\n0\r\n\r\n"),
    ("a space before the size", " 0\r\n\r\n"),
    ("a tab before the size", "\t0\r\n\r\n"),
    ("a space after the size", "0 \r\n\r\n"),
    ("a plus before the size", "+0\r\n\r\n"),
    ("a minus before the size", "-0\r\n\r\n"),
    ("a size with 0x", "0x0\r\n\r\n"),
    ("a size with an underscore", "0_0\r\n\r\n"),
    ("a list of sizes", "0,0\r\n\r\n"),
    ("a size of more than 64 bits", "10000000000000000\r\n\r\n"),
    ("a size with too many zeros", "00000000000000000\r\n\r\n"),
    ("a size that ends in LF alone", "0\n\r\n"),
    ("a size that ends in CR alone", "0\r\r\n"),
    ("a size that ends in CR CR LF", "0\r\r\n\r\n"),
    ("LF in an extension", "0;a\nb\r\n\r\n"),
    ("CR in an extension", "0;a\rb\r\n\r\n"),
    ("NUL in an extension", "0;a\0b\r\n\r\n"),
    ("LF alone after an extension", "0;a=b\n\n"),
    ("a chunk longer than its size", "3\r\nhello\r\n0\r\n\r\n"),
    ("a chunk shorter than its size", "9\r\nhello\r\n0\r\n\r\n0"),
    ("no line end after a chunk", "5\r\nhello0\r\n\r\n"),
    ("LF alone after a chunk", "5\r\nhello\n0\r\n\r\n"),
    ("two other bytes after a chunk", "5\r\nhelloXX0\r\n\r\n"),
    ("LF alone at the end", "0\r\n\n"),
    (
        "a trailer without a colon",
        "0\r\nGET /stats HTTP/1.1\r\n\r\n",
    ),
    ("a trailer with a space in its name", "0\r\nA : b\r\n\r\n"),
    ("a folded trailer", "0\r\nA: b\r\n c\r\n\r\n"),
    ("a trailer that ends in LF alone", "0\r\nA: b\n\r\n"),
    ("NUL in a trailer", "0\r\nA: \0\r\n\r\n"),
    ("no end", "0\r\n"),
];

#[test]
fn ambiguous_codings_are_refused() {
    let mut attacked = AttackedServer::start(&[]);
    let server = &attacked.server;
    for target in ["/health", "/rooms/ops/messages"] {
        for (lines, status) in CODINGS {
            let attack = request("POST", target, lines) + "0\r\n\r\n";
            // The head is refused, so no request is counted.
            assert_refused(server, &attack, *status, 0);
        }
    }
    attacked.assert_recovers("codings");
}

#[test]
fn ambiguous_chunks_are_refused() {
    let mut attacked = AttackedServer::start(&[]);
    let server = &attacked.server;
    for (method, target) in [("GET", "/health"), ("POST", "/rooms/ops/messages")] {
        for (what, chunks) in CHUNKS {
            let lines = [
                "Content-Type: application/json",
                "Transfer-Encoding: chunked",
            ];
            let attack = request(method, target, &lines) + chunks;
            let response = assert_refused(server, &attack, 400, 1);
            assert_eq!(response, "bad_request", "{what}");
        }
    }
    attacked.assert_recovers("chunks");
}

/// A refusal ends the connection even after a valid request in chunks.
#[test]
fn attack_behind_a_valid_body_is_refused() {
    let server = TestServer::start(&[]);
    let chunked = ["Transfer-Encoding: chunked"];
    let valid = request("GET", "/health", &chunked) + "5\r\nhello\r\n0\r\nA: b\r\n\r\n";
    for (what, chunks) in CHUNKS {
        let mut client = server.raw();
        client.send(valid.clone() + &request("GET", "/health", &chunked) + chunks + STOLEN);
        assert_eq!(client.response().status, 200, "{what}");
        assert_eq!(client.response().status, 400, "{what}");
        client.assert_closed();
    }
}

/// Asserts that an attack gets this status, that the connection then closes, and that so many requests were counted.
/// Returns the error code.
fn assert_refused(server: &TestServer, attack: &str, status: u16, counted: u64) -> String {
    let answered = server.total("http_requests");
    let mut client = server.raw();
    client.send(attack.to_owned() + STOLEN);
    let response = client.response();
    assert_eq!(response.status, status, "{attack:?}: {}", response.text());
    assert_eq!(response.header("Connection"), Some("close"), "{attack:?}");
    client.assert_closed();
    // The request that reads the counter counts too.
    let expected = answered + counted + 1;
    assert_eq!(server.total("http_requests"), expected, "{attack:?}");
    response.error_code()
}
