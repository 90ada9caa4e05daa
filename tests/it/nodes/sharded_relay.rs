//! A Redis Cluster relays the messages of a room through the one server that has the room.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use crate::support::{
    StopOnDrop, TestClient, TestRedis, TestRedisCluster, TestServer, wait_for, wait_until,
    with_durable_redis_cluster, with_redis_cluster,
};

const ROOMS: usize = 12;
/// A user of Redis who must not use sharded channels.
const LIMITED: &str = "limited";
const PASSWORD: &str = "sesame";

fn room(n: usize) -> String {
    format!("ops:{n}")
}

fn target() -> String {
    let rooms: Vec<String> = (0..ROOMS).map(|n| format!("room={}", room(n))).collect();
    format!("/ws?{}", rooms.join("&"))
}

/// Publishes and retries while Redis refuses. The id makes sure that the message is stored once.
fn publish(node: &TestServer, room: &str, payload: u64) {
    let path = format!("/rooms/{room}/messages?session=a-session-chosen-at-random");
    let body = json!({"type": "message", "payload": payload, "id": payload.to_string()});
    wait_until("a message is stored", || {
        let status = node.post(&path, &body).status;
        assert!([200, 201, 503].contains(&status), "{status}");
        status != 503
    });
}

/// Receives messages until every room has had `last`, and asserts that each room has had all from 1 on, once.
fn assert_all_received(alice: &mut TestClient, last: u64) {
    let mut received = [0; ROOMS];
    while received.iter().any(|payload| *payload < last) {
        let message = alice.next_of("message");
        let n = (0..ROOMS).find(|n| message["room"] == room(*n));
        let payload = &mut received[n.expect("a known room")];
        *payload += 1;
        assert_eq!(message["payload"], *payload, "{message}");
    }
    assert!(received.iter().all(|payload| *payload == last));
}

/// How often a server has run a command, in scripts or outside.
fn calls(server: &TestRedis, command: &str) -> u64 {
    let info: String = server.command(&["INFO", "commandstats"]);
    let start = format!("cmdstat_{command}:calls=");
    let line = info.lines().find_map(|line| line.strip_prefix(&start));
    let number = line.and_then(|line| line.split(',').next()?.parse().ok());
    number.unwrap_or(0)
}

fn wait_for_shards(nodes: &[TestServer], shards: usize) {
    wait_until("all nodes receive this many shards", || {
        let count = |node: &TestServer| node.stats()["cluster"]["shards"] == shards;
        nodes.iter().all(count)
    });
}

#[test]
fn messages_are_relayed_by_the_server_of_their_room_only() {
    with_redis_cluster(|cluster| {
        let nodes = cluster.nodes(2, &[]);
        let mut alice = nodes[0].client_at(&target());
        let mut bob = nodes[1].client_at(&target());
        for payload in 1..=5 {
            (0..ROOMS).for_each(|n| publish(&nodes[1], &room(n), payload));
        }
        assert_all_received(&mut alice, 5);
        assert_all_received(&mut bob, 5);
        for (index, server) in cluster.servers.iter().enumerate() {
            let mut channels: Vec<String> =
                server.command(&["PUBSUB", "SHARDCHANNELS", "wscast:{ops:*"]);
            let here = (0..ROOMS).filter(|n| cluster.server_of(&room(*n)) == index);
            let mut expected: Vec<String> = here
                .map(|n| format!("wscast:{{{}}}:live", room(n)))
                .collect();
            channels.sort();
            expected.sort();
            assert_eq!(channels, expected, "server {index}");
            let count: (String, usize) =
                server.command(&["PUBSUB", "SHARDNUMSUB", expected[0].as_str()]);
            assert_eq!(count.1, nodes.len());
            let everywhere: Vec<String> = server.command(&["PUBSUB", "CHANNELS"]);
            assert_eq!(everywhere, Vec::<String>::new());
            assert_eq!(calls(server, "publish"), 0);
            assert!(calls(server, "spublish") >= 5 * expected.len() as u64);
        }
        wait_for_shards(&nodes, 3);
    });
}

#[test]
fn members_and_requests_to_close_clients_travel_on_sharded_channels() {
    with_redis_cluster(|cluster| {
        let nodes = cluster.nodes(2, &[]);
        let alice = nodes[0].client_at(&target());
        let mut bob = nodes[1].client_at(&target());
        wait_until("members of both nodes are counted", || {
            let counted = |node: &TestServer| (0..ROOMS).all(|n| node.members(&room(n)) == 2);
            nodes.iter().all(counted)
        });
        drop(alice);
        wait_until("members of one node are counted", || {
            (0..ROOMS).all(|n| nodes[1].members(&room(n)) == 1)
        });
        bob.say_in(&room(0), 1);
        bob.expect(1);
        assert!(
            cluster
                .servers
                .iter()
                .all(|server| calls(server, "publish") == 0)
        );
    });
}

// Actors: two nodes, a client on one in twelve rooms, publishers to all rooms on the other.
// Faults: the slots of all rooms move to other servers and back, several times.
// Invariants: the client is not closed, and receives every message once and in order.
#[test]
fn client_receives_everything_once_while_slots_move() {
    with_durable_redis_cluster(|cluster| {
        let nodes = cluster.nodes(2, &[]);
        let mut alice = nodes[0].client_at(&target());
        let mut bob = nodes[1].client_at(&target());
        let done = AtomicBool::new(false);
        let last = thread::scope(|scope| {
            let stop = StopOnDrop(&done);
            let publisher = scope.spawn(|| {
                let mut payload = 0;
                while !done.load(Ordering::Relaxed) {
                    payload += 1;
                    (0..ROOMS).for_each(|n| publish(&nodes[1], &room(n), payload));
                }
                payload
            });
            for round in 1..=4 {
                for n in 0..ROOMS {
                    let home = cluster.server_of(&room(n));
                    let from = (home + round - 1) % cluster.servers.len();
                    let to = (home + round) % cluster.servers.len();
                    cluster.move_slot_of(&room(n), from, to);
                }
            }
            drop(stop);
            publisher.join().expect("the publisher failed")
        });
        assert_all_received(&mut alice, last);
        assert_all_received(&mut bob, last);
        assert!(
            nodes[0]
                .log()
                .lines()
                .all(|line| !line.contains("restarts at offset"))
        );
    });
}

// Actors: two nodes, and a client that reconnects, as clients do.
// Faults: the server of a room is killed, and its replica takes over.
// Invariants: the nodes follow. New messages reach the members, through the new server.
#[test]
fn nodes_follow_a_failover() {
    with_redis_cluster(|mut cluster| {
        let nodes = cluster.nodes(2, &[]);
        let dead = cluster.server_of(&room(0));
        let replica = cluster.start_replica_of(dead);
        let mut alice = nodes[0].client_at(&format!("/ws?room={}", room(0)));
        publish(&nodes[1], &room(0), 1);
        alice.expect(1);
        cluster.servers[dead].kill();
        wait_until("the replica takes over", || {
            let role: String = replica.command(&["INFO", "replication"]);
            role.contains("role:master")
        });
        publish(&nodes[1], &room(0), 2);
        // The new server may have lost messages, so the room restarts and its members reconnect.
        let mut payload = 2;
        let _back = wait_for("a client receives new messages", || {
            let target = format!("/ws?room={}", room(0));
            let mut back = TestClient::try_connect(nodes[0].address(), &target)?;
            payload += 1;
            publish(&nodes[1], &room(0), payload);
            while back.try_next()?["payload"] != payload {}
            Some(back)
        });
        let channel = format!("wscast:{{{}}}:live", room(0));
        let count: (String, usize) = replica.command(&["PUBSUB", "SHARDNUMSUB", &channel]);
        assert_eq!(count.1, 1);
        wait_until("the node has no subscriber of the dead server", || {
            nodes[0].stats()["cluster"]["shards"].as_u64() <= Some(3)
                && nodes[0].raw().get("/health").status == 200
        });
    });
}

/// Creates the limited user on all servers, and returns a node that connects as this user. `WSCAST_PREVIOUS` may name a
/// wscast of an earlier version without sharded channels, which then takes the place of this node.
fn unsharded_node(cluster: &TestRedisCluster) -> TestServer {
    for server in &cluster.servers {
        server.command::<()>(&[
            "ACL",
            "SETUSER",
            LIMITED,
            "on",
            &format!(">{PASSWORD}"),
            "~*",
            "&*",
            "+@all",
            "-ssubscribe",
        ]);
    }
    let login = format!("redis://{LIMITED}:{PASSWORD}@");
    let url = cluster.url().replace("redis://", &login);
    let mut command = TestServer::command(&["--redis", &url]);
    if let Some(previous) = std::env::var_os("WSCAST_PREVIOUS") {
        let mut earlier = std::process::Command::new(previous);
        earlier.args(command.get_args());
        command = earlier;
    }
    TestServer::start_command(command)
}

#[test]
fn refused_sharded_channels_are_logged_in_one_line_and_not_used() {
    with_redis_cluster(|cluster| {
        let nodes = [unsharded_node(&cluster), unsharded_node(&cluster)];
        if std::env::var_os("WSCAST_PREVIOUS").is_none() {
            for node in &nodes {
                let log = node.log();
                let lines = log
                    .lines()
                    .filter(|line| line.contains("sharded channels are refused"));
                assert_eq!(lines.count(), 1, "{log}");
                assert!(log.contains("NOPERM"), "{log}");
                assert_eq!(node.stats()["cluster"]["shards"], 0);
            }
        }
        let mut alice = nodes[0].client_at(&target());
        (0..ROOMS).for_each(|n| publish(&nodes[1], &room(n), 1));
        assert_all_received(&mut alice, 1);
        assert!(
            cluster
                .servers
                .iter()
                .all(|server| calls(server, "spublish") <= nodes.len() as u64)
        );
    });
}

// Actors: nodes with sharded channels, a node without, a client on each in twelve rooms, and a publisher on each.
// Faults: the node without joins, and leaves.
// Invariants: every client receives every message once and in order, whatever channels are used at the time.
#[test]
fn nodes_with_and_without_sharded_channels_relay_to_each_other() {
    with_redis_cluster(|cluster| {
        let old = unsharded_node(&cluster);
        // This node starts in the company of an unsharded one.
        let node = cluster.node(&[]);
        let (mut alice, mut bob) = (old.client_at(&target()), node.client_at(&target()));
        let mut payload = 0;
        let mut publish_everywhere = |nodes: &[&TestServer]| {
            for _ in 0..3 {
                for node in nodes {
                    payload += 1;
                    (0..ROOMS).for_each(|n| publish(node, &room(n), payload));
                }
            }
            payload
        };
        publish_everywhere(&[&old, &node]);
        assert_eq!(node.stats()["cluster"]["shards"], 0);
        drop(alice);
        drop(old);
        wait_for_shards(std::slice::from_ref(&node), 3);
        publish_everywhere(&[&node]);
        // This node joins sharded ones.
        let old = unsharded_node(&cluster);
        let first = publish_everywhere(&[&node]);
        alice = old.client_at(&target());
        let mut last = first;
        wait_until("the node receives what an unsharded node publishes", || {
            last = publish_everywhere(&[&old, &node]);
            node.stats()["cluster"]["shards"] == 0
        });
        last = publish_everywhere(&[&old, &node]);
        assert_all_received(&mut bob, last);
        let mut received = [first; ROOMS];
        while received.iter().any(|payload| *payload < last) {
            let message = alice.next_of("message");
            let n = (0..ROOMS)
                .find(|n| message["room"] == room(*n))
                .expect("a room");
            received[n] += 1;
            assert_eq!(message["payload"], received[n], "{message}");
        }
    });
}
