//! The server is killed at random moments: every acknowledged message is stored once, and a reader that resumes
//! has no gap.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rand::RngExt;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Seed, TempDir, TestClient, read_whole_history, wait_for, wait_until};

const KILLS: usize = 60;
const PUBLISHERS: usize = 4;
/// Unacknowledged publishes of one publisher.
const WINDOW: usize = 10;
const FLAGS: [&str; 4] = [
    "--history-messages=10000000",
    "--history-bytes=1GiB",
    "--history-total-bytes=1GiB",
    "--log-level=warn",
];

fn reconnect(address: SocketAddr, target: &str) -> TestClient {
    wait_for("the server accepts a client again", || {
        TestClient::try_connect(address, target)
    })
}

/// Publishes with ids until `stop` is set, and sends unacknowledged messages again after each reconnect. Returns the
/// acknowledged offsets by id.
fn publish(
    name: usize,
    address: SocketAddr,
    acknowledged: &AtomicU64,
    stop: &AtomicBool,
) -> HashMap<String, u64> {
    let target = format!("/ws?room=plant&session=publisher-number-{name}");
    let mut acks = HashMap::new();
    let mut waiting: VecDeque<u64> = VecDeque::new();
    let mut next = 0;
    let message = |n: u64| {
        let id = format!("{name}-{n}");
        json!({"type": "message", "room": "plant", "payload": n, "id": id})
    };
    loop {
        let mut client = reconnect(address, &target);
        let resent = waiting
            .iter()
            .try_for_each(|n| client.try_send_json(&message(*n)));
        let mut alive = resent.is_some();
        while alive {
            while alive && waiting.len() < WINDOW && !stop.load(Ordering::Relaxed) {
                waiting.push_back(next);
                alive = client.try_send_json(&message(next)).is_some();
                next += 1;
            }
            if waiting.is_empty() {
                return acks;
            }
            let Some(frame) = client.try_next() else {
                break;
            };
            assert_ne!(frame["type"], "error", "{frame}");
            if frame["type"] == "ack" {
                let n = waiting.pop_front().expect("an ack for a message sent");
                assert_eq!(frame["id"], format!("{name}-{n}"), "acks come in order");
                let offset = frame["payload"]["offset"].as_u64().expect("offset");
                acks.insert(format!("{name}-{n}"), offset);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Reads the room over all kills, up to the offset in `last`, which is known at the end.
fn read(address: SocketAddr, last: &AtomicU64) -> u64 {
    let (mut offset, mut epoch) = (0, String::new());
    while offset < last.load(Ordering::Relaxed) {
        let mut target = format!("/ws?room=plant&since={offset}");
        if !epoch.is_empty() {
            target = format!("{target}&epoch={epoch}");
        }
        let mut client = reconnect(address, &target);
        let room = client.welcome().room("plant");
        assert_eq!(room.recovered, Some(true), "{room:?} after {offset}");
        epoch = room.epoch;
        while offset < last.load(Ordering::Relaxed) {
            let Some(message) = client.try_next() else {
                break;
            };
            assert_eq!(message["offset"], offset + 1, "{message}");
            offset += 1;
        }
    }
    offset
}

/// Returns the offset of each id. Asserts that offsets are contiguous and no id is stored twice.
fn offsets_by_id(stored: &[Value]) -> HashMap<String, u64> {
    let mut offsets = HashMap::new();
    for (message, offset) in stored.iter().zip(1u64..) {
        assert_eq!(message["offset"], offset, "{message}");
        if let Some(id) = message["id"].as_str() {
            let before = offsets.insert(id.to_owned(), offset);
            assert_eq!(before, None, "{id} is stored twice");
        }
    }
    offsets
}

// Actors: four publishers, which send unacknowledged messages again, and one reader.
// Faults: the server is killed 60 times, each time after a random number of acknowledgements.
// Invariants: each acknowledged message is stored once, at the acknowledged offset; the reader gets every offset in
// order and recovers at every reconnect.
#[test]
fn acknowledged_messages_survive_every_kill_exactly_once() {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let disk = TempDir::new();
    let start = |port: &str| disk.serve(&[&FLAGS[..], &["--port", port]].concat());
    let mut server = start("0");
    let address = server.address();
    let port = address.port().to_string();

    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let last = AtomicU64::new(u64::MAX);
    let (stored, acks, read_up_to) = thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|name| {
                let (acknowledged, stop) = (&acknowledged, &stop);
                scope.spawn(move || publish(name, address, acknowledged, stop))
            })
            .collect();
        let reader = scope.spawn(|| read(address, &last));
        for _ in 0..KILLS {
            let enough = acknowledged.load(Ordering::Relaxed) + rng.random_range(1..800);
            wait_until("publishes are acknowledged", || {
                acknowledged.load(Ordering::Relaxed) >= enough
            });
            server.signal(Signal::KILL);
            server.wait_for_exit();
            print!("{}", server.log());
            server = start(&port);
        }
        stop.store(true, Ordering::Relaxed);
        let acks: Vec<_> = publishers
            .into_iter()
            .map(|publisher| publisher.join().expect("a publisher failed"))
            .collect();
        let stored = read_whole_history(address, "plant");
        last.store(stored.len() as u64, Ordering::Relaxed);
        // Another message wakes the reader if it has all of them already.
        server.client_at("/ws?room=plant").say("the end");
        (stored, acks, reader.join().expect("the reader failed"))
    });

    let offsets = offsets_by_id(&stored);
    let mut checked = 0;
    for (id, offset) in acks.into_iter().flatten() {
        assert_eq!(offsets.get(&id), Some(&offset), "{id} was acknowledged");
        checked += 1;
    }
    println!("{checked} acknowledged messages over {KILLS} kills");
    assert!(checked > KILLS, "only {checked} acknowledged");
    assert!(read_up_to >= stored.len() as u64, "read {read_up_to}");
}
