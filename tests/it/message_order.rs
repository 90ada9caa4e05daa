//! Many clients publish at once to many: all see the same order, complete and without repetition.

use std::collections::HashMap;
use std::thread;

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::support::{Seed, TempDir, TestClient, TestServer, wait_until};

const MEMBERS: usize = 20;
const PUBLISHERS: usize = 8;
const MESSAGES_EACH: usize = 150;
const BURST_MAX: usize = 12;
const ROOMS: [&str; 2] = ["red", "blue"];
const FLOOD_MAX: u64 = 400;
const TURNS: usize = 60;

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

/// A publisher with a room of its own and one that it shares.
struct Publisher {
    client: TestClient,
    number: usize,
    published: u64,
    acknowledged: u64,
    /// The own messages that came back.
    returned: u64,
    /// The last offset of each room.
    offsets: HashMap<String, u64>,
    /// The last own message in each room.
    last: HashMap<String, u64>,
}

impl Publisher {
    fn new(server: &TestServer, number: usize) -> Self {
        Self {
            client: server.client_at(&format!("/ws?room=all&room=own-{number}")),
            number,
            published: 0,
            acknowledged: 0,
            returned: 0,
            offsets: HashMap::new(),
            last: HashMap::new(),
        }
    }

    /// Publishes to one of the two rooms.
    fn publish(&mut self, rng: &mut StdRng) {
        self.published += 1;
        let room = match rng.random_bool(0.5) {
            true => "all".to_owned(),
            false => format!("own-{}", self.number),
        };
        self.client.send_json(json!({
            "type": "message",
            "room": room,
            "payload": [self.number, self.published],
            "id": self.published.to_string(),
        }));
    }

    /// Returns the messages in the own room, all of which have come back.
    fn published_in_own_room(&self) -> u64 {
        let room = format!("own-{}", self.number);
        self.offsets.get(&room).copied().unwrap_or_default()
    }

    /// Reads until every own message was acknowledged and has come back.
    fn read_own(&mut self) {
        while self.acknowledged < self.published || self.returned < self.published {
            self.read();
        }
    }

    fn read(&mut self) {
        let frame = self.client.next();
        if frame["type"] == "ack" {
            self.acknowledged += 1;
            assert_eq!(frame["id"], self.acknowledged.to_string(), "{frame}");
            return;
        }
        let room = frame["room"].as_str().expect("a room").to_owned();
        let offset = self.offsets.entry(room.clone()).or_default();
        *offset += 1;
        assert_eq!(frame["offset"], *offset, "{frame}");
        if frame["payload"][0] == self.number {
            self.returned += 1;
            let number = frame["payload"][1].as_u64().expect("a number");
            assert!(self.last.insert(room, number) < Some(number), "{frame}");
        }
    }
}

// Actors: four publishers. Each takes turns between single messages, which it waits for, and floods, in its own room
// and in one of all.
// Invariants: every member gets the offsets of a room one by one, and the messages of a publisher in each room in the
// order in which it published; a publisher gets its acknowledgements in that order too.
fn assert_order_between_single_messages_and_floods(arguments: &[&str]) {
    let seed = Seed::new();
    let server = TestServer::start(arguments);
    let mut publishers: Vec<_> = (0..4).map(|n| Publisher::new(&server, n)).collect();
    thread::scope(|scope| {
        for publisher in &mut publishers {
            let mut rng = seed.rng_of(publisher.number as u64);
            scope.spawn(move || {
                for _ in 0..TURNS {
                    let count = match rng.random_range(0..4) {
                        0 => rng.random_range(2..FLOOD_MAX),
                        _ => 1,
                    };
                    (0..count).for_each(|_| publisher.publish(&mut rng));
                    publisher.read_own();
                }
            });
        }
    });
    let published: u64 = publishers.iter().map(|publisher| publisher.published).sum();
    assert_eq!(server.total("messages_published"), published);
    let in_own: u64 = publishers
        .iter()
        .map(Publisher::published_in_own_room)
        .sum();
    let in_all = published - in_own;
    for publisher in &mut publishers {
        while publisher.offsets.get("all").copied().unwrap_or_default() < in_all {
            publisher.read();
        }
        publisher.client.expect_nothing();
    }
}

#[test]
fn order_holds_between_single_messages_and_floods() {
    assert_order_between_single_messages_and_floods(&[]);
}

#[test]
fn order_holds_between_single_messages_and_floods_on_disk() {
    let folder = TempDir::new();
    let database = folder.arg("history.db");
    assert_order_between_single_messages_and_floods(&["--db", &database]);
}
