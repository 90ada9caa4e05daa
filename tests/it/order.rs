//! Many speak at once to many: everyone sees the same order, complete and without repetition.

use std::collections::HashMap;
use std::thread;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};
use serde_json::{Value, json};

use crate::support::{TestClient, TestServer, eventually};

const MEMBERS: usize = 20;
const PUBLISHERS: usize = 8;
const MESSAGES_EACH: usize = 150;
const BURST_MAX: usize = 12;
const ROOMS: [&str; 2] = ["red", "blue"];

/// What one member saw: for each room, in the order of arrival, the payloads of offsets 1, 2, 3, …
type Seen = HashMap<String, Vec<Value>>;

/// Speaks in bursts, reading in between as a real client would.
fn speak(client: &mut TestClient, publisher: usize, seed: u64, seen: &mut Seen) {
    let mut random = StdRng::seed_from_u64(seed + publisher as u64);
    let mut count = 0;
    while count < MESSAGES_EACH {
        let burst = random
            .random_range(1..=BURST_MAX)
            .min(MESSAGES_EACH - count);
        for _ in 0..burst {
            count += 1;
            let room = ROOMS[random.random_range(0..ROOMS.len())];
            let padding = "x".repeat(random.random_range(0..300));
            client.say_in(room, json!([publisher, count, padding]));
        }
        for _ in 0..burst {
            note(client, seen);
        }
    }
}

/// Takes the next message, which must follow the last one of its room.
fn note(client: &mut TestClient, seen: &mut Seen) {
    let message = client.next_of("message");
    let room = message["room"].as_str().expect("a room").to_owned();
    let stream = seen.entry(room).or_default();
    assert_eq!(message["offset"], stream.len() + 1, "{message}");
    stream.push(message["payload"].clone());
}

fn assert_each_publishers_order(stream: &[Value]) {
    let mut last = HashMap::new();
    for payload in stream {
        let count = payload[1].as_u64().expect("a count");
        let before = last.insert(payload[0].to_string(), count);
        assert!(before < Some(count), "{count} after {before:?}");
    }
}

#[test]
fn all_members_see_one_order() {
    let seed: u64 = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("SEED is a number"),
        Err(_) => rand::random_range(0..1_000_000),
    };
    eprintln!("to repeat: SEED={seed}");
    let server = TestServer::start(&[]);
    let mut members: Vec<_> = (0..MEMBERS)
        .map(|_| server.client_at("/ws?room=red&room=blue"))
        .collect();

    let seen: Vec<Seen> = thread::scope(|scope| {
        let threads: Vec<_> = members
            .iter_mut()
            .enumerate()
            .map(|(number, client)| {
                scope.spawn(move || {
                    let mut seen = Seen::new();
                    if number < PUBLISHERS {
                        speak(client, number, seed, &mut seen);
                    }
                    while seen.values().map(Vec::len).sum::<usize>() < PUBLISHERS * MESSAGES_EACH {
                        note(client, &mut seen);
                    }
                    client.expect_nothing();
                    seen
                })
            })
            .collect();
        let seen = threads.into_iter().map(|t| t.join().expect("a member"));
        seen.collect()
    });

    for stream in seen[0].values() {
        assert_each_publishers_order(stream);
    }
    for others in &seen[1..] {
        assert!(*others == seen[0], "two members saw different streams");
    }
    let delivered = (MEMBERS * PUBLISHERS * MESSAGES_EACH) as u64;
    eventually("the total says so too", || {
        (server.total("messages_delivered") == delivered).then_some(())
    });
}
