//! Rooms, order, history, deduplication and administration span all nodes.

use std::thread;

use serde_json::{Value, json};

use crate::support::token::{SECRET, admin_bearer, claims, signed};
use crate::support::{TestClient, TestServer, payloads, wait_until, with_redis};

#[test]
fn message_reaches_members_on_all_nodes_unchanged() {
    with_redis(|redis| {
        let nodes = redis.nodes(3, &[]);
        let mut clients: Vec<TestClient> = nodes.iter().map(TestServer::client).collect();
        for n in 0..clients.len() {
            clients[n].say(n);
            let frames: Vec<Value> = clients.iter_mut().map(|client| client.expect(n)).collect();
            assert!(frames.iter().all(|frame| *frame == frames[0]), "{frames:?}");
            assert_eq!(frames[0]["offset"], n + 1);
        }
        // The payload keeps its text, and `custom_event` its type.
        let text = r#"{"type":"custom_event","payload":{"n":1.50e3,"s":"\u00e9\n"},"id":"e"}"#;
        clients[0].send_text(text);
        for client in &mut clients[1..] {
            let frame = client.next_text();
            assert!(
                frame.contains(r#""payload":{"n":1.50e3,"s":"\u00e9\n"}"#),
                "{frame}"
            );
            assert!(frame.starts_with(r#"{"type":"custom_event""#), "{frame}");
        }
    });
}

#[test]
fn members_on_all_nodes_see_one_order() {
    with_redis(|redis| {
        const MESSAGES: usize = 300;
        let nodes = redis.nodes(3, &[]);
        let seen: Vec<Vec<Value>> = thread::scope(|scope| {
            let clients: Vec<_> = nodes
                .iter()
                .enumerate()
                .map(|(node, server)| {
                    scope.spawn(move || {
                        let mut client = server.client_at("/ws?room=busy&since=0");
                        (0..MESSAGES).for_each(|n| client.say(json!([node, n])));
                        let all = 0..3 * MESSAGES;
                        all.map(|_| client.next_of("message")).collect::<Vec<_>>()
                    })
                })
                .collect();
            clients
                .into_iter()
                .map(|client| client.join().expect("client"))
                .collect()
        });
        assert!(seen.iter().all(|frames| *frames == seen[0]));
        assert!(
            seen[0]
                .iter()
                .zip(1..)
                .all(|(frame, offset)| frame["offset"] == offset)
        );
    });
}

#[test]
fn history_is_the_same_on_all_nodes_with_members_or_without() {
    with_redis(|redis| {
        let nodes = redis.nodes(2, &[]);
        for n in 1..=5 {
            let position = nodes[0].post("/rooms/ops/messages", &message(n)).json();
            assert_eq!(position["offset"], n);
        }
        let pages: Vec<Value> = nodes
            .iter()
            .map(|node| node.get_json("/rooms/ops/messages?since=2&limit=2"))
            .collect();
        assert_eq!(pages[0], pages[1]);
        assert_eq!(payloads(&pages[0]), [3, 4]);
        assert_eq!(pages[0]["contiguous"], true);
        assert_eq!(
            (&pages[0]["first"], &pages[0]["last"]),
            (&json!(1), &json!(5))
        );
        let newest = nodes[1].get_json("/rooms/ops/messages?limit=1");
        assert_eq!(newest["messages"][0]["payload"], 5);
        assert_eq!(nodes[1].get_json("/rooms/ops")["offset"], 5);
        let unknown = nodes[1].raw().get("/rooms/nowhere/messages");
        assert_eq!(unknown.status, 404);
    });
}

#[test]
fn repeated_id_is_published_once_on_whichever_node() {
    with_redis(|redis| {
        let nodes = redis.nodes(2, &[]);
        let session = "/ws?session=a-session-chosen-at-random";
        let publish = json!({"type": "message", "payload": "once", "id": "7"});
        let positions: Vec<Value> = nodes
            .iter()
            .chain(&nodes)
            .map(|node| {
                let mut client = node.client_at(session);
                client.send_json(publish.clone());
                let ack =
                    std::iter::repeat_with(|| client.next()).find(|frame| frame["type"] == "ack");
                ack.expect("an ack")["payload"].clone()
            })
            .collect();
        assert!(
            positions.iter().all(|position| *position == positions[0]),
            "{positions:?}"
        );
        assert_eq!(nodes[0].get_json("/rooms/lobby/messages")["last"], 1);
        // Session and id may hold any character: these pairs only look alike when joined.
        let target = |session: &str| format!("/rooms/lobby/messages?session={session}");
        let body = |id: &str| json!({"type": "message", "payload": id, "id": id});
        let one = nodes[0]
            .post(&target("aaaaaaaaaaaaaaaaaaaa%20b"), &body("c"))
            .json();
        let other = nodes[1]
            .post(&target("aaaaaaaaaaaaaaaaaaaa"), &body("b c"))
            .json();
        assert_eq!((&one["offset"], &other["offset"]), (&json!(2), &json!(3)));
    });
}

#[test]
fn deployments_with_different_prefixes_share_nothing() {
    with_redis(|redis| {
        let (ours, theirs) = (redis.node(&[]), redis.node(&["--redis-prefix", "theirs"]));
        let (mut alice, mut bob) = (ours.client(), theirs.client());
        alice.say("ours");
        alice.expect("ours");
        bob.say("theirs");
        bob.expect("theirs");
        alice.expect_nothing();
        assert_eq!(theirs.stats()["cluster"]["nodes"], 1);
        let keys: Vec<String> = redis.command(&["KEYS", "*"]);
        assert!(
            keys.iter()
                .all(|key| key.starts_with("wscast:") || key.starts_with("theirs:")),
            "{keys:?}"
        );
    });
}

#[test]
fn node_subscribes_only_to_rooms_with_members_there() {
    with_redis(|redis| {
        let nodes = redis.nodes(2, &[]);
        let subscribed = || -> Vec<String> {
            let mut channels: Vec<String> = redis.command(&["PUBSUB", "CHANNELS", "wscast:{*"]);
            channels.sort();
            channels
        };
        let mut alice = nodes[0].client_at("/ws?room=a&room=b");
        nodes[1].post("/rooms/c/messages", &message(1));
        assert_eq!(subscribed(), ["wscast:{a}:live", "wscast:{b}:live"]);
        alice.leave("a");
        wait_until("the node unsubscribes from the room that was left", || {
            subscribed() == ["wscast:{b}:live"]
        });
        alice.close();
        wait_until("the node unsubscribes from all rooms", || {
            subscribed().is_empty()
        });
        // A room without subscription can be joined again.
        let mut bob = nodes[0].client_at("/ws?room=a");
        bob.say("back");
        bob.expect("back");
    });
}

#[test]
fn administrator_closes_a_users_clients_on_all_nodes() {
    with_redis(|redis| {
        let start = || {
            let mut command = TestServer::command(&["--redis", &redis.url()]);
            command.env("SECRET_KEY", SECRET);
            TestServer::start_command(command)
        };
        let nodes = [start(), start()];
        let bearer = admin_bearer();
        wait_until("the nodes know of each other", || {
            let stats = nodes[0].raw().request("GET", "/stats", &[&bearer]).json();
            stats["cluster"]["nodes"] == 2
        });
        let token = signed(SECRET, &claims(json!({"sub": "mallory"})));
        let mut clients: Vec<TestClient> = nodes
            .iter()
            .map(|node| node.client_at(&format!("/ws?room=ops&token={token}")))
            .collect();
        let delete = |target: &str| nodes[0].raw().request("DELETE", target, &[&bearer]);
        // First a client on the other node, then all clients of a user.
        assert_eq!(delete(&format!("/clients/{}", clients[1].id())).status, 202);
        assert_eq!(clients[1].close_code(), 4003);
        clients[1] = nodes[1].client_at(&format!("/ws?room=ops&token={token}"));
        let closed = delete("/users/mallory/clients").json();
        assert_eq!(closed, json!({"closed": 1, "nodes_notified": 1}));
        for client in &mut clients {
            assert_eq!(client.close_code(), 4003);
        }
    });
}

#[test]
fn full_room_is_full_on_every_node() {
    with_redis(|redis| {
        let nodes = redis.nodes(2, &["--max-members-per-room=2"]);
        let alice = nodes[0].client_at("/ws?room=ops");
        let _bob = nodes[1].client_at("/ws?room=ops");
        for node in &nodes {
            wait_until("each node knows of both", || node.members("ops") == 2);
            let mut carol = node.client();
            carol.send_json(json!({"type": "join", "room": "ops"}));
            assert_eq!(carol.expect_error(), "room_full");
        }
        alice.close();
        let mut carol = nodes[1].client();
        wait_until("a seat is free", || {
            carol.send_json(json!({"type": "join", "room": "ops"}));
            carol.next()["type"] == "joined"
        });
    });
}

fn message(payload: impl Into<Value>) -> Value {
    json!({"type": "message", "payload": payload.into()})
}
