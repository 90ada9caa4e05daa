//! Presence: whoever asked for it is told who comes and goes, however many do at once.

use serde_json::{Value, json};

use crate::support::{TestClient, TestServer};

/// Above this many members only their number is told.
const LISTED_MAX: usize = 100;

/// Asks for updates or no longer asks. An update may be under way until it is answered.
fn watch(client: &mut TestClient, room: &str, wanted: bool) {
    client.send(json!({"type": "join", "room": room, "presence": wanted}));
    while client.next()["type"] != "joined" {}
}

/// Reads updates of presence until one tells this number of members; gives it and how many came.
fn updates_until(client: &mut TestClient, members: usize) -> (Value, usize) {
    for count in 1.. {
        let update = client.next_of("presence");
        assert_eq!(update.get("id"), None, "no request is answered: {update}");
        if update["payload"]["members"] == members {
            return (update, count);
        }
    }
    unreachable!("a read runs out of patience first")
}

fn ids(clients: &[&TestClient]) -> Value {
    let mut numbers: Vec<_> = clients.iter().map(|client| client.id()).collect();
    // Names of one process are told in the order in which they were given.
    numbers.sort_by_key(|id| {
        let count = id.rsplit('-').next().and_then(|count| count.parse().ok());
        count.unwrap_or(0_u64)
    });
    numbers.iter().map(|id| json!({"client": id})).collect()
}

#[test]
fn who_comes_and_goes_is_told_to_those_who_asked() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob) = (server.client(), server.client());
    watch(&mut alice, "ops", true);
    let (update, _) = updates_until(&mut alice, 1);
    assert_eq!(update["room"], "ops");
    assert_eq!(update["payload"]["clients"], ids(&[&alice]));

    bob.join("ops");
    let (update, _) = updates_until(&mut alice, 2);
    assert_eq!(update["payload"]["clients"], ids(&[&alice, &bob]));

    bob.leave("ops");
    let (update, _) = updates_until(&mut alice, 1);
    assert_eq!(update["payload"]["clients"], ids(&[&alice]));
    bob.expect_nothing();
}

#[test]
fn a_disconnect_shows() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    watch(&mut alice, "lobby", true);
    let (bob, carol) = (server.client(), server.client());
    updates_until(&mut alice, 3);
    bob.close();
    let (update, _) = updates_until(&mut alice, 2);
    assert_eq!(update["payload"]["clients"], ids(&[&alice, &carol]));
    drop(carol);
    updates_until(&mut alice, 1);
}

#[test]
fn whoever_did_not_ask_is_told_nothing() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob, mut carol) = (server.client(), server.client(), server.client());
    bob.join("ops");
    watch(&mut carol, "ops", true);
    watch(&mut carol, "ops", false);
    watch(&mut alice, "ops", true);
    updates_until(&mut alice, 3);
    bob.expect_nothing();
    carol.expect_nothing();
}

#[test]
fn many_changes_make_few_updates() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob) = (server.client(), server.client());
    watch(&mut alice, "ops", true);
    const TIMES: usize = 200;
    // One by one, so that it is not the batches of a busy server that make them few.
    for _ in 0..TIMES {
        bob.join("ops");
        bob.leave("ops");
    }
    bob.join("ops");
    let _carol = server.client_at("/ws?room=ops");
    let (_, updates) = updates_until(&mut alice, 3);
    assert!(
        updates <= TIMES / 10,
        "{updates} updates for {TIMES} changes"
    );
}

#[test]
fn presence_is_answered_to_members() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob) = (server.client(), server.client());
    alice.join("ops");
    bob.join("ops");
    alice.send(json!({"type": "presence", "room": "ops", "id": "who"}));
    let answer = alice.next_of("presence");
    assert_eq!(
        (&answer["id"], &answer["room"], &answer["payload"]),
        (
            &json!("who"),
            &json!("ops"),
            &json!({"members": 2, "clients": ids(&[&alice, &bob])})
        ),
        "{answer}"
    );
    // Asking once is not asking for updates.
    server.client().join("ops");
    alice.expect_nothing();
}

#[test]
fn a_crowd_is_counted_but_not_listed() {
    let server = TestServer::start(&[]);
    let mut crowd: Vec<_> = (0..LISTED_MAX)
        .map(|_| server.client_at("/ws?room=crowd"))
        .collect();
    let ask = json!({"type": "presence", "room": "crowd"});
    crowd[0].send(ask.clone());
    let answer = crowd[0].next_of("presence");
    let listed = answer["payload"]["clients"].as_array().expect("a list");
    assert_eq!(listed.len(), LISTED_MAX);

    let mut last = server.client();
    watch(&mut last, "crowd", true);
    let (update, _) = updates_until(&mut last, LISTED_MAX + 1);
    assert_eq!(update["payload"], json!({"members": LISTED_MAX + 1}));
    crowd[0].send(ask);
    assert_eq!(crowd[0].next_of("presence")["payload"], update["payload"]);

    crowd.pop();
    let (update, _) = updates_until(&mut last, LISTED_MAX);
    let listed = update["payload"]["clients"].as_array().expect("a list");
    assert_eq!(listed.len(), LISTED_MAX);
}
