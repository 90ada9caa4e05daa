//! Rules for rooms by name, with history in Redis: each room has bounds of its own, on every node.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{TempDir, TestClient, TestServer, offsets, wait_until, with_redis};

const RULES: &str = "[[rooms]]\nmatch = 'none:*'\nhistory-messages = 0\n\
    [[rooms]]\nmatch = 'few'\nhistory-messages = 2\n\
    [[rooms]]\nmatch = 'short'\nhistory-age = '1s'\n";

fn history(node: &TestServer, room: &str) -> Value {
    node.get_json(&format!("/rooms/{room}/messages?since=0"))
}

fn publish(client: &mut TestClient, room: &str, count: u64) {
    for n in 0..count {
        client.publish_and_await_ack(
            &json!({"type": "message", "room": room, "payload": n, "id": format!("{room}{n}")}),
        );
    }
}

#[test]
fn rule_bounds_the_history_of_its_rooms_on_all_nodes() {
    with_redis(|redis| {
        let dir = TempDir::new();
        fs::write(dir.path("wscast.toml"), RULES).expect("write");
        let config = dir.arg("wscast.toml");
        let nodes = redis.nodes(2, &["--config", &config]);
        let rooms = "room=none:a&room=few&room=short&room=all";
        let mut reader = nodes[1].client_at(&format!("/ws?{rooms}"));
        let mut client = nodes[0].client_at(&format!("/ws?{rooms}"));
        for room in ["none:a", "few", "short", "all"] {
            publish(&mut client, room, 5);
            // Messages of a room without history are live on every node.
            for n in 0..5 {
                reader.expect(n);
            }
        }
        for node in &nodes {
            assert_eq!(offsets(&history(node, "none:a")), [0; 0]);
            assert_eq!(offsets(&history(node, "few")), [4, 5]);
            assert_eq!(offsets(&history(node, "all")), [1, 2, 3, 4, 5]);
            wait_until("the messages have expired", || {
                offsets(&history(node, "short")).is_empty()
            });
        }
        let epoch = history(&nodes[1], "none:a")["epoch"].clone();
        let epoch = epoch.as_str().expect("an epoch");
        for (since, recovered) in [(4, false), (5, true)] {
            let target = format!("/ws?room=none:a&since={since}&epoch={epoch}");
            let client = nodes[1].client_at(&target);
            let room = &client.welcome()["rooms"][0];
            assert_eq!(room["recovered"], recovered, "{since}: {room}");
        }
        // Numbering goes on in the same epoch.
        client.say_in("short", "later");
        reader.expect("later");
        assert_eq!(history(&nodes[1], "short")["last"], 6);
    });
}

#[test]
fn reloaded_rule_counts_from_the_next_message_on() {
    with_redis(|redis| {
        let dir = TempDir::new();
        fs::write(dir.path("wscast.toml"), "").expect("write");
        let config = dir.arg("wscast.toml");
        let node = redis.node(&["--config", &config]);
        let mut client = node.client_at("/ws?room=few");
        publish(&mut client, "few", 5);
        assert_eq!(offsets(&history(&node, "few")).len(), 5);
        fs::write(dir.path("wscast.toml"), RULES).expect("write");
        node.signal(Signal::HUP);
        wait_until("the rules are reloaded", || {
            node.log().contains("changed [[rooms]]")
        });
        client.publish_and_await_ack(
            &json!({"type": "message", "room": "few", "payload": 6, "id": "later"}),
        );
        assert_eq!(offsets(&history(&node, "few")), [5, 6]);
    });
}
