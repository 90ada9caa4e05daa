//! A Redis Cluster is to nodes as one Redis is, and each of its servers fails by itself.

use serde_json::{Value, json};

use crate::support::{TestCluster, TestServer, eventually};

const ROOMS: usize = 12;

fn room(n: usize) -> String {
    format!("ops:{n}")
}

/// Rooms of a server, and of the others.
fn rooms_of(cluster: &TestCluster, server: usize) -> (Vec<String>, Vec<String>) {
    let is_there = |room: &String| cluster.server_of(room) == server;
    let (there, others): (Vec<_>, Vec<_>) = (0..ROOMS).map(room).partition(is_there);
    assert!(!there.is_empty() && !others.is_empty());
    (there, others)
}

fn publish(node: &TestServer, room: &str, payload: impl Into<Value>) -> (u16, Value) {
    let body = json!({"type": "message", "payload": payload.into()});
    let response = node.post(&format!("/rooms/{room}/messages"), &body);
    (response.status, response.json())
}

fn stored(node: &TestServer, room: &str, payload: &str) -> Value {
    let (status, place) = publish(node, room, payload);
    assert_eq!(status, 201, "{room}: {place}");
    place
}

fn target(rooms: impl IntoIterator<Item = String>) -> String {
    let rooms: Vec<String> = rooms.into_iter().map(|r| format!("room={r}")).collect();
    format!("/ws?{}", rooms.join("&"))
}

#[test]
fn rooms_of_all_servers_are_shared_by_all_nodes() {
    let Some(cluster) = TestCluster::start(&[]) else {
        return;
    };
    let nodes = cluster.nodes(2, &[]);
    for server in 0..cluster.servers.len() {
        rooms_of(&cluster, server);
    }
    let mut alice = nodes[0].client_at(&target((0..ROOMS).map(room)));
    let mut bob = nodes[1].client();
    for n in 0..ROOMS {
        bob.join(&room(n));
        bob.say_in(&room(n), n);
        let heard = alice.expect(n);
        assert_eq!(
            (&heard["room"], &heard["offset"]),
            (&json!(room(n)), &json!(1))
        );
        bob.expect(n);
    }
    eventually("members are counted over both nodes", || {
        let counted = |node: &TestServer| (0..ROOMS).all(|n| node.members(&room(n)) == 2);
        nodes.iter().all(counted).then_some(())
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
    // Scripts are loaded again where they were forgotten, and only there.
    cluster.servers[1].ask::<()>(&["SCRIPT", "FLUSH"]);
    for (n, epoch) in epochs.iter().enumerate() {
        stored(&nodes[0], &room(n), "missed");
        let epoch = epoch.as_str().expect("epoch");
        let resumed = format!("/ws?room={}&since=1&epoch={epoch}", room(n));
        let mut carol = nodes[1].client_at(&resumed);
        assert_eq!(carol.welcome()["rooms"][0]["recovered"], true);
        carol.expect("missed");
    }
    // An id is compared by the server that has the room.
    let body = json!({"type": "message", "payload": "once", "id": "7"});
    let at = |n| {
        format!(
            "/rooms/{}/messages?session=a-session-chosen-at-random",
            room(n)
        )
    };
    for n in 0..ROOMS {
        let places = [0, 1].map(|node: usize| nodes[node].post(&at(n), &body).json());
        assert_eq!(places[0], places[1]);
    }
}

#[test]
fn rooms_of_a_server_that_died_are_refused_and_all_others_go_on() {
    let Some(mut cluster) = TestCluster::start_durable() else {
        return;
    };
    let nodes = cluster.nodes(2, &[]);
    // The first has what the nodes say of themselves, too.
    for dead in [0, 2] {
        let (theirs, others) = rooms_of(&cluster, dead);
        let mut alice = nodes[0].client_at(&target(theirs.iter().chain(&others).cloned()));
        let before: Vec<Value> = theirs
            .iter()
            .map(|r| stored(&nodes[1], r, "before"))
            .collect();
        theirs.iter().for_each(|_| drop(alice.expect("before")));
        cluster.servers[dead].kill();
        eventually("the rooms of the dead server are refused", || {
            let (status, body) = publish(&nodes[1], &theirs[0], "refused");
            (status == 503).then(|| assert_eq!(body["error"]["code"], "storage_unavailable"))
        });
        eventually("the other rooms go on", || {
            let taken = |room: &String| publish(&nodes[1], room, "gone on").0 == 201;
            others.iter().all(taken).then_some(())
        });
        for _ in 0..20 {
            for room in &others {
                stored(&nodes[1], room, "goes on");
            }
            let (status, _) = publish(&nodes[1], &theirs[0], "refused");
            assert_eq!(status, 503);
        }
        // Also where nobody has been yet, and over the same connections as those who are refused.
        let mut bob = nodes[1].client_at(&format!("/ws?room={}", others[0]));
        bob.say("and here");
        bob.expect("and here");
        bob.send(json!({"type": "join", "room": theirs[0]}));
        assert_eq!(bob.expect_error(), "storage_unavailable");
        while alice.next()["payload"] != "and here" {}

        cluster.servers[dead].start_again();
        cluster.is_whole();
        for (room, before) in theirs.iter().zip(before) {
            let after = eventually("its rooms go on too", || {
                let (status, place) = publish(&nodes[1], room, "after");
                (status == 201).then_some(place)
            });
            assert_eq!(after["epoch"], before["epoch"], "{room}");
            while alice.next()["payload"] != "after" {}
        }
        eventually("health is restored", || {
            (nodes[1].raw().get("/health").status == 200).then_some(())
        });
    }
}

/// It has a snapshot, but not what came after that, and nobody was there to see it.
#[test]
fn a_server_of_a_cluster_that_comes_back_with_an_older_state_restarts_its_numberings() {
    let Some(mut cluster) = TestCluster::start(&[]) else {
        return;
    };
    let nodes = cluster.nodes(1, &[]);
    let (theirs, others) = rooms_of(&cluster, 1);
    let before = stored(&nodes[0], &theirs[0], "in the snapshot");
    let other = stored(&nodes[0], &others[0], "elsewhere");
    cluster.servers[1].ask::<String>(&["SAVE"]);
    let lost = stored(&nodes[0], &theirs[0], "not in the snapshot");
    assert_eq!(lost["epoch"], before["epoch"]);
    cluster.servers[1].kill();
    cluster.servers[1].start_again();
    cluster.is_whole();
    let anew = eventually("its rooms are back", || {
        let (status, place) = publish(&nodes[0], &theirs[0], "reuses no offset");
        (status == 201).then_some(place)
    });
    assert_ne!(anew["epoch"], before["epoch"]);
    let same = stored(&nodes[0], &others[0], "elsewhere");
    assert_eq!(same["epoch"], other["epoch"]);
}
