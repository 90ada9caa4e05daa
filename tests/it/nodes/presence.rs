//! Who is in a room is told wherever they are connected.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{TestClient, TestRedis, eventually};

/// Reads updates of presence until one tells this number of members.
fn told(client: &mut TestClient, members: usize) -> Value {
    loop {
        let update = client.next_of("presence");
        if update["payload"]["members"] == members {
            return update["payload"].clone();
        }
    }
}

fn names(clients: &[&TestClient]) -> Vec<String> {
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

#[test]
fn members_add_up_over_the_nodes_and_those_of_a_killed_node_go() {
    let Some(redis) = TestRedis::start() else {
        return;
    };
    let mut nodes = redis.nodes(3, &[]);
    let mut alice = nodes[0].client();
    alice.send(json!({"type": "join", "room": "ops", "presence": true}));
    while alice.next()["type"] != "joined" {}
    let bob = nodes[1].client_at("/ws?room=ops");
    let carol = nodes[2].client_at("/ws?room=ops");
    let payload = told(&mut alice, 3);
    assert_eq!(listed(&payload), names(&[&alice, &bob, &carol]));
    // Over HTTP as well, also of rooms that have members elsewhere only.
    let dave = nodes[1].client_at("/ws?room=dev");
    let rooms = eventually("a room of another node is listed", || {
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
    assert_eq!(listed(&nodes[0].get_json("/rooms/dev")), names(&[&dave]));
    // A newcomer is told at once how many there are.
    let erin = nodes[0].client_at("/ws?room=ops");
    assert_eq!(erin.welcome()["rooms"][0]["members"], 4);
    drop(erin);
    told(&mut alice, 3);

    nodes[2].signal(Signal::KILL);
    let payload = told(&mut alice, 2);
    assert_eq!(listed(&payload), names(&[&alice, &bob]));
    // A node that ends in order says so.
    nodes[1].signal(Signal::TERM);
    nodes[1].wait_for_exit();
    told(&mut alice, 1);
    let left: Vec<String> = redis.ask(&["ZRANGE", "wscast:{ nodes}", "0", "-1"]);
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn many_members_are_counted_and_not_listed() {
    let Some(redis) = TestRedis::start() else {
        return;
    };
    let nodes = redis.nodes(2, &[]);
    let mut alice = nodes[0].client_at("/ws?room=ops");
    let mut crowd: Vec<TestClient> = (0..101)
        .map(|_| nodes[1].client_at("/ws?room=ops"))
        .collect();
    let mut ask = |members: usize| {
        eventually("all are counted", || {
            alice.send(json!({"type": "presence", "room": "ops"}));
            let payload = alice.next_of("presence")["payload"].clone();
            (payload["members"] == members).then_some(payload)
        })
    };
    assert_eq!(ask(102).get("clients"), None);
    crowd.truncate(50);
    assert_eq!(listed(&ask(51)).len(), 51);
}

#[test]
fn a_way_back_that_breaks_makes_nobody_seem_to_leave() {
    let Some(redis) = TestRedis::start() else {
        return;
    };
    let nodes = redis.nodes(2, &[]);
    let _alice = nodes[0].client_at("/ws?room=ops");
    let mut bobs = vec![nodes[1].client_at("/ws?room=ops")];
    eventually("both are counted", || {
        (nodes[0].members("ops") == 2).then_some(())
    });
    for cut in 1..=3 {
        redis.ask::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        eventually("the way back is there again", || {
            let reconnects = &nodes[0].get_json("/stats")["cluster"]["reconnects"];
            (reconnects.as_u64() >= Some(cut)).then_some(())
        });
        // What is told next is heard, and what was told before stays.
        let before = bobs.len() as u64 + 1;
        bobs.push(nodes[1].client_at("/ws?room=ops"));
        eventually("one more is counted", || {
            let members = nodes[0].members("ops");
            assert!(members >= before, "{members} of {before}");
            (members == before + 1).then_some(())
        });
    }
}

#[test]
fn presence_comes_back_with_a_redis_that_was_flushed() {
    let Some(redis) = TestRedis::start() else {
        return;
    };
    let nodes = redis.nodes(2, &[]);
    let _alice = nodes[0].client_at("/ws?room=ops");
    let _bob = nodes[1].client_at("/ws?room=ops");
    let all_see = |what: &str, members: usize| {
        eventually(what, || {
            let counts = nodes
                .iter()
                .all(|node| node.members("ops") == members as u64);
            counts.then_some(())
        });
    };
    all_see("both nodes count both members", 2);
    redis.ask::<()>(&["FLUSHALL"]);
    let _carol = nodes[1].client_at("/ws?room=dev");
    all_see("they still do", 2);
    eventually("what nodes told before is told again", || {
        let keys: Vec<String> = redis.ask(&["KEYS", "wscast:{ nodes}:*"]);
        let rooms: Vec<Vec<String>> = keys.iter().map(|key| redis.ask(&["HKEYS", key])).collect();
        let told = rooms.iter().flatten().filter(|room| *room == "ops").count();
        (told == 2).then_some(())
    });
}
