//! Nodes use a Redis Cluster like one Redis, and each of its servers fails independently.

use serde_json::{Value, json};

use crate::support::{
    FAILURE, TestRedisCluster, TestServer, run, wait_for, wait_until, with_durable_redis_cluster,
    with_redis_args, with_redis_cluster,
};

const ROOMS: usize = 12;

fn room(n: usize) -> String {
    format!("ops:{n}")
}

/// Returns the rooms that this server has, and the rooms of the others.
fn rooms_by_server(cluster: &TestRedisCluster, server: usize) -> (Vec<String>, Vec<String>) {
    let is_here = |room: &String| cluster.server_of(room) == server;
    let (here, others): (Vec<_>, Vec<_>) = (0..ROOMS).map(room).partition(is_here);
    assert!(!here.is_empty() && !others.is_empty());
    (here, others)
}

fn publish(node: &TestServer, room: &str, payload: impl Into<Value>) -> (u16, Value) {
    let body = json!({"type": "message", "payload": payload.into()});
    let response = node.post(&format!("/rooms/{room}/messages"), &body);
    (response.status, response.json())
}

fn stored(node: &TestServer, room: &str, payload: &str) -> Value {
    let (status, position) = publish(node, room, payload);
    assert_eq!(status, 201, "{room}: {position}");
    position
}

fn target(rooms: impl IntoIterator<Item = String>) -> String {
    let rooms: Vec<String> = rooms.into_iter().map(|r| format!("room={r}")).collect();
    format!("/ws?{}", rooms.join("&"))
}

// Actors: two nodes, and a client on each, with twelve rooms spread over three servers.
// Faults: one server loses its scripts.
// Invariants: messages, member counts, history, resume and deduplication work across the nodes in every room.
#[test]
fn nodes_share_the_rooms_of_all_servers() {
    with_redis_cluster(|cluster| {
        let nodes = cluster.nodes(2, &[]);
        for server in 0..cluster.servers.len() {
            rooms_by_server(&cluster, server);
        }
        let mut alice = nodes[0].client_at(&target((0..ROOMS).map(room)));
        let mut bob = nodes[1].client();
        for n in 0..ROOMS {
            bob.join(&room(n));
            bob.say_in(&room(n), n);
            let received = alice.expect(n);
            assert_eq!(
                (&received["room"], &received["offset"]),
                (&json!(room(n)), &json!(1))
            );
            bob.expect(n);
        }
        wait_until("members are counted over both nodes", || {
            let counted = |node: &TestServer| (0..ROOMS).all(|n| node.members(&room(n)) == 2);
            nodes.iter().all(counted)
        });
        let epochs: Vec<Value> = (0..ROOMS)
            .map(|n| {
                let pages = [0, 1].map(|node: usize| {
                    nodes[node].get_json(&format!("/rooms/{}/messages?since=0", room(n)))
                });
                assert_eq!(pages[0], pages[1]);
                assert_eq!(pages[0]["messages"][0]["payload"], n);
                pages[0]["epoch"].clone()
            })
            .collect();
        // The node loads scripts again on the server that has lost them.
        cluster.servers[1].command::<()>(&["SCRIPT", "FLUSH"]);
        for (n, epoch) in epochs.iter().enumerate() {
            stored(&nodes[0], &room(n), "missed");
            let epoch = epoch.as_str().expect("epoch");
            let resumed = format!("/ws?room={}&since=1&epoch={epoch}", room(n));
            let mut carol = nodes[1].client_at(&resumed);
            assert_eq!(carol.welcome().room(&room(n)).recovered, Some(true));
            carol.expect("missed");
        }
        // Ids are deduplicated by the server that has the room.
        let body = json!({"type": "message", "payload": "once", "id": "7"});
        let at = |n| {
            format!(
                "/rooms/{}/messages?session=a-session-chosen-at-random",
                room(n)
            )
        };
        for n in 0..ROOMS {
            let positions = [0, 1].map(|node: usize| nodes[node].post(&at(n), &body).json());
            assert_eq!(positions[0], positions[1]);
        }
    });
}

// Actors: two nodes, and clients in rooms of all three servers.
// Faults: a server is killed and started again, first server 0, then server 2.
// Invariants: publishes to its rooms get 503, those to other rooms are stored; afterwards its numberings continue.
#[test]
fn killed_server_refuses_its_rooms_and_all_others_continue() {
    with_durable_redis_cluster(|mut cluster| {
        let nodes = cluster.nodes(2, &[]);
        // Server 0 also holds the roster of nodes.
        for dead in [0, 2] {
            let (theirs, others) = rooms_by_server(&cluster, dead);
            let mut alice = nodes[0].client_at(&target(theirs.iter().chain(&others).cloned()));
            let before: Vec<Value> = theirs
                .iter()
                .map(|r| stored(&nodes[1], r, "before"))
                .collect();
            theirs.iter().for_each(|_| drop(alice.expect("before")));
            cluster.servers[dead].kill();
            wait_for("the rooms of the dead server are refused", || {
                let (status, body) = publish(&nodes[1], &theirs[0], "refused");
                (status == 503).then(|| assert_eq!(body["error"]["code"], "storage_unavailable"))
            });
            wait_until("the other rooms go on", || {
                let accepted = |room: &String| publish(&nodes[1], room, "probe").0 == 201;
                others.iter().all(accepted)
            });
            for _ in 0..20 {
                for room in &others {
                    stored(&nodes[1], room, "goes on");
                }
                let (status, _) = publish(&nodes[1], &theirs[0], "refused");
                assert_eq!(status, 503);
            }
            // A new client publishes over the same connections on which others are refused.
            let mut bob = nodes[1].client_at(&format!("/ws?room={}", others[0]));
            bob.say("and here");
            bob.expect("and here");
            bob.send_json(json!({"type": "join", "room": theirs[0]}));
            assert_eq!(bob.expect_error(), "storage_unavailable");
            while alice.next()["payload"] != "and here" {}

            cluster.servers[dead].restart();
            cluster.wait_until_whole();
            for (room, before) in theirs.iter().zip(before) {
                let after = wait_for("the restarted server accepts its rooms", || {
                    let (status, position) = publish(&nodes[1], room, "after");
                    (status == 201).then_some(position)
                });
                assert_eq!(after["epoch"], before["epoch"], "{room}");
                while alice.next()["payload"] != "after" {}
            }
            nodes[1].wait_for_health(200);
        }
    });
}

/// The snapshot lacks the last message, and no client is connected that could have seen it.
#[test]
fn cluster_server_that_loads_an_older_snapshot_restarts_its_numberings() {
    with_redis_cluster(|mut cluster| {
        let nodes = cluster.nodes(1, &[]);
        let (theirs, others) = rooms_by_server(&cluster, 1);
        let before = stored(&nodes[0], &theirs[0], "in the snapshot");
        let other = stored(&nodes[0], &others[0], "other");
        cluster.servers[1].command::<String>(&["SAVE"]);
        let lost = stored(&nodes[0], &theirs[0], "not in the snapshot");
        assert_eq!(lost["epoch"], before["epoch"]);
        cluster.servers[1].kill();
        cluster.servers[1].restart();
        cluster.wait_until_whole();
        let after = wait_for("the restarted server accepts its rooms", || {
            let (status, position) = publish(&nodes[0], &theirs[0], "reuses no offset");
            (status == 201).then_some(position)
        });
        assert_ne!(after["epoch"], before["epoch"]);
        let same = stored(&nodes[0], &others[0], "other");
        assert_eq!(same["epoch"], other["epoch"]);
    });
}

// Actors: three nodes that know the address of one server each: the first one alone, and both others.
// Faults: the server that two of them name is killed.
// Invariants: the nodes find all servers from one address, and share rooms; the rooms of the others continue.
#[test]
fn cluster_is_recognized_from_the_address_of_one_server() {
    with_durable_redis_cluster(|mut cluster| {
        let named = [1, 1, 2].map(|n: usize| cluster.servers[n].url());
        let nodes = named.map(|url| TestServer::start(&["--redis", &url]));
        for n in 0..ROOMS {
            let positions = [0, 1, 2].map(|node: usize| stored(&nodes[node], &room(n), "shared"));
            let offsets = positions.each_ref().map(|position| &position["offset"]);
            assert_eq!(offsets, [1, 2, 3], "{positions:?}");
        }
        let (theirs, others) = rooms_by_server(&cluster, 1);
        let mut alice = nodes[0].client_at(&target(others.iter().cloned()));
        cluster.servers[1].kill();
        wait_for("the rooms of the dead server are refused", || {
            (publish(&nodes[1], &theirs[0], "refused").0 == 503).then_some(())
        });
        for room in &others {
            wait_until("the other rooms go on", || {
                publish(&nodes[1], room, "goes on").0 == 201
            });
            while alice.next()["payload"] != "goes on" {}
        }
        cluster.servers[1].restart();
        cluster.wait_until_whole();
        nodes.iter().for_each(|node| node.wait_for_health(200));
    });
}

#[test]
fn cluster_of_one_server_is_recognized() {
    with_redis_cluster(|cluster| {
        let url = format!("{}/", cluster.servers[0].url());
        let node = TestServer::start(&["--redis", &url]);
        for n in 0..ROOMS {
            stored(&node, &room(n), "stored");
        }
        let ended = run(&mut TestServer::command(&["--redis", &format!("{url}1")]));
        assert_eq!(
            ended.code, FAILURE,
            "a cluster has one database: {}",
            ended.stderr
        );
    });
}

// Actors: a node, and a client that publishes to twelve rooms at once.
// Faults: the cluster does not say that it is one, as that of a service behind one address may not.
// Invariants: messages of rooms in different slots are stored, once and in order.
#[test]
fn messages_of_many_rooms_are_stored_in_a_cluster_that_looks_like_one_server() {
    with_redis_args(&["--cluster-enabled", "yes"], |redis| {
        redis.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        redis.command::<()>(&["ACL", "SETUSER", "default", "-info"]);
        wait_until("the cluster has all slots", || {
            let info: String = redis.command(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok")
        });
        let node = redis.node(&[]);
        let mut alice = node.client_at(&target((0..ROOMS).map(room)));
        for round in 0..20 {
            (0..ROOMS).for_each(|n| alice.say_in(&room(n), round));
        }
        for _ in 0..20 * ROOMS {
            let message = alice.next_of("message");
            let expected = message["offset"].as_u64().map(|offset| offset - 1);
            assert_eq!(message["payload"].as_u64(), expected, "{message}");
        }
    });
}
