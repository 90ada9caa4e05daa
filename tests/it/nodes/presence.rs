//! Presence counts and lists the members of all nodes.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{TestClient, wait_for, wait_until, with_redis};

/// Reads presence updates up to the first with this number of members, and returns its payload.
fn update_with(client: &mut TestClient, members: usize) -> Value {
    loop {
        let update = client.next_of("presence");
        if update["payload"]["members"] == members {
            return update["payload"].clone();
        }
    }
}

fn sorted_ids(clients: &[&TestClient]) -> Vec<String> {
    let mut names: Vec<String> = clients.iter().map(|client| client.id()).collect();
    names.sort();
    names
}

fn listed(payload: &Value) -> Vec<String> {
    let clients = payload["clients"].as_array().expect("clients");
    let name = |client: &Value| client["client"].as_str().expect("name").to_owned();
    let mut names: Vec<String> = clients.iter().map(name).collect();
    names.sort();
    names
}

// Actors: Alice, who watches presence on the first node, and members on two other nodes.
// Faults: one node is killed; another one shuts down.
// Invariants: updates, `/rooms` and welcomes count the members of all live nodes; the roster ends with one node.
#[test]
fn members_of_all_nodes_are_counted_and_those_of_a_killed_node_leave() {
    with_redis(|redis| {
        let mut nodes = redis.nodes(3, &[]);
        let mut alice = nodes[0].client();
        alice.send_json(json!({"type": "join", "room": "ops", "presence": true}));
        alice.skip_to("joined");
        let bob = nodes[1].client_at("/ws?room=ops");
        let carol = nodes[2].client_at("/ws?room=ops");
        let payload = update_with(&mut alice, 3);
        assert_eq!(listed(&payload), sorted_ids(&[&alice, &bob, &carol]));
        // HTTP lists rooms whose members are all on other nodes, too.
        let dave = nodes[1].client_at("/ws?room=dev");
        let rooms = wait_for("a room of another node is listed", || {
            let rooms = nodes[0].get_json("/rooms");
            (rooms["total"] == 3).then_some(rooms)
        });
        let counts: Vec<(&Value, &Value)> = rooms["rooms"]
            .as_array()
            .expect("rooms")
            .iter()
            .map(|r| (&r["room"], &r["members"]))
            .collect();
        let expected = [("dev", 1), ("lobby", 1), ("ops", 3)].map(|(r, n)| (json!(r), json!(n)));
        assert_eq!(counts, expected.each_ref().map(|(r, n)| (r, n)));
        assert_eq!(
            listed(&nodes[0].get_json("/rooms/dev")),
            sorted_ids(&[&dave])
        );
        // The welcome counts the members of all nodes.
        let erin = nodes[0].client_at("/ws?room=ops");
        assert_eq!(erin.welcome().room("ops").members, 4);
        drop(erin);
        update_with(&mut alice, 3);

        nodes[2].signal(Signal::KILL);
        let payload = update_with(&mut alice, 2);
        assert_eq!(listed(&payload), sorted_ids(&[&alice, &bob]));
        // A node that shuts down in order removes itself at once.
        nodes[1].signal(Signal::TERM);
        nodes[1].wait_for_exit();
        update_with(&mut alice, 1);
        let left: Vec<String> = redis.command(&["ZRANGE", "wscast:{ nodes}", "0", "-1"]);
        assert_eq!(left.len(), 1, "{left:?}");
    });
}

#[test]
fn more_than_100_members_are_counted_and_not_listed() {
    with_redis(|redis| {
        let nodes = redis.nodes(2, &[]);
        let mut alice = nodes[0].client_at("/ws?room=ops");
        let mut crowd: Vec<TestClient> = (0..101)
            .map(|_| nodes[1].client_at("/ws?room=ops"))
            .collect();
        let mut ask = |members: usize| {
            wait_for("all are counted", || {
                alice.send_json(json!({"type": "presence", "room": "ops"}));
                let payload = alice.next_of("presence")["payload"].clone();
                (payload["members"] == members).then_some(payload)
            })
        };
        assert_eq!(ask(102).get("clients"), None);
        crowd.truncate(50);
        assert_eq!(listed(&ask(51)).len(), 51);
    });
}

#[test]
fn lost_subscription_makes_no_member_seem_to_leave() {
    with_redis(|redis| {
        let nodes = redis.nodes(2, &[]);
        let _alice = nodes[0].client_at("/ws?room=ops");
        let mut bobs = vec![nodes[1].client_at("/ws?room=ops")];
        wait_until("both are counted", || nodes[0].members("ops") == 2);
        for cut in 1..=3 {
            redis.command::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            wait_until("the node has subscribed again", || {
                let reconnects = &nodes[0].stats()["cluster"]["reconnects"];
                reconnects.as_u64() >= Some(cut)
            });
            // Later changes arrive, and earlier members stay counted.
            let before = bobs.len() as u64 + 1;
            bobs.push(nodes[1].client_at("/ws?room=ops"));
            wait_until("one more member is counted", || {
                let members = nodes[0].members("ops");
                assert!(members >= before, "{members} of {before}");
                members == before + 1
            });
        }
    });
}

#[test]
fn presence_is_restored_after_a_flushed_redis() {
    with_redis(|redis| {
        let nodes = redis.nodes(2, &[]);
        let _alice = nodes[0].client_at("/ws?room=ops");
        let _bob = nodes[1].client_at("/ws?room=ops");
        let all_see = |what: &str, members: usize| {
            wait_until(what, || {
                nodes
                    .iter()
                    .all(|node| node.members("ops") == members as u64)
            });
        };
        all_see("both nodes count both members", 2);
        redis.command::<()>(&["FLUSHALL"]);
        let _carol = nodes[1].client_at("/ws?room=dev");
        all_see("both nodes still count both members", 2);
        wait_until("both nodes have written their members again", || {
            let keys: Vec<String> = redis.command(&["KEYS", "wscast:{ nodes}:*"]);
            let rooms: Vec<Vec<String>> = keys
                .iter()
                .map(|key| redis.command(&["HKEYS", key]))
                .collect();
            let written = rooms.iter().flatten().filter(|room| *room == "ops").count();
            written == 2
        });
    });
}
