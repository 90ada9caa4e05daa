//! Messages that an operator deletes on one node, or whose ttl ends, are gone on all nodes, and no reader resumes over them
//! without a gap.

use serde_json::json;

use crate::removed_messages::{
    check_deleted_message, check_deleted_room, check_event_stream, check_ttl,
};
use crate::support::token::admin_bearer;
use crate::support::{
    Seed, TestRedis, TestServer, read_over_removals, wait_until, with_redis, with_redis_cluster,
};

/// Runs a scenario with two nodes that know of each other.
fn with_nodes(scenario: impl FnOnce(&TestRedis, &[&TestServer])) {
    with_redis(|redis| {
        let nodes = [0, 1].map(|_| node(&redis.url()));
        wait_for_each_other(&nodes);
        scenario(&redis, &[&nodes[0], &nodes[1]]);
    });
}

fn node(url: &str) -> TestServer {
    let flags = [
        "--redis",
        url,
        "--history-messages=100000",
        "--log-level=info",
    ];
    TestServer::with_operator(&flags)
}

fn wait_for_each_other(nodes: &[TestServer]) {
    wait_until("the nodes know of each other", || {
        let stats = nodes[0].raw().request("GET", "/stats", &[&admin_bearer()]);
        stats.json()["cluster"]["nodes"] == nodes.len()
    });
}

#[test]
fn deleted_message_is_a_gap_on_every_node() {
    with_nodes(|_, nodes| check_deleted_message(nodes));
}

#[test]
fn deleted_room_keeps_its_numbering_on_every_node() {
    with_nodes(|_, nodes| check_deleted_room(nodes));
}

#[test]
fn ttl_ends_on_every_node() {
    with_nodes(|_, nodes| check_ttl(nodes));
}

#[test]
fn event_stream_of_another_node_gets_the_messages_that_are_left() {
    with_nodes(|_, nodes| check_event_stream(nodes));
}

#[test]
fn readers_that_reconnect_to_other_nodes_get_a_gap_for_every_removed_message() {
    for seed in [Seed::fixed(20), Seed::new()] {
        with_nodes(|_, nodes| read_over_removals(nodes, &seed));
    }
}

#[test]
fn cluster_removes_messages_too() {
    with_redis_cluster(|cluster| {
        let nodes = [0, 1].map(|_| node(&cluster.url()));
        wait_for_each_other(&nodes);
        check_ttl(&[&nodes[0], &nodes[1]]);
    });
}

/// Nothing of messages that are gone stays in Redis, and no key stays without an end.
#[test]
fn removed_messages_leave_redis() {
    with_nodes(|redis, nodes| {
        let mut alice = nodes[0].client_at("/ws?room=ops");
        for n in 1..=300 {
            alice.send_json(json!({"type": "message", "payload": n, "ttl": 1}));
            alice.expect(n);
        }
        let count = |command: &str, key: &str| -> u64 {
            redis.command(&[command, &format!("wscast:{{ops}}:{key}")])
        };
        assert_eq!(count("XLEN", "log"), count("ZCARD", "expiring"));
        // Each read or publish removes a part of them.
        wait_until("the messages leave Redis", || {
            nodes[1].get_json("/rooms/ops/messages?since=0");
            count("XLEN", "log") == 0
        });
        assert_eq!(count("ZCARD", "expiring"), 0);
        alice.send_json(json!({"type": "message", "payload": "kept", "ttl": 60}));
        alice.expect("kept");
        let bytes: u64 = redis.command(&["HGET", "wscast:{ops}:numbers", "bytes"]);
        let stored: Vec<Vec<(String, Vec<String>)>> =
            vec![redis.command(&["XRANGE", "wscast:{ops}:log", "-", "+"])];
        assert_eq!(bytes, stored[0][0].1[3].len() as u64);
        for key in ["numbers", "log", "expiring"] {
            assert!(count("PTTL", key) > 0, "{key}");
        }
    });
}

/// A node that missed messages while it was paused does not wait for one that was deleted meanwhile.
#[test]
fn node_that_missed_a_deleted_message_continues_and_tells_its_members() {
    with_nodes(|redis, nodes| {
        let mut bob = nodes[1].client_at("/ws?room=ops");
        let mut alice = nodes[0].client_at("/ws?room=ops");
        alice.say(1);
        bob.expect(1);
        let killed: u64 = redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        assert!(killed > 0);
        for n in 2..=4 {
            alice.say(n);
        }
        nodes[0].delete("/rooms/ops/messages/3");
        // Bob has got all messages, or must resume because the node missed one.
        let mut last = 1;
        while let Some(frame) = bob.try_next() {
            last += 1;
            assert_eq!(frame["offset"], last);
            if last == 4 {
                return;
            }
        }
        let bob = nodes[1].client_at("/ws?room=ops&since=1");
        assert_eq!(bob.welcome().room("ops").recovered, Some(false));
    });
}
