//! Request smuggling: requests that two servers could read differently are refused, and nothing after them is read.

use crate::support::{AttackedServer, TestServer, request};

/// The request that follows each attack. A response to it would mean that it was smuggled.
const STOLEN: &str = "GET /health HTTP/1.1\r\nHost: next\r\n\r\n";

/// The description of an attack, its bytes, and the status it must get.
type Attack = (&'static str, &'static str, u16);

const LENGTHS: &[Attack] = &[
    (
        "both lengths, chunks last",
        "POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "both lengths, chunks first",
        "POST /health HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "two different lengths",
        "POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
        400,
    ),
    (
        "the same length twice",
        "POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        400,
    ),
    (
        "a list of lengths",
        "POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: 4, 4\r\n\r\n",
        400,
    ),
    (
        "a negative length",
        "POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        400,
    ),
    (
        "a length with a plus",
        "POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: +4\r\n\r\n",
        400,
    ),
    (
        "an empty length",
        "POST /health HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n",
        400,
    ),
    (
        "a hexadecimal length",
        "POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: 0x4\r\n\r\n",
        400,
    ),
    (
        "a length with a fraction",
        "POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: 4.0\r\n\r\n",
        400,
    ),
    (
        "a length over 64 bits",
        "POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551620\r\n\r\n",
        400,
    ),
    (
        "a length of 64 bits",
        "GET /health HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551615\r\n\r\n",
        413,
    ),
    (
        "a length in other digits",
        "POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: ４\r\n\r\n",
        400,
    ),
    (
        "chunks from HTTP/1.0",
        "POST /health HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "a handshake with chunks",
        "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
];

const LINES: &[Attack] = &[
    (
        "a folded header",
        "GET /health HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n",
        400,
    ),
    (
        "a header folded by a tab",
        "GET /health HTTP/1.1\r\nHost: h\r\nA: b\r\n\tc\r\n\r\n",
        400,
    ),
    (
        "a folded first header",
        "GET /health HTTP/1.1\r\n Host: h\r\n\r\n",
        400,
    ),
    (
        "a folded length",
        "POST /health HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n 4\r\n\r\n",
        400,
    ),
    (
        "lines that end in LF alone",
        "GET /health HTTP/1.1\nHost: h\n\n",
        400,
    ),
    (
        "one line that ends in LF alone",
        "GET /health HTTP/1.1\r\nHost: h\nA: b\r\n\r\n",
        400,
    ),
    (
        "a blank line of LF alone",
        "GET /health HTTP/1.1\r\nHost: h\r\n\n",
        400,
    ),
    (
        "lines that end in CR alone",
        "GET /health HTTP/1.1\rHost: h\r\r",
        400,
    ),
    (
        "CR inside a value",
        "GET /health HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n",
        400,
    ),
    (
        "a header hidden behind CR",
        "GET /health HTTP/1.1\r\nHost: h\r\nA: b\rContent-Length: 9\r\n\r\n",
        400,
    ),
    ("CR CR LF", "GET /health HTTP/1.1\r\nHost: h\r\r\n\r\n", 400),
    (
        "NUL in a value",
        "GET /health HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n",
        400,
    ),
    (
        "NUL in the target",
        "GET /health\0 HTTP/1.1\r\nHost: h\r\n\r\n",
        400,
    ),
    (
        "NUL in a name",
        "GET /health HTTP/1.1\r\nHost: h\r\nA\0: b\r\n\r\n",
        400,
    ),
    (
        "a control character in a value",
        "GET /health HTTP/1.1\r\nHost: h\r\nA: b\x0bc\r\n\r\n",
        400,
    ),
    (
        "a space before the colon",
        "POST /health HTTP/1.1\r\nHost: h\r\nContent-Length : 4\r\n\r\n",
        400,
    ),
    (
        "a tab before the colon",
        "POST /health HTTP/1.1\r\nHost: h\r\nTransfer-Encoding\t: chunked\r\n\r\n",
        400,
    ),
    (
        "a header without a name",
        "GET /health HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n",
        400,
    ),
    (
        "a header without a colon",
        "GET /health HTTP/1.1\r\nHost: h\r\nContent-Length\r\n\r\n",
        400,
    ),
    (
        "a name that is no token",
        "GET /health HTTP/1.1\r\nHost: h\r\nCont(ent: 4\r\n\r\n",
        400,
    ),
];

const REQUEST_LINES: &[Attack] = &[
    ("no Host", "GET /health HTTP/1.1\r\n\r\n", 400),
    (
        "two Hosts",
        "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        400,
    ),
    (
        "the same Host twice",
        "GET /health HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
        400,
    ),
    (
        "a list of Hosts",
        "GET /health HTTP/1.1\r\nHost: a, b\r\n\r\n",
        400,
    ),
    (
        "a Host with a path",
        "GET /health HTTP/1.1\r\nHost: a/b\r\n\r\n",
        400,
    ),
    (
        "a Host with a user",
        "GET /health HTTP/1.1\r\nHost: a@b\r\n\r\n",
        400,
    ),
    (
        "two spaces in the request line",
        "GET  /health HTTP/1.1\r\nHost: h\r\n\r\n",
        400,
    ),
    (
        "tabs in the request line",
        "GET\t/health\tHTTP/1.1\r\nHost: h\r\n\r\n",
        400,
    ),
    (
        "a space after the version",
        "GET /health HTTP/1.1 \r\nHost: h\r\n\r\n",
        400,
    ),
    (
        "a space before the method",
        " GET /health HTTP/1.1\r\nHost: h\r\n\r\n",
        400,
    ),
    (
        "a target that is no path",
        "GET health HTTP/1.1\r\nHost: h\r\n\r\n",
        400,
    ),
    (
        "a target with a fragment",
        "GET /health#a HTTP/1.1\r\nHost: h\r\n\r\n",
        400,
    ),
    (
        "a tunnel",
        "CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: h\r\n\r\n",
        400,
    ),
    ("HTTP/0.9", "GET /health\r\n\r\n", 400),
    (
        "HTTP/2 by its preface",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        505,
    ),
    ("HTTP/3.0", "GET /health HTTP/3.0\r\nHost: h\r\n\r\n", 505),
    ("a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\u{7f}", 400),
    ("another protocol", "SSH-2.0-OpenSSH_9.9\r\n\r\n", 400),
    ("garbage", "\u{1}\u{2}\u{3}~~~\r\n\r\n", 400),
    ("nothing but blank lines", "\r\n\r\n\r\n", 400),
];

#[test]
fn ambiguous_body_length_is_refused() {
    assert_each_is_refused(LENGTHS);
}

#[test]
fn ambiguous_header_lines_are_refused() {
    assert_each_is_refused(LINES);
}

#[test]
fn invalid_request_lines_and_hosts_are_refused() {
    assert_each_is_refused(REQUEST_LINES);
}

/// 505 is only for an unsupported version of HTTP (RFC 9110 §15.6.6).
#[test]
fn request_line_without_a_version_gets_400_not_505() {
    assert_each_is_refused(&[
        (
            "a space in the target",
            "GET /hea lth HTTP/1.1\r\nHost: h\r\n\r\n",
            400,
        ),
        (
            "a version in lower case",
            "GET /health http/1.1\r\nHost: h\r\n\r\n",
            400,
        ),
    ]);
}

/// RFC 9110 §5.5: only spaces and tabs are stripped around a value.
#[test]
fn other_white_space_is_not_stripped_from_a_length() {
    assert_each_is_refused(&[
        (
            "a no-break space before the length",
            "POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: \u{a0}4\r\n\r\nbody",
            400,
        ),
        (
            "an ideographic space after the length",
            "POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: 4\u{3000}\r\n\r\nbody",
            400,
        ),
    ]);
}

// Each case is unusual, but allowed by RFC 9112, and can be read in one way only.
// All get 200, and the connection can be used again.
#[test]
fn unusual_but_unambiguous_requests_are_accepted() {
    let server = TestServer::start(&[]);
    for (what, bytes) in [
        (
            "a blank line before",
            "\r\nGET /health HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
        (
            "no space after the colon",
            "GET /health HTTP/1.1\r\nHost:h\r\n\r\n",
        ),
        (
            "tabs around a value",
            "GET /health HTTP/1.1\r\nHost:\th\t \r\n\r\n",
        ),
        (
            "names in any case",
            "GET /health HTTP/1.1\r\nhOsT: h\r\ncontent-LENGTH: 0\r\n\r\n",
        ),
        (
            "an empty value",
            "GET /health HTTP/1.1\r\nHost: h\r\nA:\r\n\r\n",
        ),
        ("an empty Host", "GET /health HTTP/1.1\r\nHost:\r\n\r\n"),
        (
            "a port and brackets",
            "GET /health HTTP/1.1\r\nHost: [::1]:5000\r\n\r\n",
        ),
        (
            "bytes beyond ASCII in a value",
            "GET /health HTTP/1.1\r\nHost: h\r\nA: é房\r\n\r\n",
        ),
        (
            "a length with zeros before it",
            "GET /health HTTP/1.1\r\nHost: h\r\nContent-Length: 000\r\n\r\n",
        ),
        (
            "a query",
            "GET /health?a=b&c&=d&& HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
        (
            "chunks",
            "GET /health HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "no chunks but the last",
            "GET /health HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\tchunked \r\n\r\n0\r\n\r\n",
        ),
        (
            "zeros before sizes",
            "GET /health HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0005\r\nhello\r\n00\r\n\r\n",
        ),
        (
            "extensions and trailers",
            "GET /health HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
             a;b=\"c;d\"\r\n0\r\n\r\nGET /\r\n0 ;e\r\nContent-Length: 9\r\nF:\r\n\r\n",
        ),
    ] {
        let mut client = server.raw();
        client.send(bytes);
        let response = client.response();
        assert_eq!(response.status, 200, "{what}: {}", response.text());
        assert_eq!(client.get("/nothing").status, 404, "{what}");
    }
}

/// A refusal ends the connection even after valid requests.
#[test]
fn attack_behind_a_valid_request_is_refused() {
    let server = TestServer::start(&[]);
    for (what, attack, status) in [LENGTHS, LINES].concat() {
        let mut client = server.raw();
        client.send(request("GET", "/health", &[]) + attack + STOLEN);
        assert_eq!(client.response().status, 200, "{what}");
        assert_eq!(client.response().status, status, "{what}");
        client.assert_closed();
    }
}

fn assert_each_is_refused(attacks: &[Attack]) {
    let mut attacked = AttackedServer::start(&[]);
    let server = &attacked.server;
    for (what, attack, status) in attacks {
        let answered = server.total("http_requests");
        let mut client = server.raw();
        client.send(format!("{attack}{STOLEN}"));
        let response = client.response();
        assert_eq!(response.status, *status, "{what}: {}", response.text());
        assert_eq!(response.header("Connection"), Some("close"), "{what}");
        assert!(response.json()["error"]["message"].is_string(), "{what}");
        client.assert_closed();
        // A valid head counts although its body is refused, and so does the request that reads the counter.
        let body_refused = u64::from(*status == 413);
        let expected = answered + body_refused + 1;
        assert_eq!(server.total("http_requests"), expected, "{what}");
    }
    attacked.assert_recovers("smuggling");
}
