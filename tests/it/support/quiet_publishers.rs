//! Publishers that do not receive their own messages, disconnect at random, resume, and check every offset.

use std::collections::{HashMap, HashSet};
use std::net::{Shutdown, SocketAddr};
use std::thread;

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::{Seed, TestClient, TestServer, read_whole_history, wait_for};

const ROOM: &str = "quiet";
const PUBLISHERS: usize = 4;
/// Messages of each publisher.
const MESSAGES: u64 = 600;
const TOTAL: u64 = PUBLISHERS as u64 * MESSAGES;
/// Unacknowledged publishes of one publisher.
const WINDOW: usize = 20;

/// A publisher that is a member of its room.
struct Publisher {
    name: usize,
    epoch: String,
    offset: u64,
    next: u64,
    /// Publishes without an acknowledgement.
    waiting: Vec<u64>,
    acks: HashMap<u64, u64>,
    /// Publishes that only the present connection has sent.
    sent: HashSet<u64>,
    reconnects: usize,
    in_place: usize,
}

impl Publisher {
    fn new(name: usize) -> Self {
        Self {
            name,
            epoch: String::new(),
            offset: 0,
            next: 0,
            waiting: Vec::new(),
            acks: HashMap::new(),
            sent: HashSet::new(),
            reconnects: 0,
            in_place: 0,
        }
    }

    /// Every third message is echoed.
    fn request(&self, n: u64) -> Value {
        let id = format!("{}-{n}", self.name);
        let mut request = json!({"type": "message", "room": ROOM, "payload": n, "id": id});
        if !has_echo(n) {
            request["echo"] = json!(false);
        }
        request
    }

    /// The number of a message of this publisher.
    fn number(&self, frame: &Value) -> Option<u64> {
        let id = frame["id"].as_str()?;
        id.strip_prefix(&format!("{}-", self.name))?.parse().ok()
    }

    fn connect(&mut self, nodes: &[SocketAddr], rng: &mut StdRng) -> TestClient {
        let mut target = format!(
            "/ws?room={ROOM}&since={}&session=quiet-publisher-{}",
            self.offset, self.name
        );
        if !self.epoch.is_empty() {
            target = format!("{target}&epoch={}", self.epoch);
        }
        if rng.random_bool(0.5) {
            target = format!("{target}&last={}", rng.random_range(0..=1000));
        }
        let address = nodes[rng.random_range(0..nodes.len())];
        let client = wait_for("a node accepts", || {
            TestClient::try_connect(address, &target)
        });
        let room = client.welcome().room(ROOM);
        assert_eq!(
            (room.recovered, room.offset),
            (Some(true), self.offset),
            "{room:?}"
        );
        self.epoch = room.epoch;
        self.sent.clear();
        client
    }

    /// Publishes all messages and reads the room to its end.
    fn run(&mut self, nodes: &[SocketAddr], rng: &mut StdRng) {
        while !self.is_done() {
            let mut client = self.connect(nodes, rng);
            for n in &self.waiting {
                client.try_send_json(&self.request(*n));
            }
            for _ in 0..rng.random_range(1..200) {
                if self.is_done() {
                    break;
                }
                while self.waiting.len() < WINDOW && self.next < MESSAGES {
                    let n = self.next;
                    self.next += 1;
                    self.waiting.push(n);
                    self.sent.insert(n);
                    client.try_send_json(&self.request(n));
                }
                let Some(frame) = client.try_next() else {
                    break;
                };
                self.take(&frame);
            }
            self.reconnects += 1;
            if rng.random_bool(0.5) {
                let _already_closed = client.socket.shutdown(Shutdown::Both);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.next == MESSAGES && self.waiting.is_empty() && self.offset == TOTAL
    }

    fn take(&mut self, frame: &Value) {
        let own = self.number(frame);
        match frame["type"].as_str() {
            Some("message") => {
                let is_quiet = own.is_some_and(|n| !has_echo(n) && self.sent.contains(&n));
                assert!(!is_quiet, "its own message: {frame}");
                self.advance(&frame["offset"], frame);
            }
            Some("ack") => {
                let payload = &frame["payload"];
                if payload["echo"] == false {
                    self.in_place += 1;
                    self.advance(&payload["offset"], frame);
                }
                let Some(n) = own else {
                    assert_eq!(payload["echo"], false, "an answer without an id: {frame}");
                    return;
                };
                let offset = payload["offset"].as_u64().expect("offset");
                let before = self.acks.insert(n, offset);
                assert!(before.is_none_or(|before| before == offset), "{frame}");
                self.waiting.retain(|waiting| *waiting != n);
            }
            _ => panic!("{frame}"),
        }
    }

    fn advance(&mut self, offset: &Value, frame: &Value) {
        assert_eq!(*offset, self.offset + 1, "after {}: {frame}", self.offset);
        self.offset += 1;
    }
}

fn has_echo(n: u64) -> bool {
    n.is_multiple_of(3)
}

/// Runs publishers that reconnect to a random one of these nodes. Asserts that each gets every offset once and in order, as
/// a message or as an acknowledgement in its place, none of its own messages on the connection that published it, and one
/// acknowledgement of each publish.
pub fn publish_without_echo(nodes: &[&TestServer], seed: &Seed) {
    let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.address()).collect();
    let addresses = &*addresses;
    let publishers: Vec<Publisher> = thread::scope(|scope| {
        let run = |name| {
            scope.spawn(move || {
                let mut publisher = Publisher::new(name);
                publisher.run(addresses, &mut seed.rng_of(name as u64));
                publisher
            })
        };
        let running: Vec<_> = (0..PUBLISHERS).map(run).collect();
        let ended = running.into_iter();
        ended
            .map(|publisher| publisher.join().expect("a publisher failed"))
            .collect()
    });
    let stored = read_whole_history(addresses[0], ROOM);
    assert_eq!(stored.len() as u64, TOTAL);
    for publisher in &publishers {
        assert_eq!(publisher.acks.len() as u64, MESSAGES);
        for message in &stored {
            if let Some(n) = publisher.number(message) {
                assert_eq!(message["offset"], publisher.acks[&n], "{message}");
            }
        }
    }
    let reconnects: usize = publishers
        .iter()
        .map(|publisher| publisher.reconnects)
        .sum();
    let in_place: usize = publishers.iter().map(|publisher| publisher.in_place).sum();
    println!("{reconnects} reconnects, {in_place} acknowledgements in place of messages");
    assert!(reconnects > 40 && in_place > 200, "{reconnects} {in_place}");
}
