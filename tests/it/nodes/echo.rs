//! A message published with `"echo": false` is not delivered to its publisher, whichever node delivers it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use crate::support::token::{SECRET, claims, ops_with_claims, signed};
use crate::support::{Seed, StopOnDrop, TestServer, publish_without_echo, wait_until, with_redis};

const FLAGS: [&str; 4] = ["--history-messages", "100000", "--log-level", "info"];
/// The channel that every subscribed node is subscribed to.
const PRESENCE: &str = "wscast: presence";

#[test]
fn publishers_without_echo_that_reconnect_to_random_nodes_get_every_offset_once() {
    with_redis(|redis| {
        let nodes = redis.nodes(3, &FLAGS);
        publish_without_echo(&nodes.iter().collect::<Vec<_>>(), &Seed::new());
    });
}

#[test]
fn http_publish_is_not_delivered_to_its_session_on_another_node() {
    with_redis(|redis| {
        let nodes = redis.nodes(2, &[]);
        let session = "session=chosen-once-at-random";
        let mut alice = nodes[0].client_at(&format!("/ws?room=ops&{session}"));
        let mut bobs = [0, 1].map(|node: usize| nodes[node].client_at("/ws?room=ops"));
        let target = format!("/rooms/ops/messages?{session}");
        let body = json!({"type": "message", "payload": "hi", "id": "1", "echo": false});
        assert_eq!(nodes[1].post(&target, &body).status, 201);
        let ack = alice.next_of("ack");
        assert_eq!(
            (&ack["payload"]["offset"], &ack["payload"]["echo"]),
            (&json!(1), &json!(false))
        );
        for bob in &mut bobs {
            let frame = bob.next_text();
            assert!(
                frame.contains("\"hi\"") && !frame.contains("chosen"),
                "{frame}"
            );
        }
        alice.expect_nothing();
    });
}

#[test]
fn session_of_another_user_receives_the_message_on_another_node() {
    with_redis(|redis| {
        let node = || TestServer::with_tokens(&["--redis", &redis.url()]);
        let (one, two) = (node(), node());
        let session = "session=chosen-once-at-random";
        let alice_target = ops_with_claims(json!({"sub": "alice b"}));
        let mut alice = one.client_at(&format!("{alice_target}&{session}"));
        for (offset, (user, receives)) in (1_u64..).zip([
            (json!("alice b"), false),
            (json!("bob"), true),
            (json!(null), false),
        ]) {
            let token = signed(SECRET, &claims(json!({"sub": user})));
            let target = format!("/rooms/ops/messages?{session}&token={token}");
            let id = offset.to_string();
            let body = json!({"type": "message", "payload": offset, "id": id, "echo": false});
            assert_eq!(two.post(&target, &body).status, 201, "{user}");
            if receives {
                assert_eq!(alice.expect(offset)["offset"], offset);
            } else {
                assert_eq!(alice.next_of("ack")["payload"]["offset"], offset);
            }
        }
        alice.expect_nothing();
    });
}

#[test]
fn publisher_that_leaves_is_answered_once() {
    with_redis(|redis| {
        let node = redis.node(&[]);
        let mut alice = node.client_at("/ws?room=a&room=b");
        let mut answers = Vec::new();
        for n in 0..50 {
            alice.send_json(
                json!({"type": "message", "room": "b", "payload": n, "id": n.to_string(), "echo": false}),
            );
            alice.send_json(json!({"type": "leave", "room": "b"}));
            alice.send_json(json!({"type": "join", "room": "b"}));
            let mut replies = 0;
            while replies < 3 {
                let frame = alice.next();
                let id = frame["id"].as_str().map(str::to_owned);
                match frame["type"].as_str() {
                    // An acknowledgement without an id is no answer.
                    Some("ack") => {
                        replies += usize::from(id.is_some());
                        answers.extend(id);
                    }
                    // A busy node reads the message from Redis, where nothing says that alice does not want it.
                    Some("message") => {}
                    _ => replies += 1,
                }
            }
        }
        alice.send_json(json!({"type": "ping"}));
        loop {
            let frame = alice.next();
            match frame["type"].as_str() {
                Some("pong") => break,
                Some("ack") => assert_eq!(frame.get("id"), None, "{frame}"),
                _ => assert_eq!(frame["type"], "message", "{frame}"),
            }
        }
        answers.sort_unstable_by_key(|id| id.parse::<usize>().ok());
        let expected = (0..50).map(|n: usize| n.to_string());
        assert_eq!(answers, expected.collect::<Vec<_>>());
    });
}

// Actors: two nodes, and a publisher that hears no echo.
// Faults: the subscription connections of all nodes are killed again and again, so that nodes read messages from Redis.
// Invariants: each publish is acknowledged once, and the publisher sees every offset, in order.
#[test]
fn every_publish_is_acknowledged_while_subscriptions_are_killed() {
    with_redis(|redis| {
        let nodes = redis.nodes(2, &FLAGS);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let _stop = StopOnDrop(&done);
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    wait_until("all nodes are subscribed", || {
                        let count = ["PUBSUB", "NUMSUB", PRESENCE];
                        redis.command::<(String, usize)>(&count).1 == nodes.len()
                    });
                    redis.command::<usize>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
                }
            });
            let mut alice = nodes[0].client_at("/ws?room=ops");
            let (mut answered, mut offset) = (0, 0);
            for n in 0..600 {
                alice.send_json(
                    json!({"type": "message", "payload": n, "id": n.to_string(), "echo": false}),
                );
                // The message itself comes if the node has read it from history.
                while answered <= n || offset <= n {
                    let frame = alice.next();
                    let is_ack = frame["type"] == "ack";
                    if is_ack {
                        assert_eq!(frame["id"], answered.to_string(), "{frame}");
                        answered += 1;
                    }
                    if !is_ack || frame["payload"]["echo"] == false {
                        let source = if is_ack { &frame["payload"] } else { &frame };
                        assert_eq!(source["offset"], offset + 1, "{frame}");
                        offset += 1;
                    }
                }
            }
        });
    });
}
