//! `GET /events?room=a&room=b`: one event stream of several rooms, resumed as one.

use serde_json::json;

use crate::support::token::{SECRET, claims, signed};
use crate::support::{
    EventSource, Seed, TempDir, TestServer, read_streams_while_reconnecting, request, wait_until,
};

/// Publishes the numbers of a range to a room, so that each payload is its offset.
fn publish(server: &TestServer, room: &str, offsets: std::ops::RangeInclusive<u64>) {
    for n in offsets {
        let body = json!({"type": "message", "payload": n});
        let response = server.post(&format!("/rooms/{room}/messages"), &body);
        assert_eq!(response.json()["offset"], n);
    }
}

fn open(server: &TestServer, query: &str, last_id: &str) -> EventSource {
    EventSource::open(server.address(), &format!("/events?{query}"), last_id)
}

/// Returns the room, offset and `recovered` of the next event, which must be `joined`.
fn joined(source: &mut EventSource) -> (String, u64, bool) {
    let joined = source.expect("joined");
    let room = joined["room"].as_str().expect("room").to_owned();
    (
        room,
        joined["offset"].as_u64().expect("offset"),
        joined["recovered"] == true,
    )
}

/// Returns the rooms and offsets of the next messages, sorted.
fn messages(source: &mut EventSource, count: usize) -> Vec<(String, u64)> {
    let message = |_| {
        let data = source.expect("message");
        let room = data["room"].as_str().expect("room").to_owned();
        (room, data["offset"].as_u64().expect("offset"))
    };
    let mut messages: Vec<_> = (0..count).map(message).collect();
    messages.sort();
    messages
}

fn expected(rooms: &[(&str, std::ops::RangeInclusive<u64>)]) -> Vec<(String, u64)> {
    let offsets = |(room, offsets): &(&str, std::ops::RangeInclusive<u64>)| {
        let room = (*room).to_owned();
        offsets.clone().map(move |offset| (room.clone(), offset))
    };
    rooms.iter().flat_map(offsets).collect()
}

#[test]
fn each_room_resumes_from_the_last_id_of_the_stream() {
    let disk = TempDir::new();
    for server in [TestServer::start(&[]), disk.serve(&[])] {
        publish(&server, "a", 1..=3);
        let mut source = open(&server, "room=a&room=b&room=a", "");
        assert_eq!(joined(&mut source), ("a".to_owned(), 3, false));
        assert_eq!(joined(&mut source), ("b".to_owned(), 0, false));
        assert_eq!(server.members("a"), 1);
        publish(&server, "b", 1..=2);
        publish(&server, "a", 4..=4);
        assert_eq!(
            messages(&mut source, 3),
            expected(&[("a", 4..=4), ("b", 1..=2)])
        );
        let id = source.last_id.clone();
        source.shut_down();
        publish(&server, "a", 5..=6);
        publish(&server, "b", 3..=5);
        // The order of the rooms does not matter, a new room starts now, and another one may be left out.
        let mut again = open(&server, "room=c&room=b&room=a", &id);
        assert_eq!(joined(&mut again), ("c".to_owned(), 0, false));
        assert_eq!(joined(&mut again), ("b".to_owned(), 2, true));
        assert_eq!(joined(&mut again), ("a".to_owned(), 4, true));
        assert_eq!(
            messages(&mut again, 5),
            expected(&[("a", 5..=6), ("b", 3..=5)])
        );
        let mut one = open(&server, "room=b", &id);
        assert_eq!(joined(&mut one), ("b".to_owned(), 2, true));
        assert_eq!(messages(&mut one, 3), expected(&[("b", 3..=5)]));
        // The id of `joined` resumes too.
        let mut quiet = open(&server, "room=a&room=b", &again.last_id);
        assert_eq!(joined(&mut quiet), ("a".to_owned(), 6, true));
        let id = quiet.last_id.clone();
        publish(&server, "a", 7..=7);
        let mut after = open(&server, "room=a&room=b", &id);
        assert_eq!(joined(&mut after), ("a".to_owned(), 6, true));
        assert_eq!(joined(&mut after), ("b".to_owned(), 5, true));
        assert_eq!(messages(&mut after, 1), expected(&[("a", 7..=7)]));
    }
}

#[test]
fn zero_foreign_and_lost_ids_start_as_in_a_stream_of_one_room() {
    let server = TestServer::start(&["--history-messages=3"]);
    publish(&server, "a", 1..=5);
    publish(&server, "b", 1..=2);
    let mut all = open(&server, "room=a&room=b", "0");
    assert_eq!(joined(&mut all), ("a".to_owned(), 2, false));
    assert_eq!(joined(&mut all), ("b".to_owned(), 0, true));
    assert_eq!(
        messages(&mut all, 5),
        expected(&[("a", 3..=5), ("b", 1..=2)])
    );
    for id in [
        "7",
        "undefined",
        "00000000deadbeef-2",
        "m",
        "mAAAA",
        "m!!",
        &"m".repeat(9000),
    ] {
        let mut live = open(&server, "room=a&room=b", id);
        assert_eq!(joined(&mut live), ("a".to_owned(), 5, false), "{id}");
        assert_eq!(joined(&mut live), ("b".to_owned(), 2, false), "{id}");
    }
    // `a` has lost what the client missed; `b` resumes.
    let id = all.last_id.clone();
    publish(&server, "a", 6..=10);
    publish(&server, "b", 3..=3);
    let mut lost = open(&server, "room=a&room=b", &id);
    assert_eq!(joined(&mut lost), ("a".to_owned(), 10, false));
    assert_eq!(joined(&mut lost), ("b".to_owned(), 2, true));
    assert_eq!(messages(&mut lost, 1), expected(&[("b", 3..=3)]));
    let mut newest = open(&server, "room=a&room=b&last=2", &id);
    assert_eq!(joined(&mut newest), ("a".to_owned(), 8, false));
    assert_eq!(joined(&mut newest), ("b".to_owned(), 2, true));
    assert_eq!(
        messages(&mut newest, 3),
        expected(&[("a", 9..=10), ("b", 3..=3)])
    );
}

#[test]
fn client_needs_the_right_to_every_room() {
    let server = TestServer::with_tokens(&[]);
    let token = signed(SECRET, &claims(json!({"subscribe": ["a", "b"]})));
    let bearer = format!("Authorization: Bearer {token}");
    let status = |query: &str, lines: &[&str]| {
        let mut raw = server.raw();
        raw.send(request("GET", &format!("/events{query}"), lines));
        raw.response().status
    };
    assert_eq!(status("?room=a&room=b", &[&bearer]), 200);
    assert_eq!(status("?room=a&room=b&room=c", &[&bearer]), 403);
    assert_eq!(status("?room=a", &[]), 401);
    let head = server
        .raw()
        .request("HEAD", "/events?room=a&room=c", &[&bearer]);
    assert_eq!(head.status, 403);
}

#[test]
fn wrong_lists_of_rooms_are_refused() {
    let server = TestServer::start(&["--max-rooms-per-connection=40"]);
    let rooms = |count: usize| {
        let rooms = (0..count).map(|n| format!("room=r{n}"));
        rooms.collect::<Vec<_>>().join("&")
    };
    for (query, code) in [
        (String::new(), "missing_field"),
        ("rooms=a".to_owned(), "missing_field"),
        ("room=a%20b".to_owned(), "invalid_room"),
        ("room=".to_owned(), "invalid_room"),
        (rooms(33), "invalid_field"),
        ("room=a&session=short".to_owned(), "invalid_field"),
        ("room=a&last=-1".to_owned(), "invalid_field"),
        ("room=a&Room=b".to_owned(), "invalid_field"),
        ("room=a&ME=1".to_owned(), "invalid_field"),
    ] {
        let response = server.raw().get(&format!("/events?{query}"));
        assert_eq!(
            (response.status, response.error_code().as_str()),
            (400, code),
            "{query}"
        );
    }
    for query in ["room=b", "room=ops", "ROOM=b", "me=1"] {
        let response = server.raw().get(&format!("/rooms/ops/events?{query}"));
        let refusal = (response.status, response.error_code());
        assert_eq!(refusal, (400, "invalid_field".to_owned()), "{query}");
        let message = response.error_message();
        assert!(message.contains("/events?room=a&room=b"), "{message}");
    }
    let mut most = open(&server, &rooms(32), "");
    (0..32).for_each(|_| drop(joined(&mut most)));
    let limited = TestServer::start(&["--max-rooms-per-connection=2"]);
    let response = limited.raw().get("/events?room=a&room=b&room=c");
    assert_eq!(
        (response.status, response.error_code().as_str()),
        (400, "too_many_rooms")
    );
}

#[test]
fn refused_stream_keeps_no_seat() {
    let server = TestServer::start(&["--max-members-per-room=1"]);
    let _one = server.client_at("/ws?room=full");
    for _ in 0..3 {
        let mut raw = server.raw();
        raw.send(request("GET", "/events?room=free&room=full", &[]));
        assert_eq!(raw.response().refused_stream()["code"], "room_full");
    }
    let mut source = open(&server, "room=free", "");
    joined(&mut source);
    source.shut_down();
    wait_until("the seat is free again", || {
        let event = open(&server, "room=free", "").next();
        event.expect("an event").kind == "joined"
    });
}

#[test]
fn publisher_of_the_same_session_is_skipped() {
    let server = TestServer::start(&[]);
    let session = "session=chosen-once-at-random";
    let mut own = open(&server, &format!("room=a&room=b&{session}"), "");
    let mut other = open(&server, "room=a&room=b", "");
    for source in [&mut own, &mut other] {
        (0..2).for_each(|_| drop(joined(source)));
    }
    for (room, echo) in [("a", false), ("b", true), ("b", false)] {
        let body = json!({"type": "message", "payload": 1, "echo": echo});
        server.post(&format!("/rooms/{room}/messages?{session}"), &body);
    }
    assert_eq!(
        messages(&mut other, 3),
        expected(&[("a", 1..=1), ("b", 1..=2)])
    );
    assert_eq!(messages(&mut own, 1), expected(&[("b", 1..=1)]));
    publish(&server, "a", 2..=2);
    assert_eq!(messages(&mut own, 1), expected(&[("a", 2..=2)]));
    // The skipped messages count.
    let mut again = open(&server, "room=a&room=b", &own.last_id);
    assert_eq!(joined(&mut again), ("a".to_owned(), 2, true));
    assert_eq!(joined(&mut again), ("b".to_owned(), 2, true));
}

#[test]
fn streams_that_reconnect_get_every_message_of_every_room_once() {
    for seed in [Seed::fixed(51), Seed::new()] {
        let server = TestServer::start(&["--history-messages=100000", "--log-level=info"]);
        read_streams_while_reconnecting(&[&server], &seed);
    }
}

#[test]
fn streams_that_reconnect_get_every_message_of_every_room_once_from_disk() {
    let disk = TempDir::new();
    let server = disk.serve(&["--history-messages=100000", "--log-level=info"]);
    read_streams_while_reconnecting(&[&server], &Seed::new());
}
