//! Many clients publish at once to many: all see the same order, complete and without repetition.

use std::collections::HashMap;
use std::thread;

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::support::{Seed, TestClient, TestServer, wait_until};

const MEMBERS: usize = 20;
const PUBLISHERS: usize = 8;
const MESSAGES_EACH: usize = 150;
const BURST_MAX: usize = 12;
const ROOMS: [&str; 2] = ["red", "blue"];

/// The payloads that one member received in each room, in order of arrival. Their offsets were 1, 2, 3, …
type Received = HashMap<String, Vec<Value>>;

/// Publishes in bursts and reads in between, as a real client does.
fn publish(client: &mut TestClient, publisher: usize, rng: &mut StdRng, received: &mut Received) {
    let mut count = 0;
    while count < MESSAGES_EACH {
        let burst = rng.random_range(1..=BURST_MAX).min(MESSAGES_EACH - count);
        for _ in 0..burst {
            count += 1;
            let room = ROOMS[rng.random_range(0..ROOMS.len())];
            let padding = "x".repeat(rng.random_range(0..300));
            client.say_in(room, json!([publisher, count, padding]));
        }
        for _ in 0..burst {
            receive(client, received);
        }
    }
}

/// Receives the next message, whose offset must follow the last one of its room.
fn receive(client: &mut TestClient, received: &mut Received) {
    let message = client.next_of("message");
    let room = message["room"].as_str().expect("a room").to_owned();
    let messages = received.entry(room).or_default();
    assert_eq!(message["offset"], messages.len() + 1, "{message}");
    messages.push(message["payload"].clone());
}

fn assert_order_of_each_publisher(payloads: &[Value]) {
    let mut last = HashMap::new();
    for payload in payloads {
        let count = payload[1].as_u64().expect("a count");
        let before = last.insert(payload[0].to_string(), count);
        assert!(before < Some(count), "{count} after {before:?}");
    }
}

// Actors: 20 members of two rooms, of whom 8 publish in random bursts.
// Invariants: all members receive every message, in one order per room, which keeps the order of each publisher.
#[test]
fn all_members_see_one_order() {
    let seed = Seed::new();
    let server = TestServer::start(&[]);
    let mut members: Vec<_> = (0..MEMBERS)
        .map(|_| server.client_at("/ws?room=red&room=blue"))
        .collect();

    let received: Vec<Received> = thread::scope(|scope| {
        let threads: Vec<_> = members
            .iter_mut()
            .enumerate()
            .map(|(number, client)| {
                let mut rng = seed.rng_of(number as u64);
                scope.spawn(move || {
                    let mut received = Received::new();
                    if number < PUBLISHERS {
                        publish(client, number, &mut rng, &mut received);
                    }
                    let all = PUBLISHERS * MESSAGES_EACH;
                    while received.values().map(Vec::len).sum::<usize>() < all {
                        receive(client, &mut received);
                    }
                    client.expect_nothing();
                    received
                })
            })
            .collect();
        let members = threads.into_iter();
        members
            .map(|t| t.join().expect("a member failed"))
            .collect()
    });

    for payloads in received[0].values() {
        assert_order_of_each_publisher(payloads);
    }
    for others in &received[1..] {
        assert!(*others == received[0], "two members saw different orders");
    }
    let delivered = (MEMBERS * PUBLISHERS * MESSAGES_EACH) as u64;
    wait_until("the total of deliveries is right", || {
        server.total("messages_delivered") == delivered
    });
}
