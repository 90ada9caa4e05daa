//! Readers that disconnect and resume while others publish, and check every offset they get.

use std::net::{Shutdown, SocketAddr};
use std::thread;

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::{Seed, TestClient, TestServer, wait_for};

const ROOMS: usize = 3;
const READERS: usize = 12;
const MESSAGES: u64 = 3000;
/// Messages that a publisher sends before it waits for them. Every second time it sends one.
const BURST_MAX: u64 = 200;

/// A reader's position in its room.
struct Reader {
    room: String,
    epoch: String,
    offset: u64,
    reconnects: usize,
}

impl Reader {
    fn new(room: &str) -> Self {
        Self {
            room: room.to_owned(),
            epoch: String::new(),
            offset: 0,
            reconnects: 0,
        }
    }

    /// Resumes at the last position; everything since then must be recoverable. `last` changes nothing then.
    fn connect(&mut self, address: SocketAddr, rng: &mut StdRng) -> TestClient {
        let mut target = format!("/ws?room={}&since={}", self.room, self.offset);
        if rng.random_bool(0.5) {
            target = format!("{target}&last={}", rng.random_range(0..=1000));
        }
        if !self.epoch.is_empty() {
            target = format!("{target}&epoch={}", self.epoch);
        }
        // A node that cannot read the messages in time, on a busy machine, closes with 1013: the client must try again.
        let client = wait_for("the node lets the reader resume", || {
            TestClient::try_connect(address, &target)
        });
        let room = client.welcome().room(&self.room);
        assert_eq!(room.recovered, Some(true), "{room:?}");
        assert_eq!(room.offset, self.offset, "{room:?}");
        self.epoch = room.epoch;
        client
    }

    fn take(&mut self, frame: &Value) {
        let next = self.offset + 1;
        assert_eq!(frame["offset"], next, "after {}: {frame}", self.offset);
        self.offset = next;
    }

    /// Reads up to the offset `last`. Drops the connection at random, and sometimes visits another room in between,
    /// whose newest messages must come without a gap.
    fn read_to(&mut self, last: u64, nodes: &[SocketAddr], rng: &mut StdRng) {
        while self.offset < last {
            let mut client = self.connect(nodes[rng.random_range(0..nodes.len())], rng);
            let stop_at = self.offset + rng.random_range(0..40u64);
            let mut visiting = rng.random_bool(0.2);
            if visiting {
                let other = format!("room-{}", rng.random_range(0..ROOMS + 3));
                visiting = other != self.room;
                if visiting {
                    let newest = rng.random_range(0..30);
                    client.send_json(json!({"type": "join", "room": other, "last": newest}));
                    client.send_json(json!({"type": "leave", "room": other}));
                }
            }
            let mut visited = 0;
            while self.offset < stop_at.min(last) {
                let frame = client.next();
                if frame["room"] == self.room {
                    self.take(&frame);
                    continue;
                }
                assert!(visiting, "{frame}");
                match frame["type"].as_str() {
                    Some("joined") => {
                        visited = frame["payload"]["offset"].as_u64().expect("offset");
                    }
                    Some("left") => visiting = false,
                    // A store that is away refuses the visit.
                    Some("error") => {}
                    _ => {
                        visited += 1;
                        assert_eq!(frame["offset"], visited, "{frame}");
                    }
                }
            }
            self.reconnects += 1;
            if rng.random_bool(0.5) {
                let _already_closed = client.socket.shutdown(Shutdown::Both);
            }
        }
    }
}

/// Runs publishers of single messages and bursts, and readers that reconnect again and again, each time to a random one of these
/// nodes. Asserts that each reader gets the offsets 1 to the last, one by one.
pub fn read_while_reconnecting(nodes: &[&TestServer], seed: &Seed) {
    let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.address()).collect();
    let addresses = &*addresses;
    let reconnects: usize = thread::scope(|scope| {
        for n in 0..ROOMS {
            let mut rng = seed.rng_of((READERS + n) as u64);
            scope.spawn(move || {
                let address = addresses[n % addresses.len()];
                let mut publisher = TestClient::connect(address, &format!("/ws?room=room-{n}"));
                let (mut message, mut unread) = (0, 0);
                while message < MESSAGES {
                    let burst = if rng.random_bool(0.5) {
                        1
                    } else {
                        rng.random_range(1..BURST_MAX)
                    };
                    for _ in 0..burst.min(MESSAGES - message) {
                        publisher.say(message);
                        (message, unread) = (message + 1, unread + 1);
                    }
                    (0..unread).for_each(|_| drop(publisher.next_of("message")));
                    unread = 0;
                }
            });
        }
        let readers: Vec<_> = (0..READERS)
            .map(|n| {
                scope.spawn(move || {
                    let mut reader = Reader::new(&format!("room-{}", n % ROOMS));
                    reader.read_to(MESSAGES, addresses, &mut seed.rng_of(n as u64));
                    reader.reconnects
                })
            })
            .collect();
        let readers = readers.into_iter();
        readers
            .map(|reader| reader.join().expect("a reader failed"))
            .sum()
    });
    println!("{reconnects} reconnects");
    assert!(reconnects > 1000, "only {reconnects} reconnects");
    let published = nodes.iter().map(|node| node.total("messages_published"));
    assert_eq!(published.sum::<u64>(), ROOMS as u64 * MESSAGES);
}
