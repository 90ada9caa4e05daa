//! The clock of the host of Redis is set while Redis runs. These scenarios are skipped where there is no libfaketime.

use serde_json::{Value, json};

use crate::support::{TestServer, wait_for, wait_until, with_redis, with_redis_at};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

/// Publishes with this id until the publish is not refused. Returns its position.
fn publish(node: &TestServer, id: &str) -> Value {
    let body = json!({"type": "message", "payload": id, "id": id});
    let target = "/rooms/ops/messages?session=a-session-chosen-at-random";
    wait_for("the publish is acknowledged", || {
        let response = node.post(target, &body);
        assert!([201, 503].contains(&response.status), "{}", response.json());
        (response.status == 201).then(|| response.json())
    })
}

fn stored_ids(node: &TestServer) -> Vec<Value> {
    let page = node.get_json("/rooms/ops/messages?since=0&limit=1000");
    let messages = page["messages"].as_array().expect("messages").clone();
    messages.iter().map(|m| m["payload"].clone()).collect()
}

// Actors: two nodes, a client of one, and a third node that starts while the clock is wrong.
// Faults: the clock of Redis is set by minutes and hours, forwards and backwards.
// Invariants: each id is stored once, whichever node repeats it; history keeps all messages in one epoch; the client
// stays connected; the members of both nodes are counted.
#[test]
fn ids_messages_and_members_outlast_jumps_of_the_clock_of_redis() {
    with_redis_at(|redis, clock| {
        let mut nodes = redis.nodes(2, &[]);
        let mut alice = nodes[0].client_at("/ws?room=ops");
        let mut first: Vec<Value> = vec![publish(&nodes[0], "0")];
        let jumps = [6 * MINUTE, 6 * MINUTE + HOUR, 6 * MINUTE, -HOUR, 0, 40];
        for (n, offset) in (1..).zip(jumps) {
            clock.set(offset);
            // At once, and after the nodes have noticed.
            for _ in 0..2 {
                for (id, position) in first.iter().enumerate() {
                    for node in &nodes {
                        assert_eq!(&publish(node, &id.to_string()), position, "jump {n}: {id}");
                    }
                }
                for node in &nodes {
                    wait_until("the node notices that the clock was set", || {
                        node.log().matches("the clock of Redis was changed").count() >= n
                    });
                }
            }
            first.push(publish(&nodes[n % 2], &n.to_string()));
            if n == 2 {
                nodes.push(redis.node(&[]));
            }
            if nodes.len() == 3 {
                assert_eq!(&publish(&nodes[2], "1"), &first[1]);
            }
            nodes.truncate(2);
        }
        let ids: Vec<Value> = (0..first.len()).map(|n| json!(n.to_string())).collect();
        assert_eq!(stored_ids(&nodes[1]), ids);
        ids.iter().for_each(|id| drop(alice.expect(id.clone())));
        let same = |position: &Value| position["epoch"] == first[0]["epoch"];
        assert!(first.iter().all(same), "{first:?}");
        wait_until("members are counted over both nodes", || {
            nodes[1].members("ops") == 1
        });
    });
}

/// The others stay, although the clock shows a time before their last heartbeats, or long after them.
#[test]
fn members_of_a_killed_node_disappear_after_the_clock_was_set() {
    with_redis_at(|redis, clock| {
        let nodes = redis.nodes(2, &[]);
        let mut alice = nodes[0].client();
        let _bob = nodes[1].client();
        for offset in [-HOUR, HOUR] {
            clock.set(offset);
            let killed = redis.node(&[]);
            let _carol = killed.client();
            wait_until("members of all nodes are counted", || {
                nodes.iter().all(|node| node.members("lobby") == 3)
            });
            drop(killed);
            wait_until("members of the killed node disappear", || {
                nodes.iter().all(|node| node.members("lobby") == 2)
            });
        }
        alice.say("still here");
        alice.expect("still here");
    });
}

/// Messages still expire, by time that passes, whatever the clock of Redis shows.
#[test]
fn messages_expire_by_time_that_passes() {
    with_redis_at(|redis, clock| {
        let node = redis.node(&["--history-age=3"]);
        for offset in [0, HOUR, -HOUR] {
            clock.set(offset);
            let id = offset.to_string();
            publish(&node, &id);
            assert!(stored_ids(&node).contains(&json!(id)));
            wait_until("the message expires", || stored_ids(&node).is_empty());
        }
    });
}

/// A node that starts while the clock is wrong, and dies at once, leaves such a time.
#[test]
fn node_recorded_with_a_time_far_ahead_is_forgotten() {
    with_redis(|redis| {
        let nodes = redis.nodes(1, &[]);
        let known = || nodes[0].stats()["cluster"]["nodes"].clone();
        let far_ahead = "9000000000000";
        redis.command::<i64>(&["ZADD", "wscast:{ nodes}", far_ahead, "a-dead-node"]);
        wait_until("the dead node is counted", || known() == 2);
        wait_until("the dead node is forgotten", || known() == 1);
    });
}
