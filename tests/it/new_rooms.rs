//! New rooms: they replace idle rooms, and the rate of new rooms of one address is limited.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::{
    ClientOptions, RawConnection, Response, TempDir, TestServer, forwarded_for, request, wait_for,
    wait_until, with_redis,
};

const ALICE: &str = "203.0.113.7";
const BOB: &str = "198.51.100.9";
/// New rooms that may be created at once with `--max-new-rooms=1`.
const BURST: usize = 10;

/// Publishes a payload that exceeds `--history-bytes=1`, and so leaves no history.
fn publish_without_history(server: &TestServer, room: &str) -> Response {
    let body = json!({"type": "message", "payload": "not kept"});
    server.post(&format!("/rooms/{room}/messages"), &body)
}

const ROOMS_MAX: usize = 40;
/// With these flags only payloads of one byte leave history.
const FLAGS: [&str; 2] = ["--max-rooms=40", "--history-bytes=1"];

/// Publishes to many times as many rooms as there may be, none of which keeps history. Asserts that each room
/// is created and that no position is used twice.
fn publish_to_many_rooms(server: &TestServer, positions: &mut HashSet<(String, String, u64)>) {
    const PUBLISHES: usize = 10 * ROOMS_MAX;
    let mut refused = 0;
    for n in 0..PUBLISHES {
        // Half of the names return after they were forgotten.
        let room = match n % 2 {
            0 => format!("returns:{}", n % (3 * ROOMS_MAX)),
            _ => format!("once:{n}"),
        };
        let stored = wait_for("the new room is created", || {
            let response = publish_without_history(server, &room);
            refused += usize::from(response.status != 201);
            (response.status == 201).then(|| response.json())
        });
        let epoch = stored["epoch"].as_str().expect("an epoch").to_owned();
        let offset = stored["offset"].as_u64().expect("an offset");
        let is_new = positions.insert((room, epoch, offset));
        assert!(is_new, "a position was used twice: {stored}");
    }
    // A busy server may still be delivering the messages of all other rooms, and then refuses one.
    assert!(refused <= PUBLISHES / 4, "{refused} refusals");
}

fn rooms_without_history_are_replaced(server: &TestServer) {
    let mut member = server.client_at("/ws?room=held");
    publish_to_many_rooms(server, &mut HashSet::new());

    // The room with a member stays as it was.
    member.say_in("held", 2);
    assert_eq!(member.expect(2)["offset"], 1);
    // While every room has members, no room can be created until a member leaves.
    let joined: Vec<String> = (1..ROOMS_MAX).map(|n| format!("room=joined:{n}")).collect();
    let (some, others) = joined.split_at(ROOMS_MAX / 2);
    let [mut leaver, _stays] =
        [some, others].map(|rooms| server.client_at(&format!("/ws?{}", rooms.join("&"))));
    let refused = publish_without_history(server, "late");
    assert_eq!(refused.error_code(), "too_many_rooms");
    leaver.leave("joined:2");
    wait_until("the empty room can be replaced", || {
        publish_without_history(server, "late").status == 201
    });
}

#[test]
fn new_room_replaces_one_without_members_and_history_in_memory() {
    rooms_without_history_are_replaced(&TestServer::start(&FLAGS));
}

#[test]
fn new_room_replaces_one_without_members_and_history_in_a_database() {
    rooms_without_history_are_replaced(&TempDir::new().serve(&FLAGS));
    // No position is used twice across a crash, either.
    let directory = TempDir::new();
    let mut positions = HashSet::new();
    for _ in 0..2 {
        publish_to_many_rooms(&directory.serve(&FLAGS), &mut positions);
    }
}

/// Publishes a message that stays, once a busy server has a room to replace. Returns its position.
fn publish_with_history(server: &TestServer, room: &str) -> (String, u64) {
    let body = json!({"type": "message", "payload": room});
    let stored = wait_for("the new room is created", || {
        let response = server.post(&format!("/rooms/{room}/messages"), &body);
        (response.status == 201).then(|| response.json())
    });
    let epoch = stored["epoch"].as_str().expect("an epoch").to_owned();
    (epoch, stored["offset"].as_u64().expect("an offset"))
}

fn history_status(server: &TestServer, room: &str) -> u16 {
    server.raw().get(&format!("/rooms/{room}/messages")).status
}

/// With room for three: the room that was published to least recently is replaced, however old it is itself, and a
/// room with a member is not.
fn oldest_room_with_history_is_replaced(server: &TestServer) {
    let first = publish_with_history(server, "first");
    publish_with_history(server, "second");
    publish_with_history(server, "first");
    publish_with_history(server, "third");
    for (new, replaced, kept) in [
        ("fourth", "second", ["first", "third"]),
        ("fifth", "first", ["third", "fourth"]),
    ] {
        publish_with_history(server, new);
        let statuses = [replaced, kept[0], kept[1]].map(|room| history_status(server, room));
        assert_eq!(statuses, [404, 200, 200], "{new}");
    }

    // A reader that comes back learns that its messages are gone, and no position is used again.
    let (epoch, offset) = &first;
    let query = format!("/ws?room=first&since={offset}&epoch={epoch}");
    // A busy server may have no room to replace yet, and says so with 503.
    let reader = wait_for("the reader's room is created", || {
        let mut raw = server.raw();
        raw.try_upgrade(&query)?;
        Some(ClientOptions::new().after_handshake(raw))
    });
    assert_eq!(reader.welcome().room("first").recovered, Some(false));
    let again = publish_with_history(server, "first");
    assert_ne!(again.0, first.0);
    for n in 0..5 {
        publish_with_history(server, &format!("more:{n}"));
    }
    assert_eq!(history_status(server, "first"), 200);
}

#[test]
fn new_room_replaces_the_one_whose_last_message_is_oldest() {
    let flags = ["--max-rooms=3"];
    oldest_room_with_history_is_replaced(&TestServer::start(&flags));
    let directory = TempDir::new();
    oldest_room_with_history_is_replaced(&directory.serve(&flags));
    // The totals and the order of the rooms are the same after a restart.
    let server = directory.serve(&flags);
    assert_eq!(server.stats()["history"]["messages"], 3);
    let mut positions = HashSet::new();
    for n in 0..9 {
        let (epoch, offset) = publish_with_history(&server, ["x", "y", "z", "first"][n % 4]);
        assert!(positions.insert((n % 4, epoch, offset)));
    }
}

fn rooms_that_were_left_are_replaced(server: &TestServer) {
    let mut alice = server.client_at("/ws?room=first");
    for n in 0..50 {
        alice.join(&format!("next:{n}"));
        alice.leave(&format!("next:{n}"));
    }
}

#[test]
fn new_room_replaces_one_that_its_members_left_at_once() {
    let flags = ["--max-rooms=2"];
    rooms_that_were_left_are_replaced(&TestServer::start(&flags));
    let directory = TempDir::new();
    rooms_that_were_left_are_replaced(&directory.serve(&flags));
    with_redis(|redis| rooms_that_were_left_are_replaced(&redis.node(&flags)));
}

/// A client that a proxy names by its address.
struct ProxiedClient<'a> {
    server: &'a TestServer,
    address: &'static str,
}

impl ProxiedClient<'_> {
    fn publish_as(&self, raw: &mut RawConnection, room: &str) -> Response {
        let body = json!({"type": "message", "payload": 1}).to_string();
        let forwarded = forwarded_for(self.address);
        let length = format!("Content-Length: {}", body.len());
        let headers = ["Content-Type: application/json", &length, &forwarded];
        raw.send(request("POST", &format!("/rooms/{room}/messages"), &headers) + &body);
        raw.response()
    }

    fn publish(&self, room: &str) -> Response {
        self.publish_as(&mut self.server.raw(), room)
    }

    fn stream(&self, room: &str) -> (RawConnection, Response) {
        let mut raw = self.server.raw();
        let response = raw.get_as(self.address, &format!("/rooms/{room}/events"));
        (raw, response)
    }

    fn connect(&self, query: &str) -> (RawConnection, Response) {
        self.server
            .handshake_as(self.address, &format!("/ws?{query}"), &[])
    }

    /// Joins a room on a WebSocket and returns the reply.
    fn join(&self, socket: &mut RawConnection, room: &str) -> Value {
        let join = json!({"type": "join", "room": room, "id": room});
        socket.send_frame(true, 1, join.to_string().as_bytes());
        socket.next_json()
    }
}

/// Asserts that a request was refused, or an event stream, whose status is 200.
fn assert_rate_limited(response: &Response) {
    if response.status == 200 {
        assert_eq!(response.refused_stream()["code"], "rate_limited");
    } else {
        assert_eq!(response.status, 429, "{}", response.text());
        assert_eq!(response.error_code(), "rate_limited");
    }
    let seconds = response.retry_after();
    assert!((1..=60).contains(&seconds), "{seconds}");
}

fn assert_join_rate_limited(reply: &Value, room: &str) {
    assert_eq!(
        (&reply["type"], &reply["id"]),
        (&json!("error"), &json!(room)),
        "{reply}"
    );
    assert_eq!(reply["payload"]["code"], "rate_limited");
    let milliseconds = reply["payload"]["retry_after_ms"].as_u64().expect("a time");
    assert!((1..=60_000).contains(&milliseconds), "{reply}");
}

/// Asserts that a client which has created as many rooms as it may is refused another in every way.
fn assert_no_new_room(client: &ProxiedClient<'_>) {
    assert_rate_limited(&client.publish("one-more"));
    assert_rate_limited(&client.stream("one-more").1);
    assert_rate_limited(&client.connect("room=one-more").1);
    let (mut socket, entered) = client.connect("room=created:0");
    assert_eq!(entered.status, 101, "a room that exists is open");
    assert_eq!(socket.next_json()["from"], "server");
    let reply = client.join(&mut socket, "one-more");
    assert_join_rate_limited(&reply, "one-more");
    let page = client
        .server
        .page_close_code_as(client.address, "/ws?room=one-more");
    assert_eq!(page, 4101);
    assert_eq!(client.publish("created:0").status, 201);
}

#[test]
fn every_request_that_creates_a_room_counts() {
    let server = TestServer::behind_proxy(&["--max-new-rooms=1"]);
    // A room that exists.
    let _keeper = server.client_at("/ws?room=created:0");
    let client = |address| ProxiedClient {
        server: &server,
        address,
    };
    let rooms = |by: &'static str| (1..=BURST).map(move |n| format!("by:{by}:{n}"));

    let publisher = client(ALICE);
    for room in rooms("publish") {
        // The second message goes to a room that exists.
        assert_eq!(publisher.publish(&room).status, 201);
        assert_eq!(publisher.publish(&room).status, 201);
    }
    assert_no_new_room(&publisher);
    // Each kind of refusal was counted.
    assert_eq!(server.total("new_rooms_rate_limited"), 5);

    let reader = client(BOB);
    let streams: Vec<_> = rooms("stream").map(|room| reader.stream(&room)).collect();
    assert!(streams.iter().all(|(_, response)| response.status == 200));
    assert_no_new_room(&reader);

    let joiner = client("198.51.100.10");
    let (mut socket, _) = joiner.connect("room=created:0");
    assert_eq!(socket.next_json()["from"], "server");
    for room in rooms("join") {
        assert_eq!(joiner.join(&mut socket, &room)["type"], "joined");
    }
    let reply = joiner.join(&mut socket, "one-more");
    assert_join_rate_limited(&reply, "one-more");
    assert_no_new_room(&joiner);

    // A network of IPv6 counts as one address.
    let [near, far] = ["2001:db8:7::1", "2001:db8:7::2"].map(client);
    let query: Vec<String> = rooms("connect")
        .map(|room| format!("room={room}"))
        .collect();
    let (mut socket, _) = near.connect(&query.join("&"));
    assert_eq!(socket.next_json()["from"], "server");
    assert_no_new_room(&far);

    // This machine has no limit.
    for n in 0..3 * BURST {
        let stored = publish_without_history(&server, &format!("by:local:{n}"));
        assert_eq!(stored.status, 201);
    }
}

#[test]
fn one_address_cannot_use_up_the_rooms_and_zero_is_no_limit() {
    const ROOMS: usize = 1000;
    let most = format!("--max-rooms={ROOMS}");
    for (flag, is_limited) in [("--max-new-rooms=60", true), ("--max-new-rooms=0", false)] {
        let server = TestServer::behind_proxy(&[&most, flag, "--max-http-rate=0"]);
        let flooder = ProxiedClient {
            server: &server,
            address: ALICE,
        };
        let mut raw = server.raw();
        let refused = (0..=ROOMS)
            .map(|n| flooder.publish_as(&mut raw, &format!("flood:{n}")))
            .find(|response| response.status != 201);
        let refused = refused.map(|response| response.error_code());
        assert_eq!(refused, is_limited.then(|| "rate_limited".to_owned()));
        // Each room of the flood has history, and yet another client creates a room.
        let victim = ProxiedClient {
            server: &server,
            address: BOB,
        };
        assert_eq!(victim.publish("quiet").status, 201);
    }
}

#[test]
fn room_that_another_node_created_is_not_new() {
    with_redis(|redis| {
        let nodes = redis.nodes(2, &["--max-new-rooms=1", "--trusted-proxies=127.0.0.1"]);
        let _member = nodes[0].client_at("/ws?room=created:0");
        for n in 1..=BURST {
            let stored = publish_without_history(&nodes[0], &format!("known:{n}"));
            assert_eq!(stored.status, 201);
        }
        let client = ProxiedClient {
            server: &nodes[1],
            address: ALICE,
        };
        for n in 1..=BURST {
            assert_eq!(client.publish(&format!("known:{n}")).status, 201);
            assert_eq!(client.publish(&format!("new:{n}")).status, 201);
        }
        assert_no_new_room(&client);
    });
}
