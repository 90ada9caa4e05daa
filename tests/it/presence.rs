//! Presence: members that asked for it get updates when others join and leave.

use serde_json::{Value, json};

use crate::support::{TestClient, TestServer, without_since};

/// Above this many members an update has only their number.
const LISTED_MAX: usize = 100;

/// Turns presence updates on or off. An earlier update may arrive before `joined`.
fn watch(client: &mut TestClient, room: &str, wanted: bool) {
    client.send_json(json!({"type": "join", "room": room, "presence": wanted}));
    client.skip_to("joined");
}

/// Reads presence updates up to the first with this number of members; returns it and the number of updates.
fn updates_until(client: &mut TestClient, members: usize) -> (Value, usize) {
    for count in 1.. {
        let update = client.next_of("presence");
        assert_eq!(update.get("id"), None, "an update has no id: {update}");
        if update["payload"]["members"] == members {
            return (update, count);
        }
    }
    unreachable!("a read times out first")
}

fn listed(update: &Value) -> Value {
    without_since(&update["payload"])["clients"].clone()
}

fn ids(clients: &[&TestClient]) -> Value {
    let mut numbers: Vec<_> = clients.iter().map(|client| client.id()).collect();
    // Presence lists the clients of one process in the order in which they connected.
    numbers.sort_by_key(|id| {
        let count = id.rsplit('-').next().and_then(|count| count.parse().ok());
        count.unwrap_or(0_u64)
    });
    numbers.iter().map(|id| json!({"client": id})).collect()
}

#[test]
fn watcher_receives_joins_and_leaves() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob) = (server.client(), server.client());
    watch(&mut alice, "ops", true);
    let (update, _) = updates_until(&mut alice, 1);
    assert_eq!(update["room"], "ops");
    assert_eq!(listed(&update), ids(&[&alice]));

    bob.join("ops");
    let (update, _) = updates_until(&mut alice, 2);
    assert_eq!(listed(&update), ids(&[&alice, &bob]));

    bob.leave("ops");
    let (update, _) = updates_until(&mut alice, 1);
    assert_eq!(listed(&update), ids(&[&alice]));
    bob.expect_nothing();
}

#[test]
fn watcher_receives_disconnects() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    watch(&mut alice, "lobby", true);
    let (bob, carol) = (server.client(), server.client());
    updates_until(&mut alice, 3);
    bob.close();
    let (update, _) = updates_until(&mut alice, 2);
    assert_eq!(listed(&update), ids(&[&alice, &carol]));
    drop(carol);
    updates_until(&mut alice, 1);
}

#[test]
fn member_that_does_not_watch_receives_no_update() {
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
fn many_changes_are_merged_into_few_updates() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob) = (server.client(), server.client());
    watch(&mut alice, "ops", true);
    const TIMES: usize = 200;
    // The requests are sent singly, so that the updates are not merged by the batches of a busy server.
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
fn member_can_ask_for_presence_once() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob) = (server.client(), server.client());
    alice.join("ops");
    bob.join("ops");
    alice.send_json(json!({"type": "presence", "room": "ops", "id": "who"}));
    let reply = alice.next_of("presence");
    assert_eq!(
        (
            &reply["id"],
            &reply["room"],
            &without_since(&reply["payload"])
        ),
        (
            &json!("who"),
            &json!("ops"),
            &json!({"members": 2, "clients": ids(&[&alice, &bob])})
        ),
        "{reply}"
    );
    // Asking once does not turn updates on.
    server.client().join("ops");
    alice.expect_nothing();
}

#[test]
fn large_room_is_counted_but_not_listed() {
    let server = TestServer::start(&[]);
    let mut crowd: Vec<_> = (0..LISTED_MAX)
        .map(|_| server.client_at("/ws?room=crowd"))
        .collect();
    let ask = json!({"type": "presence", "room": "crowd"});
    crowd[0].send_json(ask.clone());
    let reply = crowd[0].next_of("presence");
    let listed = reply["payload"]["clients"].as_array().expect("a list");
    assert_eq!(listed.len(), LISTED_MAX);

    let mut last = server.client();
    watch(&mut last, "crowd", true);
    let (update, _) = updates_until(&mut last, LISTED_MAX + 1);
    assert_eq!(update["payload"], json!({"members": LISTED_MAX + 1}));
    crowd[0].send_json(ask);
    assert_eq!(crowd[0].next_of("presence")["payload"], update["payload"]);

    crowd.pop();
    let (update, _) = updates_until(&mut last, LISTED_MAX);
    let listed = update["payload"]["clients"].as_array().expect("a list");
    assert_eq!(listed.len(), LISTED_MAX);
}
