//! Event streams as an `EventSource` uses them: how they start and resume, and how they are refused.
//!
//! An `EventSource` reconnects after a stream that ends, and after no other status than 200. It keeps its last id.

use serde_json::{Value, json};

use crate::support::token::{OTHER_SECRET, SECRET, claims, signed};
use rustix::process::Signal;

use crate::support::{RawConnection, Response, TestServer, forwarded_for, request, wait_for};

const EVENTS: &str = "/rooms/ops/events";
const ALICE: &str = "203.0.113.7";
const BROWSER: &str = "Accept: text/event-stream";

fn open(server: &TestServer, target: &str, lines: &[&str]) -> (RawConnection, Response) {
    let mut raw = server.raw();
    raw.send(request("GET", target, lines));
    let response = raw.response();
    (raw, response)
}

/// A stream that started.
struct Stream {
    raw: RawConnection,
    text: String,
    /// The data of the `joined` event.
    joined: Value,
}

impl Stream {
    /// Returns the text so far, once it contains `end`.
    fn until(&mut self, end: &str) -> &str {
        if !self.text.contains(end) {
            self.text += &self.raw.read_until(end);
        }
        &self.text
    }

    fn recovered(&self) -> (bool, u64) {
        let (recovered, offset) = (&self.joined["recovered"], &self.joined["offset"]);
        (recovered == true, offset.as_u64().expect("an offset"))
    }
}

fn joined(server: &TestServer, target: &str, lines: &[&str]) -> Stream {
    let (mut raw, response) = open(server, target, lines);
    assert_eq!(response.status, 200, "{target} {lines:?}");
    let text = raw.read_until("}\n\n");
    let data = text.split("event: joined\ndata: ").nth(1).expect("joined");
    let data = data.lines().next().expect("a line");
    let joined = serde_json::from_str(data).expect("JSON");
    Stream { raw, text, joined }
}

fn publish(server: &TestServer, payloads: std::ops::RangeInclusive<u64>) -> String {
    let mut epoch = String::new();
    for payload in payloads {
        let body = json!({"type": "message", "payload": format!("no. {payload}.")});
        let response = server.post("/rooms/ops/messages", &body);
        epoch = response.json()["epoch"].as_str().expect("epoch").to_owned();
    }
    epoch
}

#[test]
fn proxies_may_neither_compress_nor_cache_nor_buffer_a_stream() {
    let server = TestServer::start(&[]);
    let (_stream, live) = open(&server, EVENTS, &[]);
    let head = server.raw().request("HEAD", EVENTS, &[]);
    for response in [live, head] {
        for (name, value) in [
            ("Content-Type", "text/event-stream; charset=utf-8"),
            ("Cache-Control", "no-store, no-transform"),
            ("X-Accel-Buffering", "no"),
        ] {
            assert_eq!(response.header(name), Some(value), "{}", response.head);
        }
    }
}

/// Returns the content of a body in chunks. Panics if a chunk is malformed, or if the last one is missing.
fn dechunk(mut body: &str) -> String {
    let mut content = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").expect("the size of a chunk");
        let size = usize::from_str_radix(size, 16).expect("hexadecimal digits");
        let (chunk, rest) = rest.split_at(size);
        body = rest.strip_prefix("\r\n").expect("CR LF after a chunk");
        if size == 0 {
            assert_eq!(body, "");
            return content;
        }
        content += chunk;
    }
}

/// Libraries such as Python's `requests` hand on a chunk at once, but wait for a full buffer of other bodies.
#[test]
fn events_arrive_in_chunks_or_to_http_1_0_without() {
    let mut server = TestServer::start(&["--ping-interval=0.2", "--drain=0"]);
    publish(&server, 1..=3);
    let mut texts = Vec::new();
    for version in ["1.1", "1.0"] {
        let mut raw = server.raw();
        raw.send(format!(
            "GET {EVENTS} HTTP/{version}\r\nHost: h\r\nLast-Event-ID: 0\r\n\r\n"
        ));
        let head = raw.response();
        let chunked = (version == "1.1").then_some("chunked");
        assert_eq!(head.header("Transfer-Encoding"), chunked, "{}", head.head);
        assert_eq!(head.header("Content-Length"), None, "{}", head.head);
        assert_eq!(head.header("Connection"), Some("close"), "{}", head.head);
        let text = raw.read_until("no. 3.");
        texts.push((raw, text));
    }
    publish(&server, 4..=6);
    for (raw, text) in &mut texts {
        *text += &raw.read_until("no. 6.");
        // A comment after silence.
        *text += &raw.read_until("\n:\n\n");
    }
    server.end(Signal::TERM);
    for (i, (mut raw, text)) in texts.into_iter().enumerate() {
        let text = text + &raw.read_to_end();
        let text = if i == 0 { dechunk(&text) } else { text };
        let events: Vec<&str> = text.split("\n\n").collect();
        let with = |name: &str| events.iter().filter(|event| event.contains(name)).count();
        assert_eq!(
            (with("event: joined"), with("data: {\"type\"")),
            (1, 6),
            "{text}"
        );
        assert!(events.contains(&":") && text.ends_with("\n\n"), "{text}");
    }
}

#[test]
fn header_and_every_spelling_of_the_parameter_resume() {
    let server = TestServer::start(&[]);
    let epoch = publish(&server, 1..=3);
    let header = format!("Last-Event-ID: {epoch}-2");
    for (query, lines) in [
        (String::new(), vec![header.as_str()]),
        (format!("?lastEventId={epoch}-2"), vec![]),
        (format!("?last_event_id={epoch}-2"), vec![]),
        (format!("?lastEventID={epoch}-2"), vec![]),
        (format!("?Last-Event-ID={epoch}-2"), vec![]),
        (format!("?last-event-id={epoch}-2&x=1"), vec![]),
        // The header is newer than the query with which the page created its EventSource.
        (format!("?lastEventId={epoch}-1"), vec![header.as_str()]),
        ("?lastEventId=0".to_owned(), vec![header.as_str()]),
        (format!("?lastEventId={epoch}-2"), vec!["Last-Event-ID:"]),
        (format!("?last_event_id=&lastEventId={epoch}-2"), vec![]),
    ] {
        let mut stream = joined(&server, &format!("{EVENTS}{query}"), &lines);
        assert_eq!(stream.recovered(), (true, 2), "{query} {lines:?}");
        stream.until("no. 3.");
    }
}

#[test]
fn foreign_id_starts_a_stream_that_is_not_recovered() {
    let server = TestServer::start(&[]);
    let epoch = publish(&server, 1..=3);
    for id in [
        "",
        "7",
        "-1",
        "undefined",
        "null",
        "NaN",
        "1700000000-0",
        "urn:uuid:5e94c686-2c0b-4f9b-958c-92ccc3bbb4eb",
        "00000000deadbeef-2",
        &format!("{epoch}-"),
        &format!("{epoch}-+2"),
        &format!("{epoch}-99999999999999999999"),
        &format!("{epoch}-4000"),
        "%E4%BD%A0",
        "%ff",
        "%C3%28-2",
        &"x".repeat(5000),
    ] {
        let header = format!("Last-Event-ID: {id}");
        let target = format!("{EVENTS}?lastEventId={}", id.replace('+', "%2B"));
        for (target, lines) in [(EVENTS, vec![header.as_str(), BROWSER]), (&target, vec![])] {
            let stream = joined(&server, target, &lines);
            assert_eq!(stream.recovered(), (false, 3), "{target} {lines:?}");
        }
    }
    let mut stream = joined(&server, EVENTS, &["Last-Event-ID: 7"]);
    publish(&server, 4..=4);
    assert!(!stream.until("no. 4.").contains("no. 3."));
}

#[test]
fn zero_starts_with_the_oldest_message() {
    let server = TestServer::start(&["--history-messages=2"]);
    let empty = joined(&server, EVENTS, &["Last-Event-ID: 0"]);
    assert_eq!(empty.recovered(), (true, 0));
    publish(&server, 1..=2);
    let mut all = joined(&server, &format!("{EVENTS}?lastEventId=0"), &[]);
    assert_eq!(all.recovered(), (true, 0));
    assert!(all.until("no. 2.").contains("no. 1."));
    // Two of four messages are left, so the stream is not complete.
    publish(&server, 3..=4);
    let mut rest = joined(&server, EVENTS, &["Last-Event-ID: 0"]);
    assert_eq!(rest.recovered(), (false, 2));
    let text = rest.until("no. 4.");
    assert!(
        text.contains("no. 3.") && !text.contains("no. 2."),
        "{text}"
    );
    publish(&server, 5..=5);
    rest.until("no. 5.");
}

/// Each refusal is temporary, so the client must reconnect.
#[test]
fn temporary_refusal_is_a_stream_that_ends_with_an_error() {
    let full = TestServer::start(&["--max-members-per-room=1", "--max-rooms=2"]);
    let limited =
        TestServer::behind_proxy(&["--max-connections-per-address=2", "--max-http-rate=9"]);
    let forwarded = forwarded_for(ALICE);
    let _one = full.client_at("/ws?room=ops");
    let _two = full.client_at("/ws?room=dev");
    let code = |server: &TestServer, target: &str, lines: &[&str]| {
        let (mut raw, response) = open(server, target, lines);
        let keeps = response.header("Connection") != Some("close");
        let code = response.refused_stream()["code"]
            .as_str()
            .map(str::to_owned);
        assert_eq!(
            response.header("Content-Type"),
            Some("text/event-stream; charset=utf-8")
        );
        // The stream ends, either with its connection or by its length.
        if keeps {
            assert_eq!(raw.get("/health").status, 200);
        } else {
            raw.assert_closed();
        }
        code.expect("a code")
    };
    for accept in [
        &[][..],
        &[BROWSER],
        &["Accept: */*"],
        &["Accept: text/html, text/event-stream;q=0.9"],
    ] {
        assert_eq!(code(&full, EVENTS, accept), "room_full", "{accept:?}");
        assert_eq!(
            code(&full, "/rooms/third/events", accept),
            "too_many_rooms",
            "{accept:?}"
        );
    }
    let _alices = [(); 2].map(|()| limited.client_as(ALICE, "/ws"));
    assert_eq!(
        code(&limited, EVENTS, &[&forwarded]),
        "too_many_connections"
    );
    let refused = wait_for("the rate is used up", || {
        let (_, response) = open(&limited, "/rooms/a%20b/events", &[&forwarded, BROWSER]);
        (response.status != 400).then_some(response)
    });
    assert_eq!(refused.refused_stream()["code"], "rate_limited");
}

/// A client that does not want events reads the status.
#[test]
fn refusal_is_a_status_for_a_client_that_accepts_no_events() {
    let server = TestServer::start(&["--max-members-per-room=1"]);
    let _one = server.client_at("/ws?room=ops");
    for accept in [
        "Accept: application/json",
        "Accept: text/html, application/*",
        "Accept: text/event-stream;q=0",
        "Accept: */*, text/event-stream; Q=0.000",
    ] {
        let (_, response) = open(&server, EVENTS, &[accept]);
        assert_eq!(
            (response.status, response.retry_after()),
            (503, 1),
            "{accept}"
        );
        assert_eq!(response.error_code(), "room_full", "{accept}");
    }
    let head = server.raw().request("HEAD", EVENTS, &[BROWSER]);
    assert_eq!(head.status, 200);
}

#[test]
fn permanent_refusal_keeps_its_status() {
    let server = TestServer::with_tokens(&[]);
    let reader = signed(SECRET, &claims(json!({"subscribe": ["ops"]})));
    let bad = signed(OTHER_SECRET, &claims(json!({})));
    for (target, token, status) in [
        (EVENTS, "", 401),
        (EVENTS, bad.as_str(), 401),
        ("/rooms/dev/events", &reader, 403),
        ("/rooms/a%20b/events", &reader, 400),
        ("/rooms/ops/event", &reader, 404),
    ] {
        let lines = [BROWSER, &format!("Authorization: Bearer {token}")];
        let lines = if token.is_empty() {
            &lines[..1]
        } else {
            &lines
        };
        let (_, response) = open(&server, target, lines);
        assert_eq!(response.status, status, "{target}");
        assert!(response.json()["error"]["code"].is_string(), "{target}");
    }
}
