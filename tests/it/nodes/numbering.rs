//! No offset is used twice within an epoch, whatever Redis loses.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Detour, TestClient, TestRedis, TestServer, eventually};

/// Publishes and reads back, as soon as Redis lets it; gives the offset.
fn publish(node: &TestServer, payload: &str) -> (String, u64) {
    let body = json!({"type": "message", "payload": payload});
    let place = eventually("a message is stored", || {
        let response = node.post("/rooms/ops/messages", &body);
        (response.status == 201).then(|| response.json())
    });
    let epoch = place["epoch"].as_str().expect("epoch").to_owned();
    (epoch, place["offset"].as_u64().expect("offset"))
}

fn resume(node: &TestServer, epoch: &str, offset: u64) -> TestClient {
    node.client_at(&format!("/ws?room=ops&since={offset}&epoch={epoch}"))
}

/// Who comes back to this place hears that what followed it is not known.
fn assert_not_recovered(node: &TestServer, epoch: &str, offset: u64) -> TestClient {
    let back = resume(node, epoch, offset);
    let room = &back.welcome()["rooms"][0];
    assert_eq!(room["recovered"], false, "{room}");
    assert_ne!(room["epoch"], epoch);
    back
}

/// Two nodes, and alice, who is in the room on the first and has heard one message, published on the second.
struct Scene {
    nodes: Vec<TestServer>,
    alice: TestClient,
    epoch: String,
    offset: u64,
}

impl Scene {
    fn set(redis: &TestRedis) -> Self {
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
fn a_flushed_redis_restarts_the_numbering_and_members_are_told_to_come_back() {
    let Some(redis) = TestRedis::start() else {
        return;
    };
    let Scene {
        nodes,
        mut alice,
        epoch,
        offset,
    } = Scene::set(&redis);
    redis.ask::<()>(&["FLUSHALL"]);
    let (new_epoch, first) = publish(&nodes[1], "after");
    assert_ne!(epoch, new_epoch);
    assert_eq!((offset, first), (1, 1));
    assert_eq!(alice.close_code(), 4200);
    let mut back = assert_not_recovered(&nodes[0], &epoch, offset);
    assert_eq!(back.welcome()["rooms"][0]["offset"], 1);
    publish(&nodes[1], "live");
    assert_eq!(back.expect("live")["offset"], 2);
}

#[test]
fn a_redis_that_forgets_with_its_process_restarts_the_numbering() {
    let Some(mut redis) = TestRedis::start() else {
        return;
    };
    let Scene {
        nodes,
        mut alice,
        epoch,
        offset,
    } = Scene::set(&redis);
    redis.kill();
    redis.start_again();
    assert_eq!(alice.close_code(), 4200);
    publish(&nodes[1], "after");
    assert_not_recovered(&nodes[0], &epoch, offset);
}

/// It has a snapshot, but not what came after that: what it has of the room is older than what was given out.
#[test]
fn a_redis_that_comes_back_with_an_older_state_restarts_the_numbering() {
    let Some(mut redis) = TestRedis::start() else {
        return;
    };
    let node = redis.node(&[]);
    let (epoch, _) = publish(&node, "in the snapshot");
    redis.ask::<String>(&["SAVE"]);
    let (_, offset) = publish(&node, "not in the snapshot");
    redis.kill();
    redis.start_again();
    let keys: Vec<String> = redis.ask(&["KEYS", "wscast:{ops}:log"]);
    assert_eq!(keys.len(), 1, "the snapshot was not loaded");
    publish(&node, "reuses no offset");
    assert_not_recovered(&node, &epoch, offset);
}

/// The same, and it has lost which start of it that was.
#[test]
fn an_older_state_that_does_not_know_its_start_restarts_the_numbering() {
    let Some(mut redis) = TestRedis::start() else {
        return;
    };
    let node = redis.node(&[]);
    let (epoch, _) = publish(&node, "in the snapshot");
    redis.ask::<()>(&["DEL", "wscast:{ run}"]);
    redis.ask::<String>(&["SAVE"]);
    publish(&node, "not in the snapshot");
    redis.kill();
    redis.start_again();
    assert_eq!(redis.ask::<u64>(&["XLEN", "wscast:{ops}:log"]), 1);
    let (new_epoch, _) = publish(&node, "reuses no offset");
    assert_ne!(epoch, new_epoch);
}

/// The file that every command is appended to lost its end: only who has seen more can tell.
#[test]
fn a_file_that_lost_its_end_restarts_the_numbering_where_more_was_seen() {
    let Some(mut redis) = TestRedis::start_durable() else {
        return;
    };
    let Scene {
        nodes,
        mut alice,
        epoch,
        ..
    } = Scene::set(&redis);
    let size = redis.appended_bytes();
    let (_, offset) = publish(&nodes[0], "lost");
    alice.expect("lost");
    redis.kill();
    redis.cut_what_was_appended(size);
    redis.start_again();
    assert_eq!(alice.close_code(), 4200);
    publish(&nodes[0], "reuses no offset");
    assert_not_recovered(&nodes[0], &epoch, offset);
}

/// Before a node can compare, another one that has seen nothing has given the lost offset out again.
#[test]
fn an_offset_that_was_given_out_twice_is_found_out_and_what_was_acknowledged_stays() {
    let Some(mut redis) = TestRedis::start_durable() else {
        return;
    };
    let Scene {
        nodes,
        mut alice,
        epoch,
        ..
    } = Scene::set(&redis);
    let size = redis.appended_bytes();
    let (_, offset) = publish(&nodes[1], "lost");
    alice.expect("lost");
    nodes[0].signal(Signal::STOP);
    redis.kill();
    redis.cut_what_was_appended(size);
    redis.start_again();
    let (same_epoch, same_offset) = publish(&nodes[1], "in the place of the lost one");
    assert_eq!((&same_epoch, same_offset), (&epoch, offset));
    nodes[0].signal(Signal::CONT);
    assert_eq!(alice.close_code(), 4200);
    let back = assert_not_recovered(&nodes[0], &epoch, offset);
    assert_eq!(back.welcome()["rooms"][0]["offset"], offset);
    let page = nodes[0].get_json("/rooms/ops/messages?since=0");
    let payloads: Vec<&Value> = page["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(|message| &message["payload"])
        .collect();
    assert_eq!(payloads, ["before", "in the place of the lost one"]);
    assert_ne!(page["epoch"], epoch);
}

#[test]
fn a_redis_that_keeps_everything_goes_on_where_it_was() {
    let Some(mut redis) = TestRedis::start_durable() else {
        return;
    };
    let Scene {
        nodes,
        mut alice,
        epoch,
        offset,
    } = Scene::set(&redis);
    redis.kill();
    redis.start_again();
    let (same_epoch, next) = publish(&nodes[1], "after");
    assert_eq!((&same_epoch, next), (&epoch, offset + 1));
    // Who was there all the time has it too, though the way back was lost in between.
    alice.expect("after");
    resume(&nodes[1], &epoch, offset).expect("after");
}

/// Both keep all they have, but the one that takes over has not got all that the other had, and nobody was there to
/// see more.
#[test]
fn a_replica_that_takes_over_and_has_less_restarts_the_numbering() {
    let (Some(mut master), Some(replica)) =
        (TestRedis::start_durable(), TestRedis::start_durable())
    else {
        return;
    };
    replica.ask::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    let detour = Detour::to(&master);
    let node = TestServer::start(&["--redis", &detour.url()]);
    let (epoch, _) = publish(&node, "replicated");
    eventually("the replica has it", || {
        (replica.ask::<u64>(&["XLEN", "wscast:{ops}:log"]) == 1).then_some(())
    });
    replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
    let (same_epoch, offset) = publish(&node, "not replicated");
    assert_eq!((&same_epoch, offset), (&epoch, 2));
    master.kill();
    detour.turn_to(&replica);
    publish(&node, "reuses no offset");
    assert_not_recovered(&node, &epoch, offset);
}

#[test]
fn bounds_of_count_bytes_and_age_hold_and_gaps_are_told() {
    let Some(redis) = TestRedis::start() else {
        return;
    };
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
    let kept = page["messages"].as_array().expect("messages").len();
    assert!((30..=32).contains(&kept), "{kept} kept of at most 32");
    assert_eq!(
        (&page["contiguous"], &page["last"]),
        (&json!(false), &json!(100))
    );
    let first = page["first"].as_u64().expect("first");
    assert_eq!(
        resume(&node, &epoch, first - 2).welcome()["rooms"][0]["recovered"],
        false
    );
    assert_eq!(
        resume(&node, &epoch, first - 1).welcome()["rooms"][0]["recovered"],
        true
    );

    for _ in 0..8 {
        publish(&node, &"x".repeat(1000));
    }
    let page = node.get_json("/rooms/ops/messages?since=0&limit=1000");
    let kept = page["messages"].as_array().expect("messages").len();
    assert!(
        (2..=4).contains(&kept),
        "{kept} kept of 1000 bytes in 4 KiB"
    );

    eventually("what is too old is dropped", || {
        let page = node.get_json("/rooms/ops/messages?since=0");
        page["messages"]
            .as_array()
            .expect("messages")
            .is_empty()
            .then_some(())
    });
    let (same, offset) = publish(&node, "numbers outlast their messages");
    assert_eq!((same, offset), (epoch, 109));
}
