//! Rooms of users: `@alice` is open to the user `alice`, and to others only with an explicit right.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, signed};
use crate::support::{
    TempDir, TestServer, handshake, handshake_with, payloads, request, with_redis,
};

fn token(changes: Value) -> String {
    signed(SECRET, &claims(changes))
}

/// A token of a user without any right.
fn user(name: &str) -> String {
    token(json!({"sub": name, "subscribe": null, "publish": null}))
}

/// A token of a server that publishes to all users.
fn backend() -> String {
    token(json!({"sub": null, "subscribe": null, "publish": "@*"}))
}

fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// The documented name of the room of a user whose name is no room name.
fn base64_room(user: &str) -> String {
    format!("@:{}", BASE64URL_NOPAD.encode(user.as_bytes()))
}

/// Publishes to a room over HTTP and returns the status.
fn publish(server: &TestServer, room: &str, token: &str, payload: &str) -> u16 {
    let body = json!({"type": "message", "payload": payload}).to_string();
    let length = format!("Content-Length: {}", body.len());
    let mut raw = server.raw();
    raw.send(request(
        "POST",
        &format!("/rooms/{}/messages?token={token}", encoded(room)),
        &["Content-Type: application/json", &length],
    ));
    raw.send(body);
    raw.response().status
}

/// Alice receives what a backend publishes to her, resumes it, and reads her room by every route.
fn check_own_room(server: &TestServer, name: &str, room: &str) {
    let (token, backend) = (user(name), backend());
    let mut alice = server.client_at(&format!("/ws?me=1&token={token}"));
    assert_eq!(alice.welcome().room(room).members, 1, "{name}");
    assert_eq!(publish(server, room, &backend, "first"), 201);
    let first = alice.expect("first");
    assert_eq!(first["room"], room);
    alice.send_json(json!({"type": "history", "room": room}));
    let page = alice.next_of("history");
    assert_eq!(payloads(&page["payload"]), ["first"]);
    let epoch = page["payload"]["epoch"]
        .as_str()
        .expect("an epoch")
        .to_owned();
    alice.send_json(json!({"type": "presence", "room": room}));
    assert_eq!(alice.next_of("presence")["payload"]["members"], 1);
    alice.close();

    assert_eq!(publish(server, room, &backend, "second"), 201);
    // The room is the last for `since`, after those that are named.
    let own = format!("/ws?room=ops&since=0&since=1&epoch=&epoch={epoch}&me=1&token=");
    let both = own.clone() + &self::token(json!({"sub": name}));
    let mut alice = server.client_at(&both);
    assert_eq!(alice.welcome().room(room).recovered, Some(true), "{name}");
    alice.welcome().room("ops");
    alice.expect("second");
    alice.close();
    // Named and asked for, it is one room.
    let target = format!(
        "/ws?room={}&since=1&epoch={epoch}&me=true&token={token}",
        encoded(room)
    );
    let mut alice = server.client_at(&target);
    assert_eq!(alice.welcome().room(room).recovered, Some(true), "{name}");
    assert_eq!(alice.welcome().rooms().len(), 1);
    alice.expect("second");
    for target in ["", "/messages"] {
        let target = format!("/rooms/{}{target}?token={token}", encoded(room));
        assert_eq!(server.raw().get(&target).status, 200, "{target}");
    }
    let target = format!(
        "/rooms/{}/events?last_event_id=0&token={token}",
        encoded(room)
    );
    let mut events = server.raw();
    events.send(request("GET", &target, &[]));
    events.read_until("\"second\"");
    // The own room alone, and together with others, in which it may also be named.
    let named = encoded(room);
    for query in ["me=1", "room=ops&me=true", &format!("room={named}&me=1")] {
        let token = self::token(json!({"sub": name}));
        let target = format!("/events?{query}&last_event_id=0&token={token}");
        let mut events = server.raw();
        events.send(request("GET", &target, &[]));
        let text = events.read_until("\"second\"");
        assert_eq!(
            text.matches("\"recovered\"").count(),
            1 + query.matches("ops").count()
        );
    }
    let rooms = server.get_json(&format!("/rooms?token={token}"));
    assert_eq!(rooms["rooms"][0]["room"], room, "{rooms}");
    assert_eq!(rooms["total"], 1, "{rooms}");
}

const USERS: [(&str, Option<&str>); 6] = [
    ("alice", Some("@alice")),
    ("alice@example.com", Some("@alice@example.com")),
    ("王", Some("@王")),
    ("auth0|5f7c", None),
    (":alice", None),
    ("cafe\u{301}", None),
];

fn check_own_rooms(server: &TestServer) {
    for (name, room) in USERS {
        let room = room.map_or_else(|| base64_room(name), str::to_owned);
        check_own_room(server, name, &room);
    }
}

#[test]
fn user_reads_the_own_room_without_a_right() {
    check_own_rooms(&TestServer::with_tokens(&[]));
}

#[test]
fn rooms_of_users_are_kept_on_disk_like_others() {
    let disk = TempDir::new();
    let db = disk.path("history.db").display().to_string();
    check_own_rooms(&TestServer::with_tokens(&["--db", &db]));
    let server = TestServer::with_tokens(&["--db", &db]);
    for (name, room) in USERS {
        let room = room.map_or_else(|| base64_room(name), str::to_owned);
        let target = format!("/rooms/{}/messages?token={}", encoded(&room), user(name));
        assert_eq!(
            payloads(&server.get_json(&target)),
            ["first", "second"],
            "{name}"
        );
    }
}

#[test]
fn rooms_of_users_are_shared_by_nodes_like_others() {
    with_redis(|redis| {
        let one = TestServer::with_tokens(&["--redis", &redis.url()]);
        check_own_rooms(&one);
        let two = TestServer::with_tokens(&["--redis", &redis.url()]);
        let mut alice = one.client_at(&format!("/ws?me=1&token={}", user("alice")));
        assert_eq!(
            publish(&two, "@alice", &backend(), "from another node"),
            201
        );
        alice.expect("from another node");
    });
}

/// Every way into Alice's room, for clients that have no right to it.
fn assert_closed(server: &TestServer, room: &str, token: Option<&str>, status: u16) {
    let query = token.map_or_else(String::new, |token| format!("token={token}"));
    let room = encoded(room);
    for target in ["", "/messages", "/events"] {
        let target = format!("/rooms/{room}{target}?{query}");
        let response = server.raw().get(&target);
        assert_eq!(response.status, status, "{target}: {}", response.text());
    }
    let target = format!("/ws?room={room}&{query}");
    if token.is_some() || status == 403 {
        let refused = server.refused_handshake(handshake(&target));
        assert_eq!(refused.status, status, "{target}");
        let mut page = server.raw();
        page.send(handshake_with(&target, &["Origin: https://a.example"]));
        page.response();
        assert_eq!(
            page.close_code(),
            if status == 400 { 4000 } else { 4003 },
            "{target}"
        );
    }
}

#[test]
fn nobody_else_enters_the_room_of_a_user() {
    let server = TestServer::with_tokens(&[]);
    let mut alice = server.client_at(&format!("/ws?me=1&token={}", user("alice")));
    let everything = token(json!({"sub": "eve", "subscribe": "*", "publish": "*", "admin": true}));
    let nameless = token(json!({"sub": null, "subscribe": ["*", "a*"], "publish": "*"}));
    for token in [
        &everything,
        &nameless,
        &user("Alice"),
        &user("alic"),
        &user("alice2"),
    ] {
        assert_closed(&server, "@alice", Some(token), 403);
        assert_eq!(publish(&server, "@alice", token, "spam"), 403);
    }
    assert_closed(&server, "@alice", None, 401);
    let mut eve = server.client_at(&format!("/ws?room=lobby&token={everything}"));
    for request in ["join", "history", "presence", "leave", "message"] {
        eve.send_json(json!({"type": request, "room": "@alice", "payload": 1}));
        let code = eve.expect_error();
        let expected = if request == "join" {
            "forbidden"
        } else {
            "not_in_room"
        };
        assert_eq!(code, expected, "{request}");
    }
    let rooms = server.get_json(&format!("/rooms?token={everything}"));
    assert!(!rooms.to_string().contains("@alice"), "{rooms}");
    // Alice may read, and publishes only with a right.
    alice.say_in("@alice", "to myself");
    assert_eq!(alice.expect_error(), "forbidden");
    assert_eq!(publish(&server, "@alice", &user("alice"), "to myself"), 403);
    let right = token(json!({"sub": "alice", "publish": "@alice"}));
    assert_eq!(publish(&server, "@alice", &right, "to myself"), 201);
    alice.expect("to myself");
    // An explicit right opens it for others.
    for right in ["@alice", "@ali*", "@*"] {
        let nurse = token(json!({"sub": "nurse", "subscribe": right}));
        server.client_at(&format!("/ws?room=@alice&token={nurse}"));
    }
}

// Users whose names look alike or are encoded alike, and spellings of Alice's room that a proxy or a database might
// take for it.
#[test]
fn spellings_of_a_room_open_no_other_user_s_room() {
    let server = TestServer::with_tokens(&[]);
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let cafe = user(decomposed);
    for spelling in ["@caf\u{e9}", "@cafe\u{301}"] {
        assert_closed(&server, spelling, Some(&cafe), 403);
        server.client_at(&format!(
            "/ws?room={}&token={}",
            encoded(spelling),
            user(composed)
        ));
    }
    assert_closed(
        &server,
        &base64_room(decomposed),
        Some(&user(composed)),
        403,
    );
    server.client_at(&format!(
        "/ws?room={}&token={cafe}",
        base64_room(decomposed)
    ));
    let names = [
        ("@:YWxpY2U", "the encoding of a name that needs none"),
        ("@:YWxpY2U=", "padding"),
        ("%40alice", "encoded twice"),
        ("\u{ff20}alice", "a wide sign"),
        ("\u{fe6b}alice", "a small sign"),
        ("@ alice", "a space"),
        ("@alice\0", "a NUL"),
        ("@alice\u{200b}", "nothing to see"),
        ("@al\u{ad}ice", "a soft hyphen"),
        ("@", "nobody"),
        ("@:", "nobody, encoded"),
        ("@/alice", "a path"),
    ];
    for (name, what) in names {
        for token in [user("alice"), user("eve"), user(name)] {
            let target = format!("/rooms/{}/messages?token={token}", encoded(name));
            let response = server.raw().get(&target);
            // A user's name without a control character is valid, and gives no right to the spelling.
            assert!(
                [400, 401].contains(&response.status),
                "{what}: {}",
                response.text()
            );
        }
    }
    // A user whose name is the encoding of another's, or a whole room name.
    for (name, room) in [
        (":YXV0aDB8NWY3Yw", "@:YXV0aDB8NWY3Yw"),
        ("@alice", "@alice"),
    ] {
        assert_closed(&server, room, Some(&user(name)), 403);
    }
    // The letters differ although they look alike.
    assert_closed(&server, "@\u{430}lice", Some(&user("alice")), 403);
    assert_closed(&server, "@ALICE", Some(&user("alice")), 403);
}

#[test]
fn clients_without_a_user_enter_no_room_of_a_user() {
    for args in [&[][..], &["--anonymous", "both"]] {
        let server = match args {
            [] => TestServer::start(&[]),
            args => TestServer::with_tokens(args),
        };
        assert_closed(&server, "@alice", None, 403);
        let refused = server.refused_handshake(handshake("/ws?me=1"));
        assert_eq!(refused.status, 403);
        let mut client = server.client();
        client.send_json(json!({"type": "join", "room": "@alice"}));
        assert_eq!(client.expect_error(), "forbidden");
    }
}

#[test]
fn own_room_is_joined_after_a_late_token() {
    let server = TestServer::with_tokens(&[]);
    let mut alice = server.client_without_welcome("/ws?me=1");
    alice.send_json(json!({"type": "auth", "token": user("alice")}));
    alice.skip_to("authenticated");
    let welcome = alice.next();
    assert_eq!(welcome["rooms"][0]["room"], "@alice", "{welcome}");
    assert_eq!(welcome["rooms"].as_array().expect("rooms").len(), 1);

    let mut nameless = server.client_without_welcome("/ws?me=1");
    let token = token(json!({"sub": null, "subscribe": "*"}));
    nameless.send_json(json!({"type": "auth", "token": token}));
    assert_eq!(nameless.expect_error(), "forbidden");
    assert_eq!(nameless.close_code(), 4003);
}

#[test]
fn renewed_token_keeps_the_own_room() {
    let server = TestServer::with_tokens(&[]);
    let mut alice = server.client_at(&format!("/ws?me=1&token={}", user("alice")));
    let renewed = token(json!({"sub": "alice", "subscribe": "other", "publish": null}));
    alice.send_json(json!({"type": "auth", "token": renewed}));
    alice.skip_to("authenticated");
    assert_eq!(publish(&server, "@alice", &backend(), "still here"), 201);
    alice.expect("still here");
}

#[test]
fn wrong_values_of_me_are_refused() {
    let server = TestServer::with_tokens(&[]);
    let token = user("alice");
    for query in [
        "me=alice",
        "me",
        "me=1&me=1",
        "me=1&since=1&since=2",
        "Me=1",
        "me=@alice",
    ] {
        let refused = server.refused_handshake(handshake(&format!("/ws?{query}&token={token}")));
        assert_eq!(refused.status, 400, "{query}");
    }
    let refused = server.refused_handshake(handshake(&format!("/ws?me=0&token={token}")));
    assert_eq!(refused.status, 403, "the lobby");
    let nameless = self::token(json!({"sub": null}));
    for (query, token, status) in [
        ("me=2", &token, 400),
        ("me=0", &token, 400),
        ("room=lobby&me=1", &token, 403),
        ("me=1", &nameless, 403),
    ] {
        let response = server.raw().get(&format!("/events?{query}&token={token}"));
        assert_eq!(response.status, status, "{query}: {}", response.text());
    }
}
