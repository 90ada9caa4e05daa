//! Clients that read several rooms through one event stream, disconnect at random, resume, and check every offset.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread;

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::json;

use super::{EventSource, Seed, TestClient, TestServer, wait_for};

const ROOMS: [&str; 3] = ["a", "b", "房间"];
const READERS: usize = 6;
/// Messages in each room but the last.
const MESSAGES: u64 = 1000;

/// Reads all rooms to their ends at random nodes. Returns the number of reconnects.
fn read(nodes: &[SocketAddr], rng: &mut StdRng) -> usize {
    let mut offsets: HashMap<&str, u64> = ROOMS.map(|room| (room, 0)).into();
    let (mut last_id, mut reconnects) = ("0".to_owned(), 0);
    while offsets
        .iter()
        .any(|(room, offset)| *offset < last_offset(room))
    {
        let mut rooms = ROOMS;
        rooms.rotate_left(rng.random_range(0..3));
        let rooms = rooms.map(|room| format!("room={}", percent(room)));
        let mut target = format!("/events?{}", rooms.join("&"));
        if rng.random_bool(0.5) {
            target = format!("{target}&last={}", rng.random_range(0..=1000));
        }
        let address = nodes[rng.random_range(0..nodes.len())];
        let mut source = wait_for("a node accepts", || {
            EventSource::try_open(address, &target, &last_id)
        });
        for _ in ROOMS {
            let joined = source.expect("joined");
            let room = joined["room"].as_str().expect("room");
            assert_eq!(joined["recovered"], true, "{joined} after {last_id}");
            assert_eq!(joined["offset"], offsets[room], "{joined} after {last_id}");
        }
        for _ in 0..rng.random_range(0..300) {
            if offsets
                .iter()
                .all(|(room, offset)| *offset == last_offset(room))
            {
                break;
            }
            let Some(event) = source.next() else {
                break;
            };
            assert_eq!(event.kind, "message", "{event:?}");
            let room = event.data["room"].as_str().expect("room");
            let offset = offsets.get_mut(room).expect("a room of the stream");
            assert_eq!(event.data["offset"], *offset + 1, "{event:?}");
            *offset += 1;
        }
        last_id = source.last_id.clone();
        reconnects += 1;
        if rng.random_bool(0.5) {
            source.shut_down();
        }
    }
    reconnects
}

/// The last room is short, so that its position is old in most ids.
fn last_offset(room: &str) -> u64 {
    if room == ROOMS[2] { 10 } else { MESSAGES }
}

fn percent(room: &str) -> String {
    room.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Runs publishers, and readers of all rooms that reconnect to random ones of these nodes. Asserts that each reader
/// resumes and gets every offset of every room once and in order.
pub fn read_streams_while_reconnecting(nodes: &[&TestServer], seed: &Seed) {
    let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.address()).collect();
    let addresses = &*addresses;
    let reconnects: usize = thread::scope(|scope| {
        for (n, room) in ROOMS.into_iter().enumerate() {
            scope.spawn(move || {
                let address = addresses[n % addresses.len()];
                let target = format!("/ws?room={}", percent(room));
                let mut publisher = TestClient::connect(address, &target);
                for message in 0..last_offset(room) {
                    let echo = message % 3 > 0;
                    publisher
                        .send_json(json!({"type": "message", "payload": message, "echo": echo}));
                    if message % 20 == 19 {
                        (0..20).for_each(|_| drop(publisher.next()));
                    }
                }
            });
        }
        let readers: Vec<_> = (0..READERS)
            .map(|n| scope.spawn(move || read(addresses, &mut seed.rng_of(n as u64))))
            .collect();
        let readers = readers.into_iter();
        readers
            .map(|reader| reader.join().expect("a reader failed"))
            .sum()
    });
    println!("{reconnects} reconnects");
    assert!(reconnects > 60, "only {reconnects} reconnects");
}
