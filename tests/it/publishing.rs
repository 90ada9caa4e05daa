//! Messages published over HTTP as text, with `curl -d`, and many at once to several rooms.

use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, signed};
use crate::support::{Response, TempDir, TestServer, offsets, payloads, request};

const SESSION: &str = "session=chosen-once-at-random";
const FORM: &str = "application/x-www-form-urlencoded";
const LINES: &str = "application/x-ndjson";

/// Sends a body with these further header lines.
fn post_with(server: &TestServer, target: &str, lines: &[&str], body: &[u8]) -> Response {
    let length = format!("Content-Length: {}", body.len());
    let head = request("POST", target, &[&[length.as_str()], lines].concat());
    let mut raw = server.raw();
    raw.send([head.as_bytes(), body].concat());
    raw.response()
}

#[test]
fn text_is_published_as_a_json_string() {
    let server = TestServer::start(&[]);
    let mut alice = server.client_at("/ws?room=ops");
    for (content_type, text, payload) in [
        ("text/plain", "hello", "hello"),
        (FORM, "hello", "hello"),
        (
            "Text/Plain; charset=UTF-8",
            "\"a\"\n\\ \u{1} 房",
            "\"a\"\n\\ \u{1} 房",
        ),
        ("text/plain", "{\"type\":\"join\"}", "{\"type\":\"join\"}"),
        (FORM, "a=b&c=%20+", "a=b&c=%20+"),
        ("text/plain", "\u{feff}marked", "marked"),
        ("text/plain", "", ""),
    ] {
        let response = server.post_as(content_type, "/rooms/ops/messages", text);
        assert_eq!(response.status, 201, "{text:?}: {}", response.text());
        let frame = alice.next_of("message");
        assert_eq!(frame["payload"], payload);
    }
    let target = format!("/rooms/ops/messages?{SESSION}&id=once&ttl=60");
    let first = server.post_as("text/plain", &target, "once").json();
    assert_eq!(server.post_as(FORM, &target, "once").json(), first);
    assert_eq!(alice.next_of("message")["id"], "once");
    alice.expect_nothing();
}

#[test]
fn text_that_cannot_be_a_message_is_refused() {
    let server = TestServer::start(&["--max-message-bytes", "1KiB"]);
    let long = "\u{1}".repeat(500);
    for (content_type, query, text, status, code) in [
        (
            FORM,
            "",
            r#"{"type":"message","payload":1}"#,
            415,
            "unsupported_media_type",
        ),
        (FORM, "", " [1]", 415, "unsupported_media_type"),
        ("text/html", "", "hello", 415, "unsupported_media_type"),
        (LINES, "", "1", 415, "unsupported_media_type"),
        ("text/plain", "", &*long, 413, "message_too_large"),
        ("text/plain", "?ttl=0", "hello", 400, "invalid_field"),
        ("text/plain", "?ttl=1s", "hello", 400, "invalid_field"),
        ("text/plain", "?id=", "hello", 400, "invalid_field"),
        (
            "text/plain",
            "?session=short",
            "hello",
            400,
            "invalid_field",
        ),
    ] {
        let response = server.post_as(content_type, &format!("/rooms/ops/messages{query}"), text);
        let refusal = (response.status, response.error_code());
        assert_eq!(refusal, (status, code.to_owned()), "{query} {text:?}");
    }
    let latin = post_with(
        &server,
        "/rooms/ops/messages",
        &["Content-Type: text/plain"],
        b"caf\xe9",
    );
    assert_eq!(latin.error_code(), "bad_request");
    // `curl -d` removes the line breaks of a file.
    let joined = r#"{"type":"message","room":"ops"}{"type":"message","room":"ops"}"#;
    let joined = server.post_as(LINES, "/messages", joined);
    let message = &joined.json()["results"][0]["error"]["message"];
    assert!(message.to_string().contains("--data-binary"), "{message}");
    let untyped = post_with(&server, "/rooms/ops/messages", &[], b"hello");
    assert_eq!(untyped.status, 415);
    assert_eq!(
        server.raw().get("/rooms/ops/messages").status,
        404,
        "nothing was published"
    );
}

/// A page of any site can send text and forms without asking the server first.
#[test]
fn page_of_another_origin_cannot_publish_text() {
    let server = TestServer::start(&["--allow-origin", "https://good.example"]);
    let host = server.address().to_string();
    let own = format!("Origin: http://{host}");
    let host = format!("Host: {host}");
    for (origin, status) in [
        ("Origin: https://evil.example", 403),
        ("Origin: null", 403),
        ("Origin: https://good.example.evil.example", 403),
        (
            "Origin: https://good.example\r\nOrigin: https://evil.example",
            403,
        ),
        ("Sec-Fetch-Site: cross-site", 403),
        ("Sec-Fetch-Site: same-site", 403),
        ("Sec-Fetch-Site: none", 201),
        ("Origin: https://good.example", 201),
        (own.as_str(), 201),
        ("Accept: */*", 201),
    ] {
        for content_type in ["text/plain", FORM] {
            let text = format!(
                "POST /rooms/ops/messages HTTP/1.1\r\n{host}\r\nContent-Type: {content_type}\r\n{origin}\r\nContent-Length: 2\r\n\r\nhi"
            );
            let mut raw = server.raw();
            raw.send(text);
            let response = raw.response();
            assert_eq!(response.status, status, "{origin}: {}", response.text());
        }
    }
}

/// A parameter that the client believes in must not be ignored.
#[test]
fn parameters_that_a_publish_does_not_use_are_refused() {
    const JSON: &str = "application/json";
    const TEXT: &str = "text/plain";
    let server = TestServer::start(&[]);
    let message = r#"{"type":"message","room":"ops","payload":1}"#;
    let both = "session=another-one-at-random";
    for (content_type, query, advice) in [
        (JSON, format!("id=abc&{SESSION}"), "write `id` in the body"),
        (JSON, "ttl=1".into(), "write `ttl` in the body"),
        (JSON, "TTL=1".into(), "write `ttl` in the body"),
        (JSON, format!("{SESSION}&echo=false"), "write `echo`"),
        (JSON, "room=a".into(), "the room is that of the path"),
        (JSON, "type=custom_event".into(), "write `type`"),
        (JSON, format!("{SESSION}&{both}"), "`session` is present"),
        (JSON, "Session=x".into(), "write `session`"),
        (TEXT, "ttl=600&ttl=1".into(), "`ttl` is present more"),
        (TEXT, "ttl=1&ttl=1".into(), "`ttl` is present more"),
        (TEXT, "id=a&%69d=b".into(), "`id` is present more"),
        (TEXT, "TTL=1".into(), "write `ttl`"),
        (FORM, "Id=a".into(), "write `id`"),
        (FORM, "type=custom_event".into(), "send JSON"),
        (TEXT, "rooms=a".into(), "POST /messages"),
        (TEXT, "payload=hi".into(), "the body is the payload"),
    ] {
        let target = format!("/rooms/ops/messages?{query}");
        let response = server.post_as(content_type, &target, message);
        expect_refusal(&response, &query, advice);
    }
    for content_type in [JSON, LINES] {
        for (query, advice) in [
            ("ttl=1", "write `ttl` in each message"),
            ("id=a", "write `id` in each message"),
            ("echo=false", "write `echo` in each message"),
            ("room=ops", "write `room` in each message"),
            ("Rooms=ops", "write `rooms` in each message"),
            ("SESSION=x", "write `session`"),
            (
                "session=chosen-once-at-random&session=x",
                "`session` is present",
            ),
        ] {
            let target = format!("/messages?{query}");
            let response = server.post_as(content_type, &target, message);
            expect_refusal(&response, query, advice);
        }
    }
    let nothing = server.raw().get("/rooms/ops/messages");
    assert_eq!(nothing.status, 404, "nothing was published");
    let ignored = "_=123&utm_source=x&v=2&x-ttl=1";
    for (content_type, target) in [
        (JSON, format!("/rooms/ops/messages?{ignored}&{SESSION}")),
        (
            TEXT,
            format!("/rooms/ops/messages?{ignored}&ttl=60&id=a&echo=true"),
        ),
        (LINES, format!("/messages?{ignored}")),
    ] {
        let response = server.post_as(content_type, &target, message);
        assert!(response.status < 300, "{target}: {}", response.text());
    }
    assert_eq!(offsets(&server.get_json("/rooms/ops/messages")), [1, 2, 3]);
}

/// Expects a refusal with this advice and without the values of the query.
fn expect_refusal(response: &Response, query: &str, advice: &str) {
    let refusal = (response.status, response.error_code());
    assert_eq!(refusal, (400, "invalid_field".to_owned()), "{query}");
    let message = response.error_message();
    assert!(message.contains(advice), "{query}: {message}");
    assert!(!message.contains("at-random"), "{query}: {message}");
}

fn results(response: &Response) -> Vec<Value> {
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["results"]
        .as_array()
        .expect("results")
        .clone()
}

#[test]
fn batch_is_answered_entry_by_entry() {
    let disk = TempDir::new();
    for server in [TestServer::start(&[]), disk.serve(&[])] {
        let mut alice = server.client_at("/ws?room=a&room=b");
        let entries = [
            json!({"type": "message", "room": "a", "payload": 1}),
            json!({"type": "custom_event", "rooms": ["b", "a", "c"], "payload": [2], "ttl": 60}),
            json!({"type": "message", "payload": 3}),
            json!({"type": "message", "room": "a b", "payload": 4}),
            json!({"type": "join", "room": "a"}),
            json!({"type": "message", "room": "a", "rooms": ["b"], "payload": 5}),
            json!({"type": "message", "rooms": [], "payload": 6}),
            json!({"type": "message", "rooms": ["a", "a"], "payload": 7}),
            json!({"type": "message", "rooms": "a", "payload": 8}),
            json!({"type": "message", "room": "a", "payload": 9, "ttl": 0}),
            json!(10),
            json!({"type": "message", "room": "b", "payload": 11, "id": "11"}),
        ];
        let lines: Vec<String> = entries.iter().map(Value::to_string).collect();
        let response = server.post(&format!("/messages?{SESSION}"), &json!(entries));
        let found = results(&response);
        let position = |at: &Value| (at["room"].clone(), at["offset"].clone());
        assert_eq!(position(&found[0]), (json!("a"), json!(1)));
        let rooms = found[1]["rooms"].as_array().expect("rooms");
        let rooms: Vec<_> = rooms.iter().map(position).collect();
        let expected = [("b", 1), ("a", 2), ("c", 1)].map(|(room, n)| (json!(room), json!(n)));
        assert_eq!(rooms, expected);
        let codes: Vec<&str> = found[2..11]
            .iter()
            .map(|result| result["error"]["code"].as_str().expect("a code"))
            .collect();
        assert_eq!(
            codes,
            [
                "missing_field",
                "invalid_room",
                "unknown_type",
                "invalid_field",
                "invalid_field",
                "invalid_field",
                "invalid_field",
                "invalid_field",
                "not_an_object"
            ]
        );
        assert_eq!(position(&found[11]), (json!("b"), json!(2)));
        let body = response.json();
        assert_eq!(
            (&body["published"], &body["failed"]),
            (&json!(5), &json!(9))
        );
        let mut received: Vec<Value> = (0..4).map(|_| alice.next()).collect();
        received.sort_by_key(|frame| frame["room"].to_string());
        let received: Vec<&Value> = received.iter().map(|frame| &frame["payload"]).collect();
        assert_eq!(received, [&json!(1), &json!([2]), &json!([2]), &json!(11)]);
        // The same as lines, with blank ones and other line ends. The id is known.
        let text = lines.join("\r\n\n") + "\n{";
        let again = server.post_as(LINES, &format!("/messages?{SESSION}"), &text);
        let again = results(&again);
        assert_eq!(again.len(), 13);
        assert_eq!(again[11], found[11]);
        assert_eq!(again[12]["error"]["code"], "invalid_json");
        assert_eq!(offsets(&server.get_json("/rooms/a/messages")), [1, 2, 3, 4]);
        assert_eq!(
            payloads(&server.get_json("/rooms/c/messages")),
            [json!([2]), json!([2])]
        );
    }
}

#[test]
fn batch_is_bounded_and_refused_as_a_whole_beyond() {
    let server = TestServer::start(&["--max-message-bytes", "1KiB", "--max-new-rooms", "0"]);
    let entry = r#"{"type":"message","room":"a","payload":1}"#;
    let rooms = |count: usize| {
        let rooms: Vec<String> = (0..count).map(|n| format!("r{n}")).collect();
        json!({"type": "message", "rooms": rooms, "payload": 1})
    };
    let full = server.post_as(LINES, "/messages", &[entry; 1000].join("\n"));
    assert_eq!(results(&full).len(), 1000);
    assert_eq!(
        results(&server.post("/messages", &json!([]))),
        Vec::<Value>::new()
    );
    assert_eq!(
        results(&server.post_as("application/json", "/messages", entry)).len(),
        1
    );
    let too_large = format!(
        r#"[{entry},{{"type":"message","room":"a","payload":"{}"}}]"#,
        "x".repeat(1024)
    );
    let found = results(&server.post_as("application/json", "/messages", &too_large));
    assert_eq!(found[1]["error"]["code"], "message_too_large");
    assert_eq!(
        results(&server.post("/messages", &json!([rooms(100)]))).len(),
        1
    );
    let found = results(&server.post("/messages", &json!([rooms(101)])));
    assert_eq!(found[0]["error"]["code"], "invalid_field");
    let published = server.total("messages_published");
    let eleven_times = json!([
        rooms(100),
        rooms(100),
        rooms(100),
        rooms(100),
        rooms(100),
        rooms(100),
        rooms(100),
        rooms(100),
        rooms(100),
        rooms(100),
        rooms(1)
    ]);
    for (content_type, body, status) in [
        (LINES, [entry; 1001].join("\n"), 400),
        (
            "application/json",
            format!("[{}]", [entry; 1001].join(",")),
            400,
        ),
        ("application/json", eleven_times.to_string(), 400),
        ("application/json", "[1,".to_owned(), 400),
        ("application/json", "7".to_owned(), 400),
        ("text/plain", entry.to_owned(), 415),
        (FORM, format!("[{entry}]"), 415),
        (LINES, "x".repeat(257 * 1024), 413),
    ] {
        let response = server.post_as(content_type, "/messages", &body);
        assert_eq!(response.status, status, "{}", response.text());
    }
    assert_eq!(server.total("messages_published"), published);
}

#[test]
fn batch_needs_the_right_of_each_room() {
    let server = TestServer::with_tokens(&[]);
    let body = json!([
        {"type": "message", "rooms": ["ops", "dev"], "payload": 1},
        {"type": "message", "room": "dev", "payload": 2},
    ]);
    assert_eq!(server.post("/messages", &body).status, 401);
    let bearer = format!(
        "Authorization: Bearer {}",
        signed(SECRET, &claims(json!({})))
    );
    let lines = [bearer.as_str(), "Content-Type: application/json"];
    let response = post_with(&server, "/messages", &lines, body.to_string().as_bytes());
    let found = results(&response);
    assert_eq!(found[0]["rooms"][0]["offset"], 1);
    assert_eq!(found[0]["rooms"][1]["error"]["code"], "forbidden");
    assert_eq!(found[1]["error"]["code"], "forbidden");
    assert_eq!(found[1]["room"], "dev");
}
