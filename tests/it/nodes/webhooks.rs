//! With several nodes, one node reports the state of all to the webhook.

use rustix::process::Signal;
use serde_json::json;

use crate::support::token::{SECRET, claims, signed};
use crate::support::{
    HookBehaviour, HookServer, TestClient, TestRedis, TestServer, wait_for, wait_for_view,
    wait_until, with_redis,
};

/// The log line of a node that starts to send webhooks.
const SENDS: &str = "webhooks: this server sends them";

/// Starts a node that checks tokens and sends webhooks.
fn node(redis: &TestRedis, hook: &HookServer) -> TestServer {
    let (redis, hook) = (redis.url(), hook.url());
    let flags = [
        "--redis",
        &redis,
        "--webhook",
        &hook,
        "--webhook-settle",
        "1500ms",
    ];
    TestServer::with_tokens(&[&flags[..], &["--anonymous", "both"]].concat())
}

fn client_of(node: &TestServer, user: &str, room: &str) -> TestClient {
    let claims = claims(json!({"sub": user, "subscribe": ["*"]}));
    let token = signed(SECRET, &claims);
    node.client_at(&format!("/ws?room={room}&token={token}"))
}

/// Waits until each node knows of both.
fn both_know_both(nodes: [&TestServer; 2]) {
    for node in nodes {
        wait_until("each node knows of both", || {
            node.stats()["cluster"]["nodes"] == 2
        });
    }
}

// Actors: two nodes, users with a client on one or on both, and a backend.
// Faults: the sending node is killed; the other one shuts down later.
// Invariants: each change is reported once, by one node; the state is that of all nodes; the other node takes over.
#[test]
fn one_node_reports_for_all_and_another_takes_over_when_it_is_killed() {
    with_redis(|redis| {
        let hook = HookServer::start(HookBehaviour::accept());
        let mut sender = node(&redis, &hook);
        sender.wait_for_log(SENDS);
        let other = node(&redis, &hook);
        both_know_both([&sender, &other]);
        let alice = client_of(&sender, "alice", "ops");
        let bob = client_of(&other, "bob", "dev");
        let second = client_of(&other, "alice", "ops");
        wait_for_view(&hook, &["dev", "ops"], &["alice", "bob"]);
        // Alice and `ops` are still on the other node.
        drop(alice);
        drop(bob);
        let _carol = client_of(&sender, "carol", "art");
        let view = wait_for_view(&hook, &["art", "ops"], &["alice", "carol"]);
        let once = |name: &str| view.changes[name];
        assert_eq!(
            ["alice", "ops", "carol", "bob", "dev"].map(once),
            [1, 1, 1, 2, 2]
        );
        assert!(!other.log().contains(SENDS));
        assert_eq!(other.total("webhook_calls"), 0);

        sender.end(Signal::KILL);
        other.wait_for_log(SENDS);
        let _dora = client_of(&other, "dora", "day");
        let view = wait_for_view(&hook, &["day", "ops"], &["alice", "dora"]);
        assert_eq!(
            view.changes["alice"], 1,
            "the takeover was not reported as an absence"
        );
        assert_eq!(view.changes["ops"], 1);
        drop(second);
        wait_for_view(&hook, &["day"], &["dora"]);
    });
}

#[test]
fn node_that_shuts_down_hands_over_at_once_and_redis_may_fail() {
    with_redis(|mut redis| {
        let hook = HookServer::start(HookBehaviour::accept());
        let mut sender = node(&redis, &hook);
        sender.wait_for_log(SENDS);
        let other = node(&redis, &hook);
        both_know_both([&sender, &other]);
        let alice = client_of(&other, "alice", "ops");
        let view = wait_for_view(&hook, &["ops"], &["alice"]);
        assert_eq!(view.changes["alice"], 1);
        sender.end(Signal::TERM);
        other.wait_for_log(SENDS);
        wait_until("the other node sent a snapshot", || {
            other.total("webhook_calls") > 0
        });

        // Redis loses all its data, so that rooms restart and Alice must reconnect.
        redis.kill();
        redis.restart();
        drop(alice);
        let reconnect = |user: &str, room: &str| {
            wait_for("rooms can be joined again", || {
                let claims = claims(json!({"sub": user, "subscribe": ["*"]}));
                let target = format!("/ws?room={room}&token={}", signed(SECRET, &claims));
                TestClient::try_connect(other.address(), &target)
            })
        };
        let _bob = reconnect("bob", "new");
        let _alice = reconnect("alice", "ops");
        wait_for_view(&hook, &["new", "ops"], &["alice", "bob"]);
    });
}
