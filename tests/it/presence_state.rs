//! Presence with state: what a client shows to the members of a room, and since when it is there.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::token::{now, ops_with_claims};
use crate::support::{TestClient, TestServer, wait_for, with_redis};

/// The largest state, in bytes.
const STATE_BYTES_MAX: usize = 256;

fn watch(client: &mut TestClient, room: &str) {
    client.send_json(json!({"type": "join", "room": room, "presence": true}));
    client.skip_to("joined");
}

/// Shows a state, and returns once the server has replied.
fn show(client: &mut TestClient, room: &str, state: Value) {
    client.send_json(json!({"type": "state", "room": room, "state": state, "id": "state"}));
    let reply = loop {
        let frame = client.next();
        if frame["id"] == "state" {
            break frame;
        }
    };
    assert_eq!(reply["type"], "state", "{reply}");
    assert_eq!(
        (&reply["room"], &reply["payload"]["room"]),
        (&json!(room), &json!(room))
    );
}

/// The code of the refusal of a request.
fn refusal(client: &mut TestClient, request: Value) -> String {
    client.send_json(request);
    client.expect_error()
}

/// The members of a room over HTTP.
fn members(server: &TestServer, room: &str) -> Vec<Value> {
    let detail = server.get_json(&format!("/rooms/{room}"));
    detail["clients"].as_array().expect("a list").clone()
}

fn entry<'a>(clients: &'a [Value], client: &str) -> &'a Value {
    let found = clients.iter().find(|entry| entry["client"] == client);
    found.expect("the client is listed")
}

/// Reads presence updates until a client shows this state; `null` is none.
fn await_state(watcher: &mut TestClient, client: &str, state: &Value) {
    loop {
        let update = watcher.next_of("presence");
        let clients = update["payload"]["clients"].as_array().expect("a list");
        let shows = |entry: &Value| entry["client"] == client && entry["state"] == *state;
        if clients.iter().any(shows) {
            return;
        }
    }
}

#[test]
fn state_is_shown_to_members_until_it_is_removed_or_the_member_leaves() {
    let server = TestServer::start(&[]);
    let mut watcher = server.client_at("/ws?room=ops");
    watch(&mut watcher, "ops");
    let mut bob = server.client();
    let before = now() as u64 * 1000;
    bob.send_json(json!({"type": "join", "room": "ops", "state": {"mood": "  good "}}));
    bob.skip_to("joined");
    await_state(&mut watcher, &bob.id(), &json!({"mood": "  good "}));
    for state in [
        json!({"typing": true}),
        json!("away"),
        json!(7),
        json!([]),
        json!(false),
    ] {
        show(&mut bob, "ops", state.clone());
        await_state(&mut watcher, &bob.id(), &state);
    }
    // In another room it shows nothing.
    assert_eq!(
        entry(&members(&server, "lobby"), &bob.id()).get("state"),
        None
    );
    let since = entry(&members(&server, "ops"), &bob.id())["since"]
        .as_u64()
        .expect("ms");
    assert!(
        (before..=now() as u64 * 1000 + 1000).contains(&since),
        "{since}"
    );
    // Joining again changes neither the time nor, without the field, the state.
    bob.join("ops");
    let clients = members(&server, "ops");
    let again = entry(&clients, &bob.id());
    assert_eq!(
        (&again["since"], &again["state"]),
        (&json!(since), &json!(false))
    );
    show(&mut bob, "ops", Value::Null);
    await_state(&mut watcher, &bob.id(), &Value::Null);
    assert_eq!(
        entry(&members(&server, "ops"), &bob.id()).get("state"),
        None
    );

    show(&mut bob, "ops", json!("gone soon"));
    bob.leave("ops");
    bob.join("ops");
    let clients = members(&server, "ops");
    assert_eq!(
        entry(&clients, &bob.id()).get("state"),
        None,
        "a new membership"
    );
}

#[test]
fn state_is_relayed_verbatim() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    let state = r#"{ "n" : 1.10e+2, "big":123456789012345678901234567890,"é":"\u00e9"}"#;
    bob.send_text(&format!(
        r#"{{"type":"state","room":"lobby","state":{state},"id":"s"}}"#
    ));
    bob.next_of("state");
    let body = server.raw().get("/rooms/lobby").text();
    assert!(body.contains(state), "{body}");
    bob.send_json(json!({"type": "presence", "room": "lobby"}));
    let frame = bob.next_text();
    assert!(frame.contains(state), "{frame}");
}

#[test]
fn each_client_of_a_user_shows_a_state_of_its_own() {
    let server = TestServer::with_tokens(&[]);
    let mut tabs: Vec<_> = (0..2)
        .map(|_| server.client_at(&ops_with_claims(json!({}))))
        .collect();
    for (n, tab) in tabs.iter_mut().enumerate() {
        show(tab, "ops", json!(n));
    }
    tabs[0].send_json(json!({"type": "presence", "room": "ops"}));
    let reply = tabs[0].next_of("presence");
    let clients = reply["payload"]["clients"].as_array().expect("a list");
    for (n, tab) in tabs.iter().enumerate() {
        let entry = entry(clients, &tab.id());
        assert_eq!(
            (&entry["user"], &entry["state"]),
            (&json!("alice"), &json!(n))
        );
    }
}

#[test]
fn wrong_states_are_refused_and_change_nothing() {
    let server = TestServer::start(&[]);
    let mut bob = server.client();
    let longest = json!("s".repeat(STATE_BYTES_MAX - 2));
    show(&mut bob, "lobby", longest.clone());
    let long = json!("s".repeat(STATE_BYTES_MAX - 1));
    let wide = json!("é".repeat(STATE_BYTES_MAX / 2));
    for (request, code) in [
        (
            json!({"type": "state", "room": "lobby", "state": long}),
            "state_too_large",
        ),
        (
            json!({"type": "state", "room": "lobby", "state": wide}),
            "state_too_large",
        ),
        (
            json!({"type": "join", "room": "lobby", "state": long}),
            "state_too_large",
        ),
        (
            json!({"type": "join", "room": "ops", "state": long}),
            "state_too_large",
        ),
        (json!({"type": "state", "room": "lobby"}), "missing_field"),
        (json!({"type": "state", "state": 1}), "missing_field"),
        (
            json!({"type": "state", "room": "ops", "state": 1}),
            "not_in_room",
        ),
        (
            json!({"type": "state", "room": "a b", "state": 1}),
            "invalid_room",
        ),
    ] {
        assert_eq!(refusal(&mut bob, request.clone()), code, "{request}");
    }
    bob.send_text(r#"{"type":"state","room":"lobby","state":1,"state":2}"#);
    assert_eq!(bob.expect_error(), "duplicate_field");
    bob.send_text(r#"{"type":"state","room":"lobby","state":{"a":}}"#);
    assert_eq!(bob.expect_error(), "invalid_json");
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    bob.send_text(&format!(
        r#"{{"type":"state","room":"lobby","state":{deep}}}"#
    ));
    assert_eq!(bob.expect_error(), "too_deep");
    assert_eq!(
        entry(&members(&server, "lobby"), &bob.id())["state"],
        longest
    );
    assert!(!server.get_json("/rooms").to_string().contains("ops"));
}

#[test]
fn client_without_a_token_shows_no_state() {
    let server = TestServer::with_tokens(&[]);
    let mut client = server.client_without_welcome("/ws?room=ops");
    let request = json!({"type": "state", "room": "ops", "state": 1});
    assert_eq!(refusal(&mut client, request), "unauthorized");
}

// Attack: a client changes its state as fast as it can.
// Invariants: its rate limits it, and the watchers get an update a second at most.
#[test]
fn flood_of_states_is_limited_by_the_rate_and_merged() {
    let server = TestServer::start(&["--max-request-rate=20"]);
    let mut watcher = server.client();
    watch(&mut watcher, "lobby");
    let mut flooder = server.client();
    let start = Instant::now();
    let mut refused = 0;
    for n in 0..400 {
        flooder.send_json(json!({"type": "state", "room": "lobby", "state": n}));
    }
    // A client that does not stop is closed in the end.
    for _ in 0..400 {
        let Some(frame) = flooder.try_next() else {
            break;
        };
        refused += usize::from(frame["payload"]["code"] == "rate_limited");
    }
    assert!(refused > 0);
    let mut updates = 0;
    watcher.send_json(json!({"type": "ping"}));
    while watcher.next()["type"] != "pong" {
        updates += 1;
    }
    let seconds = start.elapsed().as_secs() as usize;
    assert!(updates <= seconds + 4, "{updates} updates in {seconds} s");
}

#[test]
fn states_in_a_crowd_are_accepted_and_not_sent_around() {
    const LISTED_MAX: usize = 100;
    let server = TestServer::start(&["--max-connection-rate=0"]);
    let mut crowd: Vec<_> = (0..=LISTED_MAX)
        .map(|_| server.client_at("/ws?room=crowd"))
        .collect();
    watch(&mut crowd[0], "crowd");
    loop {
        let update = crowd[0].next_of("presence");
        if update["payload"]["members"] == LISTED_MAX + 1 {
            break;
        }
    }
    show(&mut crowd[1], "crowd", json!("hidden"));
    crowd[0].expect_nothing();
    // Below the limit it is shown.
    let shown = crowd[1].id();
    crowd.pop();
    await_state(&mut crowd[0], &shown, &json!("hidden"));
}

// Actors: a watcher on one node, a member on another.
// Invariants: time and state travel with the member, change and end with it; a node that starts later reads them.
#[test]
fn states_are_shown_across_nodes() {
    with_redis(|redis| {
        let nodes = redis.nodes(2, &[]);
        let mut watcher = nodes[0].client_at("/ws?room=ops");
        watch(&mut watcher, "ops");
        let mut bob = nodes[1].client_at("/ws?room=ops");
        let mut shown = json!({"typing": "\"quoted\" \u{e9}\n"});
        for state in [
            json!(1),
            shown.clone(),
            json!("user:eve"),
            json!("c00000001-1"),
        ] {
            show(&mut bob, "ops", state.clone());
            await_state(&mut watcher, &bob.id(), &state);
            shown = state;
        }
        let since = entry(&members(&nodes[1], "ops"), &bob.id())["since"].clone();
        let late = TestServer::start(&["--redis", &redis.url()]);
        let clients = wait_for("the late node knows both", || {
            let response = late.raw().get("/rooms/ops");
            let detail = (response.status == 200).then(|| response.json())?;
            (detail["members"] == 2).then(|| detail["clients"].as_array().cloned())?
        });
        let seen = entry(&clients, &bob.id());
        assert_eq!((&seen["state"], &seen["since"]), (&shown, &since));
        show(&mut bob, "ops", Value::Null);
        await_state(&mut watcher, &bob.id(), &Value::Null);
        bob.close();
        loop {
            let update = watcher.next_of("presence");
            if update["payload"]["members"] == 1 {
                break;
            }
        }
    });
}

#[test]
fn updates_of_a_state_come_within_the_interval() {
    let server = TestServer::start(&[]);
    let mut watcher = server.client();
    watch(&mut watcher, "lobby");
    let mut bob = server.client();
    let mut slowest = Duration::ZERO;
    for n in 0..3 {
        show(&mut bob, "lobby", json!(n));
        let start = Instant::now();
        await_state(&mut watcher, &bob.id(), &json!(n));
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

// A client that first reads stored messages is a member already, but has no `joined` yet.
#[test]
fn presence_follows_joined_for_a_client_that_reads_stored_messages_first() {
    let server = TestServer::start(&[]);
    let mut alice = server.client_at("/ws?room=ops");
    for n in 1..=3 {
        alice.say(n);
        alice.expect(n);
    }
    for n in 0..30 {
        let mut bob = server.client();
        let room = ["ops", "empty"][n % 2];
        bob.send_json(json!({
            "type": "join", "room": room, "presence": true, "last": 2, "state": {"a": n},
        }));
        bob.next_of("joined");
        // Updates are merged for a second.
        if n >= 28 {
            let update = bob.skip_to("presence");
            let clients = update["payload"]["clients"].as_array().expect("a list");
            let own = bob.welcome()["client"].as_str().expect("an id").to_owned();
            assert_eq!(entry(clients, &own)["state"], json!({"a": n}));
        }
        bob.close();
    }
}
