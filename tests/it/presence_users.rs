//! Lists of members name the user of each client, so that two tabs of one person differ from two people.

use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, ops_with_claims, signed};
use crate::support::{RawConnection, TestClient, TestServer, request, wait_for, without_since};

fn token_of(user: Value) -> String {
    signed(SECRET, &claims(json!({"sub": user})))
}

fn target_of(user: Value) -> String {
    ops_with_claims(json!({"sub": user}))
}

/// Requests the members of `ops` until there are `members`, and returns the reply's payload.
fn presence(client: &mut TestClient, members: usize) -> Value {
    wait_for("all members are there", || {
        client.send_json(json!({"type": "presence", "room": "ops", "id": "who"}));
        let reply = loop {
            let frame = client.next_of("presence");
            if frame["id"] == "who" {
                break frame["payload"].clone();
            }
        };
        (reply["members"] == members).then(|| without_since(&reply))
    })
}

/// Requests the members of `ops` over HTTP as Alice.
fn presence_over_http(server: &TestServer) -> Value {
    let detail = server.get_json(&format!("/rooms/ops?token={}", token_of(json!("alice"))));
    without_since(&json!({"members": detail["members"], "clients": detail["clients"]}))
}

/// Opens an event stream.
fn reader_of_events(server: &TestServer, token: &str) -> RawConnection {
    let mut reader = server.raw();
    let target = format!("/rooms/ops/events?token={token}");
    reader.send(request("GET", &target, &[]));
    // Only `joined` shows that the reader is a member.
    let start = reader.read_until("event: joined");
    assert!(start.starts_with("HTTP/1.1 200 "), "{start}");
    reader
}

#[test]
fn every_list_names_users_and_distinguishes_tabs_from_people() {
    let server = TestServer::with_tokens(&["--anonymous", "both"]);
    // The second user's name needs escapes in JSON.
    let names = ["alice", "王 \"小\" \\明", "4711"];
    let mut alice = server.client_at(&target_of(json!(names[0])));
    alice.send_json(json!({"type": "join", "room": "ops", "presence": true}));
    alice.skip_to("joined");
    let tab = server.client_at(&target_of(json!(names[0])));
    let wang = server.client_at(&target_of(json!(names[1])));
    let service = server.client_at(&target_of(json!(names[2])));
    let mut guest = server.client_at("/ws?room=ops");

    let expected = json!({"members": 5, "clients": [
        {"client": alice.id(), "user": names[0]},
        {"client": tab.id(), "user": names[0]},
        {"client": wang.id(), "user": names[1]},
        {"client": service.id(), "user": names[2]},
        {"client": guest.id()},
    ]});
    assert_eq!(presence(&mut alice, 5), expected);
    assert_eq!(presence(&mut guest, 5), expected);
    assert_eq!(presence_over_http(&server), expected);
    // The update that Alice asked for is the same list.
    tab.close();
    let update = loop {
        let update = alice.next_of("presence");
        if update["payload"]["members"] == 4 {
            break without_since(&update["payload"])["clients"].clone();
        }
    };
    let without_the_tab: Vec<&Value> = expected["clients"]
        .as_array()
        .expect("a list")
        .iter()
        .enumerate()
        .filter_map(|(n, client)| (n != 1).then_some(client))
        .collect();
    assert_eq!(update, json!(without_the_tab));
}

#[test]
fn user_of_a_late_token_and_of_an_event_stream_is_named() {
    let server = TestServer::with_tokens(&[]);
    let mut alice = server.client_at(&target_of(json!("alice")));
    let mut late = RawConnection::connect(server.address());
    late.upgrade("/ws?room=ops");
    let auth = json!({"type": "auth", "token": token_of(json!("bob"))});
    late.send_frame(true, 1, auth.to_string().as_bytes());
    assert_eq!(late.next_json()["type"], "authenticated");
    assert_eq!(late.next_json()["from"], "server");
    let _carol = reader_of_events(&server, &token_of(json!("carol")));
    let _nameless = reader_of_events(&server, &token_of(json!(null)));

    let payload = presence(&mut alice, 4);
    let users: Vec<&Value> = payload["clients"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|client| &client["user"])
        .collect();
    assert_eq!(
        users,
        [
            &json!("alice"),
            &json!("bob"),
            &json!("carol"),
            &Value::Null
        ]
    );
    assert_eq!(payload["clients"][3].get("user"), None);
    assert_eq!(presence_over_http(&server), payload);
}

#[test]
fn users_are_shown_to_readers_of_the_room_only() {
    let server = TestServer::with_tokens(&[]);
    let _alice = server.client_at(&target_of(json!("alice")));
    let publisher = signed(SECRET, &claims(json!({"sub": "eve", "subscribe": []})));
    let reader_of_another_room =
        signed(SECRET, &claims(json!({"sub": "eve", "subscribe": ["dev"]})));
    for (token, status) in [
        (None, 401),
        (Some(publisher), 403),
        (Some(reader_of_another_room), 403),
    ] {
        let query = token
            .map(|token| format!("?token={token}"))
            .unwrap_or_default();
        let response = server.raw().get(&format!("/rooms/ops{query}"));
        assert_eq!(response.status, status);
        assert!(!response.text().contains("alice"), "{}", response.text());
    }
}

#[test]
fn longest_users_do_not_shorten_the_list_and_one_member_more_ends_it() {
    const LISTED_MAX: usize = 100;
    let server = TestServer::with_tokens(&["--max-connection-rate", "0"]);
    for longest in ["\"".repeat(128), "é".repeat(64)] {
        let target = target_of(json!(longest));
        let mut crowd: Vec<_> = (0..LISTED_MAX).map(|_| server.client_at(&target)).collect();
        let payload = presence(&mut crowd[0], LISTED_MAX);
        let listed = payload["clients"].as_array().expect("a list");
        assert_eq!(listed.len(), LISTED_MAX);
        assert!(listed.iter().all(|client| client["user"] == longest));
        assert!(payload.to_string().len() < 64 * 1024);

        crowd.push(server.client_at(&target));
        let most = LISTED_MAX + 1;
        assert_eq!(presence(&mut crowd[0], most), json!({"members": most}));
        crowd.into_iter().for_each(TestClient::close);
    }
}
