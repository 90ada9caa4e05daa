//! No offset is used twice within an epoch, whatever Redis loses.

use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    RedisProxy, TestClient, TestRedis, TestServer, payloads, wait_for, wait_until,
    with_durable_redis, with_redis,
};

/// Publishes, with retries while Redis refuses, and returns the position.
fn publish(node: &TestServer, payload: &str) -> (String, u64) {
    let body = json!({"type": "message", "payload": payload});
    let position = wait_for("a message is stored", || {
        let response = node.post("/rooms/ops/messages", &body);
        (response.status == 201).then(|| response.json())
    });
    let epoch = position["epoch"].as_str().expect("epoch").to_owned();
    (epoch, position["offset"].as_u64().expect("offset"))
}

fn resume(node: &TestServer, epoch: &str, offset: u64) -> TestClient {
    node.client_at(&format!("/ws?room=ops&since={offset}&epoch={epoch}"))
}

/// Resumes at a position that the store no longer knows.
fn assert_not_recovered(node: &TestServer, epoch: &str, offset: u64) -> TestClient {
    let back = resume(node, epoch, offset);
    let room = back.welcome().room("ops");
    assert_eq!(room.recovered, Some(false), "{room:?}");
    assert_ne!(room.epoch, epoch);
    back
}

/// Two nodes, and Alice on the first, who has received one message published on the second.
struct TwoNodes {
    nodes: Vec<TestServer>,
    alice: TestClient,
    epoch: String,
    offset: u64,
}

impl TwoNodes {
    fn start(redis: &TestRedis) -> Self {
        let nodes = redis.nodes(2, &[]);
        let mut alice = nodes[0].client_at("/ws?room=ops");
        let (epoch, offset) = publish(&nodes[1], "before");
        alice.expect("before");
        Self {
            nodes,
            alice,
            epoch,
            offset,
        }
    }
}

#[test]
fn flushed_redis_restarts_the_numbering_and_closes_members_with_4200() {
    with_redis(|redis| {
        let TwoNodes {
            nodes,
            mut alice,
            epoch,
            offset,
        } = TwoNodes::start(&redis);
        redis.command::<()>(&["FLUSHALL"]);
        let (new_epoch, first) = publish(&nodes[1], "after");
        assert_ne!(epoch, new_epoch);
        assert_eq!((offset, first), (1, 1));
        assert_eq!(alice.close_code(), 4200);
        let mut back = assert_not_recovered(&nodes[0], &epoch, offset);
        assert_eq!(back.welcome().room("ops").offset, 1);
        publish(&nodes[1], "live");
        assert_eq!(back.expect("live")["offset"], 2);
    });
}

#[test]
fn redis_without_persistence_restarts_the_numbering_after_a_kill() {
    with_redis(|mut redis| {
        let TwoNodes {
            nodes,
            mut alice,
            epoch,
            offset,
        } = TwoNodes::start(&redis);
        redis.kill();
        redis.restart();
        assert_eq!(alice.close_code(), 4200);
        publish(&nodes[1], "after");
        assert_not_recovered(&nodes[0], &epoch, offset);
    });
}

/// The snapshot lacks the last message, whose offset a client has seen.
#[test]
fn redis_that_loads_an_older_snapshot_restarts_the_numbering() {
    with_redis(|mut redis| {
        let node = redis.node(&[]);
        let (epoch, _) = publish(&node, "in the snapshot");
        redis.command::<String>(&["SAVE"]);
        let (_, offset) = publish(&node, "not in the snapshot");
        redis.kill();
        redis.restart();
        let keys: Vec<String> = redis.command(&["KEYS", "wscast:{ops}:log"]);
        assert_eq!(keys.len(), 1, "the snapshot was not loaded");
        publish(&node, "reuses no offset");
        assert_not_recovered(&node, &epoch, offset);
    });
}

/// The same snapshot, from which the id of the Redis run is missing too.
#[test]
fn older_snapshot_without_a_run_id_restarts_the_numbering() {
    with_redis(|mut redis| {
        let node = redis.node(&[]);
        let (epoch, _) = publish(&node, "in the snapshot");
        redis.command::<()>(&["DEL", "wscast:{ run}"]);
        redis.command::<String>(&["SAVE"]);
        publish(&node, "not in the snapshot");
        redis.kill();
        redis.restart();
        assert_eq!(redis.command::<u64>(&["XLEN", "wscast:{ops}:log"]), 1);
        let (new_epoch, _) = publish(&node, "reuses no offset");
        assert_ne!(epoch, new_epoch);
    });
}

/// Redis itself cannot notice that its append-only file lost its end; a node that saw more messages can.
#[test]
fn truncated_append_only_file_restarts_the_numbering_on_nodes_that_saw_more() {
    with_durable_redis(|mut redis| {
        let TwoNodes {
            nodes,
            mut alice,
            epoch,
            ..
        } = TwoNodes::start(&redis);
        let size = redis.appended_bytes();
        let (_, offset) = publish(&nodes[0], "lost");
        alice.expect("lost");
        redis.kill();
        redis.truncate_appended_file(size);
        redis.restart();
        assert_eq!(alice.close_code(), 4200);
        publish(&nodes[0], "reuses no offset");
        assert_not_recovered(&nodes[0], &epoch, offset);
    });
}

/// Only the node that acknowledged the message can notice that it is lost.
#[test]
fn lost_message_that_no_client_has_seen_restarts_the_numbering() {
    with_durable_redis(|mut redis| {
        let node = redis.node(&[]);
        publish(&node, "kept");
        let size = redis.appended_bytes();
        let (epoch, offset) = publish(&node, "lost");
        redis.kill();
        redis.truncate_appended_file(size);
        redis.restart();
        let (new_epoch, _) = publish(&node, "after");
        assert_ne!(new_epoch, epoch);
        assert_not_recovered(&node, &epoch, offset);
    });
}

/// A Redis that loads a transaction without its end leaves the beginning in the file, and executes it at its next start.
#[test]
fn transaction_that_was_written_in_part_costs_no_later_message() {
    with_durable_redis(|mut redis| {
        let node = redis.node(&[]);
        publish(&node, "before");
        let size = redis.appended_bytes();
        publish(&node, "lost");
        redis.kill();
        redis.cut_transaction_after(size);
        redis.restart();
        publish(&node, "acknowledged");
        redis.kill();
        redis.restart();
        publish(&node, "last");
        let page = node.get_json("/rooms/ops/messages?since=0");
        assert_eq!(payloads(&page), ["before", "acknowledged", "last"]);
    });
}

/// Another node assigns the lost offset again before the node that saw it can compare.
#[test]
fn reused_offset_is_detected_and_acknowledged_messages_stay() {
    with_durable_redis(|mut redis| {
        let TwoNodes {
            nodes,
            mut alice,
            epoch,
            ..
        } = TwoNodes::start(&redis);
        let size = redis.appended_bytes();
        let (_, offset) = publish(&nodes[1], "lost");
        alice.expect("lost");
        nodes[0].signal(Signal::STOP);
        redis.kill();
        redis.truncate_appended_file(size);
        redis.restart();
        // This node, unlike the others, has not heard of the lost message.
        let new_node = redis.node(&[]);
        let (same_epoch, same_offset) = publish(&new_node, "at the lost offset");
        assert_eq!((&same_epoch, same_offset), (&epoch, offset));
        nodes[0].signal(Signal::CONT);
        assert_eq!(alice.close_code(), 4200);
        let back = assert_not_recovered(&nodes[0], &epoch, offset);
        assert_eq!(back.welcome().room("ops").offset, offset);
        let page = nodes[0].get_json("/rooms/ops/messages?since=0");
        assert_eq!(payloads(&page), ["before", "at the lost offset"]);
        assert_ne!(page["epoch"], epoch);
    });
}

#[test]
fn durable_redis_continues_the_numbering_after_a_kill() {
    with_durable_redis(|mut redis| {
        let TwoNodes {
            nodes,
            mut alice,
            epoch,
            offset,
        } = TwoNodes::start(&redis);
        redis.kill();
        redis.restart();
        let (same_epoch, next) = publish(&nodes[1], "after");
        assert_eq!((&same_epoch, next), (&epoch, offset + 1));
        // A member that stayed connected has it too, though its node lost the subscription in between.
        alice.expect("after");
        resume(&nodes[1], &epoch, offset).expect("after");
    });
}

/// Both servers are durable, but the replica has not received the last message, and no other node saw it.
#[test]
fn promoted_replica_with_less_data_restarts_the_numbering() {
    with_durable_redis(|mut master| {
        let replica = TestRedis::start_durable();
        replica.command::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
        let proxy = RedisProxy::to(&master);
        let node = TestServer::start(&["--redis", &proxy.url()]);
        let (epoch, _) = publish(&node, "replicated");
        wait_until("the replica has the first message", || {
            replica.command::<u64>(&["XLEN", "wscast:{ops}:log"]) == 1
        });
        replica.command::<()>(&["REPLICAOF", "NO", "ONE"]);
        let (same_epoch, offset) = publish(&node, "not replicated");
        assert_eq!((&same_epoch, offset), (&epoch, 2));
        master.kill();
        proxy.switch_to(&replica);
        publish(&node, "reuses no offset");
        assert_not_recovered(&node, &epoch, offset);
    });
}

// A single node publishes beyond each limit of history in turn: count, bytes, age.
// Invariants: the limit holds, a position before the first message is not recovered, and offsets continue.
#[test]
fn limits_of_count_bytes_and_age_prune_history_and_gaps_are_reported() {
    with_redis(|redis| {
        let flags = [
            "--history-messages=32",
            "--history-bytes=4KiB",
            "--history-age=2",
        ];
        let node = redis.node(&flags);
        let mut epoch = String::new();
        for n in 1..=100 {
            epoch = publish(&node, &format!("message {n}")).0;
        }
        let page = node.get_json("/rooms/ops/messages?since=0&limit=1000");
        let kept = payloads(&page).len();
        assert!((30..=32).contains(&kept), "{kept} kept of at most 32");
        assert_eq!(
            (&page["contiguous"], &page["last"]),
            (&json!(false), &json!(100))
        );
        let first = page["first"].as_u64().expect("first");
        assert_eq!(
            resume(&node, &epoch, first - 2)
                .welcome()
                .room("ops")
                .recovered,
            Some(false)
        );
        assert_eq!(
            resume(&node, &epoch, first - 1)
                .welcome()
                .room("ops")
                .recovered,
            Some(true)
        );

        for _ in 0..8 {
            publish(&node, &"x".repeat(1000));
        }
        let page = node.get_json("/rooms/ops/messages?since=0&limit=1000");
        let kept = payloads(&page).len();
        assert!(
            (2..=4).contains(&kept),
            "{kept} kept of 1000 bytes in 4 KiB"
        );

        wait_until("old messages are dropped", || {
            let page = node.get_json("/rooms/ops/messages?since=0");
            payloads(&page).is_empty()
        });
        let (same, offset) = publish(&node, "offsets outlast messages");
        assert_eq!((same, offset), (epoch, 109));
    });
}
