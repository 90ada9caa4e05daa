//! A room's messages over HTTP: pages of history, publishing, and the stream of events.

use serde_json::{Value, json};

use crate::support::{RawConnection, Response, TempDir, TestServer, offsets};

const SESSION: &str = "session=chosen-once-at-random";

fn post(server: &TestServer, target: &str, content_type: &str, body: &str) -> Response {
    let mut client = server.raw();
    client.send(format!(
        "POST {target} HTTP/1.1\r\nHost: test\r\nContent-Type: {content_type}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    client.response()
}

fn publish(server: &TestServer, target: &str, body: &Value) -> Response {
    post(server, target, "application/json", &body.to_string())
}

#[test]
fn posted_message_reaches_members_and_returns_its_position() {
    let server = TestServer::start(&[]);
    let mut alice = server.client_at("/ws?room=ops");
    let response = publish(
        &server,
        "/rooms/ops/messages",
        &json!({"type": "message", "payload": [1]}),
    );
    assert_eq!(response.status, 201, "{}", response.text());
    assert_eq!(
        (&response.json()["room"], &response.json()["offset"]),
        (&json!("ops"), &json!(1))
    );
    assert_eq!(alice.next_of("message")["payload"], json!([1]));
}

/// A page holds 256 KiB of payload, which is sixteen of these messages: the newest ones.
#[test]
fn page_without_since_ends_with_the_newest_message() {
    let disk = TempDir::new();
    for server in [TestServer::start(&[]), disk.serve(&[])] {
        let mut alice = server.client();
        for _ in 0..30 {
            alice.say("x".repeat(16_000));
            alice.next_of("message");
        }
        let newest: Vec<u64> = (15..=30).collect();
        assert_eq!(offsets(&server.get_json("/rooms/lobby/messages")), newest);
        alice.send_json(json!({"type": "history", "room": "lobby", "limit": 1000}));
        let page = alice.next_of("history")["payload"].clone();
        assert_eq!(offsets(&page), newest);
        assert_eq!(page["contiguous"], true, "a page without since has no gap");
        let page = server.get_json("/rooms/lobby/messages?limit=3");
        assert_eq!(offsets(&page), [28, 29, 30]);
    }
}

#[test]
fn posted_id_is_published_once_per_session() {
    let server = TestServer::start(&[]);
    let body = json!({"type": "message", "payload": "once", "id": "1"});
    let target = format!("/rooms/ops/messages?{SESSION}");
    let positions: Vec<Value> = (0..3)
        .map(|_| publish(&server, &target, &body).json())
        .collect();
    assert!(
        positions.iter().all(|position| *position == positions[0]),
        "{positions:?}"
    );
    assert_eq!(offsets(&server.get_json("/rooms/ops/messages")), [1]);
    assert_eq!(server.stats()["totals"]["duplicate_publishes"], 2);
    // In another room the same id is another message.
    let other_room = format!("/rooms/dev/messages?{SESSION}");
    let position = publish(&server, &other_room, &body).json();
    assert_eq!(
        (&position["room"], &position["offset"]),
        (&json!("dev"), &json!(1))
    );
}

#[test]
fn pages_are_contiguous_and_report_the_range_of_history() {
    let server = TestServer::start(&["--history-messages", "20"]);
    for n in 1..=30 {
        publish(
            &server,
            "/rooms/ops/messages",
            &json!({"type": "message", "payload": n}),
        );
    }
    let page = server.get_json("/rooms/ops/messages?since=15&limit=10");
    assert_eq!(offsets(&page), (16..=25).collect::<Vec<_>>());
    assert_eq!((&page["first"], &page["last"]), (&json!(11), &json!(30)));
    assert_eq!(page["contiguous"], true);
    let page = server.get_json("/rooms/ops/messages?since=9");
    assert_eq!(
        (page["contiguous"].clone(), offsets(&page)[0]),
        (json!(false), 11)
    );
    assert_eq!(
        offsets(&server.get_json("/rooms/ops/messages?limit=2")),
        [29, 30]
    );
    let page = server.get_json("/rooms/ops/messages?since=29&epoch=00000000deadbeef");
    assert_eq!(
        (page["contiguous"].clone(), offsets(&page)[0]),
        (json!(false), 11)
    );
}

// Each case has one mistake: content type, room, JSON, fields, session or length.
// All get their status and error code, and nothing is published.
#[test]
fn invalid_posts_and_pages_are_refused_with_a_code() {
    let server = TestServer::start(&["--max-message-bytes", "1KiB"]);
    let good = r#"{"type":"message","payload":1}"#;
    let large = format!(r#"{{"type":"message","payload":"{}"}}"#, "x".repeat(2000));
    for (content_type, target, body, status, code) in [
        (
            "text/html",
            "/rooms/ops/messages",
            good,
            415,
            "unsupported_media_type",
        ),
        (
            "application/json",
            "/rooms/a%20b/messages",
            good,
            400,
            "invalid_room",
        ),
        (
            "application/json",
            "/rooms/ops/messages",
            "{",
            400,
            "invalid_json",
        ),
        (
            "application/json",
            "/rooms/ops/messages",
            r#"{"type":"message"}"#,
            400,
            "missing_field",
        ),
        (
            "application/json",
            "/rooms/ops/messages",
            r#"{"type":"ping"}"#,
            400,
            "unknown_type",
        ),
        (
            "application/json",
            "/rooms/ops/messages",
            r#"{"type":"shout"}"#,
            400,
            "unknown_type",
        ),
        (
            "application/json",
            "/rooms/ops/messages?session=short",
            good,
            400,
            "invalid_field",
        ),
        (
            "application/json; charset=utf-8",
            "/rooms/ops/messages",
            &large,
            413,
            "message_too_large",
        ),
    ] {
        let response = post(&server, target, content_type, body);
        assert_eq!(
            (response.status, response.error_code().as_str()),
            (status, code),
            "{body}"
        );
        if code == "unknown_type" {
            let message = &response.json()["error"]["message"];
            assert_eq!(*message, "`type` must be message or custom_event");
        }
    }
    for (target, status) in [
        ("/rooms/nobody/messages", 404),
        ("/rooms/ops/messages?since=-1", 400),
        ("/rooms/ops/messages?limit=0", 400),
        ("/rooms/ops/messages?limit=1001", 400),
    ] {
        assert_eq!(server.raw().get(target).status, status, "{target}");
    }
}

fn events(server: &TestServer, last_event_id: Option<&str>) -> RawConnection {
    let mut stream = server.raw();
    let last = last_event_id
        .map(|id| format!("Last-Event-ID: {id}\r\n"))
        .unwrap_or_default();
    stream.send(format!(
        "GET /rooms/ops/events HTTP/1.1\r\nHost: test\r\n{last}\r\n"
    ));
    stream
}

#[test]
fn event_stream_resumes_by_last_event_id_and_continues_live() {
    let server = TestServer::start(&[]);
    let say = |payload: Value| {
        let body = json!({"type": "message", "payload": payload});
        publish(&server, "/rooms/ops/messages", &body).json()
    };
    let epoch = say(json!("one"))["epoch"]
        .as_str()
        .expect("epoch")
        .to_owned();
    say(json!("two"));
    let mut stream = events(&server, Some(&format!("{epoch}-1")));
    let text = stream.read_until("\"two\"");
    assert!(
        text.contains("Content-Type: text/event-stream") && text.contains("\"recovered\":true")
    );
    assert!(!text.contains("\"one\""), "{text}");
    say(json!("three"));
    assert!(
        stream
            .read_until("\"three\"")
            .contains(&format!("id: {epoch}-3\n"))
    );
    drop(stream);
    server.wait_for_clients(0);
    let mut stream = events(&server, Some("00000000deadbeef-2"));
    assert!(stream.read_until("joined").contains("\"recovered\":false"));
}

#[test]
fn payload_with_line_breaks_stays_one_event() {
    let server = TestServer::start(&[]);
    let mut stream = events(&server, None);
    stream.read_until("joined");
    let body = "{\"type\":\"message\",\"payload\":[1,\r\n2,\n3]}";
    assert_eq!(
        post(&server, "/rooms/ops/messages", "application/json", body).status,
        201
    );
    let text = stream.read_until("}\n\n");
    let data: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    let frame: Value = serde_json::from_str(&data.join("\n")).expect("one JSON text");
    assert_eq!(frame["payload"], json!([1, 2, 3]));
}
