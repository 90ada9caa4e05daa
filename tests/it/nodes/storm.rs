//! Redis and nodes are killed and stopped while clients publish and read: what was acknowledged is in history once,
//! and who reads misses nothing and gets nothing twice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use serde_json::json;

use crate::crash::{Link, history};
use crate::resume::StopOnDrop;
use crate::support::{TestRedis, TestServer, eventually};

const NODES: usize = 3;
const PUBLISHERS: usize = 4;
const READERS: usize = 4;
/// Publishes of one publisher that wait for their acknowledgement at once.
const WINDOW: usize = 10;
const FLAGS: [&str; 4] = [
    "--history-messages=10000000",
    "--history-bytes=1GiB",
    "--log-level=warn",
    "--shutdown-timeout=2",
];

/// What all of them look at.
struct Storm {
    addresses: Vec<SocketAddr>,
    acknowledged: AtomicU64,
    stop: AtomicBool,
    /// The offset that is last in the end.
    last: AtomicU64,
}

/// Whatever ends a test, also an assertion, ends its readers.
struct EndReaders<'a>(&'a Storm);

impl Drop for EndReaders<'_> {
    fn drop(&mut self) {
        let _known =
            self.0
                .last
                .compare_exchange(u64::MAX, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Nodes of one Redis, each on a port of its own that it keeps when it is started again.
struct Nodes {
    redis: TestRedis,
    nodes: Vec<TestServer>,
}

impl Nodes {
    fn start(redis: TestRedis) -> Self {
        let nodes = redis.nodes(NODES, &FLAGS);
        Self { redis, nodes }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(TestServer::address).collect()
    }

    fn kill_and_start_again(&mut self, n: usize) {
        let port = self.nodes[n].address().port().to_string();
        self.nodes[n].signal(Signal::KILL);
        self.nodes[n].wait_for_exit();
        self.nodes[n] = self.redis.node(&[&FLAGS[..], &["--port", &port]].concat());
    }
}

impl Storm {
    fn connect(&self, target: &str, rng: &mut StdRng) -> Link {
        eventually(&format!("a node takes {target}"), || {
            let address = self.addresses[rng.random_range(0..self.addresses.len())];
            Link::connect(address, target)
        })
    }

    /// Waits until so many more have been acknowledged.
    fn wait_for(&self, more: u64) {
        let enough = self.acknowledged.load(Ordering::Relaxed) + more;
        eventually("publishes are acknowledged", || {
            (self.acknowledged.load(Ordering::Relaxed) >= enough).then_some(())
        });
    }

    /// Publishes with ids until told to stop, on whichever node takes it, and sends again what was refused or not
    /// answered; gives the offset of each.
    fn publish(&self, name: usize, rng: &mut StdRng) -> HashMap<String, u64> {
        let target = format!("/ws?room=plant&session=publisher-number-{name}");
        let (mut acks, mut waiting) = (HashMap::new(), Vec::<u64>::new());
        let mut next = 0;
        let frame = |n: u64| {
            let id = format!("{name}-{n}");
            json!({"type": "message", "room": "plant", "payload": n, "id": id})
        };
        loop {
            let mut link = self.connect(&target, rng);
            let resent = waiting.iter().try_for_each(|n| link.send(&frame(*n)));
            let mut alive = resent.is_some();
            while alive {
                while alive && waiting.len() < WINDOW && !self.stop.load(Ordering::Relaxed) {
                    waiting.push(next);
                    alive = link.send(&frame(next)).is_some();
                    next += 1;
                }
                if waiting.is_empty() {
                    return acks;
                }
                let Some(answer) = link.next() else {
                    break;
                };
                let id = answer["id"].as_str().unwrap_or_default();
                let number = id.strip_prefix(&format!("{name}-"));
                let Some(n) = number.and_then(|n| n.parse::<u64>().ok()) else {
                    continue;
                };
                match answer["type"].as_str() {
                    Some("ack") => {
                        let offset = answer["payload"]["offset"].as_u64().expect("offset");
                        let before = acks.insert(id.to_owned(), offset);
                        assert!(before.is_none_or(|before| before == offset), "{answer}");
                        waiting.retain(|waits| *waits != n);
                        self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    Some("error") => {
                        assert_eq!(answer["payload"]["code"], "storage_unavailable", "{answer}");
                        thread::park_timeout(Duration::from_millis(20));
                        alive = link.send(&frame(n)).is_some();
                    }
                    _ => {}
                }
            }
        }
    }

    /// Reads the room on whichever node lets it, until it has the offset that is last in the end.
    fn read(&self, rng: &mut StdRng) -> u64 {
        let (mut offset, mut epoch) = (0, String::new());
        while offset < self.last.load(Ordering::Relaxed) {
            let mut target = format!("/ws?room=plant&since={offset}");
            if !epoch.is_empty() {
                target = format!("{target}&epoch={epoch}");
            }
            let mut link = self.connect(&target, rng);
            let Some(welcome) = link.next() else {
                continue;
            };
            let room = &welcome["rooms"][0];
            assert_eq!(room["recovered"], true, "{room} after {offset}");
            epoch = room["epoch"].as_str().expect("epoch").to_owned();
            let stay = offset + rng.random_range(1..500u64);
            while offset < stay.min(self.last.load(Ordering::Relaxed)) {
                let Some(message) = link.next() else {
                    break;
                };
                assert_eq!(message["offset"], offset + 1, "{message}");
                offset += 1;
            }
        }
        offset
    }
}

/// Publishers and readers at work while `trouble` is made; then all is looked at.
fn weather(nodes: &mut Nodes, seed: u64, trouble: impl FnOnce(&Storm, &mut Nodes, &mut StdRng)) {
    eprintln!("seed {seed}");
    let storm = Storm {
        addresses: nodes.addresses(),
        acknowledged: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        last: AtomicU64::new(u64::MAX),
    };
    let rng = |n: u64| StdRng::seed_from_u64(seed.wrapping_add(n));
    let (stored, acks) = thread::scope(|scope| {
        let storm = &storm;
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|name| scope.spawn(move || storm.publish(name, &mut rng(name as u64))))
            .collect();
        let readers: Vec<_> = (0..READERS as u64)
            .map(|n| scope.spawn(move || storm.read(&mut rng(100 + n))))
            .collect();
        let stop = StopOnDrop(&storm.stop);
        let _readers = EndReaders(storm);
        trouble(storm, nodes, &mut rng(1000));
        storm.wait_for(100);
        drop(stop);
        let acks: Vec<_> = publishers
            .into_iter()
            .map(|publisher| publisher.join().expect("publisher"))
            .collect();
        let stored = history(storm.addresses[0], "plant");
        storm.last.store(stored.len() as u64, Ordering::Relaxed);
        // One more on each node wakes readers that have all of them already.
        for node in &nodes.nodes {
            node.client_at("/ws?room=plant").say("the end");
        }
        for reader in readers {
            assert!(reader.join().expect("reader") >= stored.len() as u64);
        }
        (stored, acks)
    });
    let mut offsets = HashMap::new();
    for (message, offset) in stored.iter().zip(1u64..) {
        assert_eq!(message["offset"], offset, "{message}");
        let id = message["id"].as_str().expect("id").to_owned();
        assert_eq!(
            offsets.insert(id, offset),
            None,
            "{message} is stored twice"
        );
    }
    let acks: HashMap<String, u64> = acks.into_iter().flatten().collect();
    for (id, offset) in &acks {
        assert_eq!(offsets.get(id), Some(offset), "{id} was acknowledged");
    }
    assert_eq!(
        acks.len(),
        stored.len(),
        "all were sent until they were acknowledged"
    );
    eprintln!("{} messages, each acknowledged and stored once", acks.len());
}

/// So many strikes, each after some more has been acknowledged.
fn survives(strikes: usize, strike: impl Fn(&mut Nodes, usize)) {
    let Some(redis) = TestRedis::start_durable() else {
        return;
    };
    let mut nodes = Nodes::start(redis);
    weather(&mut nodes, rand::random(), |storm, nodes, rng| {
        for n in 0..strikes {
            storm.wait_for(rng.random_range(1..300));
            strike(nodes, n);
        }
    });
}

#[test]
fn what_was_acknowledged_survives_a_redis_that_is_killed_again_and_again() {
    survives(8, |nodes, _| {
        nodes.redis.kill();
        nodes.redis.start_again();
    });
}

#[test]
fn what_was_acknowledged_survives_nodes_that_are_killed() {
    survives(9, |nodes, n| nodes.kill_and_start_again(n % NODES));
}

/// A Redis that stands still for ten seconds takes what was sent to it when it goes on, but not what the publisher
/// was told is not published.
#[test]
fn a_redis_that_stands_still_costs_nobody_a_message_or_the_connection() {
    let Some(redis) = TestRedis::start_durable() else {
        return;
    };
    let mut nodes = Nodes::start(redis);
    let mut idle = nodes.nodes[0].client_at("/ws?room=elsewhere");
    weather(&mut nodes, rand::random(), |storm, nodes, _| {
        storm.wait_for(100);
        nodes.redis.signal(Signal::STOP);
        let stopped = Instant::now();
        nodes.nodes.iter().for_each(|node| node.await_health(503));
        // Whoever is there is heard and answered.
        idle.send(json!({"type": "ping", "id": "still here"}));
        assert_eq!(idle.next_of("pong")["id"], "still here");
        let in_time = Duration::from_secs(10);
        thread::park_timeout(in_time.saturating_sub(stopped.elapsed()));
        nodes.redis.signal(Signal::CONT);
        nodes.nodes.iter().for_each(|node| node.await_health(200));
    });
    idle.say("and goes on");
    idle.expect("and goes on");
}
