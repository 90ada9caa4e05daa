//! Redis and nodes are killed and stopped while clients publish and read: every acknowledged message is in history
//! once, and readers that resume miss nothing and get nothing twice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Seed, StopOnDrop, TestClient, TestRedis, TestServer, read_whole_history, wait_for, wait_until,
    with_durable_redis,
};

const NODES: usize = 3;
const PUBLISHERS: usize = 4;
const READERS: usize = 4;
/// Unacknowledged publishes of one publisher.
const WINDOW: usize = 10;
const FLAGS: [&str; 4] = [
    "--history-messages=10000000",
    "--history-bytes=1GiB",
    "--log-level=warn",
    "--shutdown-timeout=2",
];

/// Nodes of one Redis. A node keeps its port when it is started again.
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

    fn kill_and_restart(&mut self, n: usize) {
        let port = self.nodes[n].address().port().to_string();
        self.nodes[n].signal(Signal::KILL);
        self.nodes[n].wait_for_exit();
        self.nodes[n] = self.redis.node(&[&FLAGS[..], &["--port", &port]].concat());
    }
}

/// Publishers and readers at work while faults are injected.
struct FaultRun {
    addresses: Vec<SocketAddr>,
    acknowledged: AtomicU64,
    stop: AtomicBool,
    /// The last offset of the room. It is `u64::MAX` until all publishers have ended.
    last: AtomicU64,
}

/// Ends the readers when dropped, also when an assertion fails.
struct EndReaders<'a>(&'a FaultRun);

impl Drop for EndReaders<'_> {
    fn drop(&mut self) {
        let last = &self.0.last;
        let _already_set = last.compare_exchange(u64::MAX, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl FaultRun {
    /// Connects to a random node that accepts.
    fn connect(&self, target: &str, rng: &mut StdRng) -> TestClient {
        wait_for(&format!("a node accepts {target}"), || {
            let address = self.addresses[rng.random_range(0..self.addresses.len())];
            TestClient::try_connect(address, target)
        })
    }

    /// Blocks until `more` further publishes have been acknowledged.
    fn wait_for_acks(&self, more: u64) {
        let enough = self.acknowledged.load(Ordering::Relaxed) + more;
        wait_until("publishes are acknowledged", || {
            self.acknowledged.load(Ordering::Relaxed) >= enough
        });
    }

    /// Publishes with ids until `stop` is set, on any node that accepts, and sends again every message that was
    /// refused or not acknowledged. Returns the acknowledged offsets by id.
    fn publish(&self, name: usize, rng: &mut StdRng) -> HashMap<String, u64> {
        let target = format!("/ws?room=plant&session=publisher-number-{name}");
        let (mut acks, mut waiting) = (HashMap::new(), Vec::<u64>::new());
        let mut next = 0;
        let message = |n: u64| {
            let id = format!("{name}-{n}");
            json!({"type": "message", "room": "plant", "payload": n, "id": id})
        };
        loop {
            let mut client = self.connect(&target, rng);
            let resent = waiting
                .iter()
                .try_for_each(|n| client.try_send_json(&message(*n)));
            let mut alive = resent.is_some();
            while alive {
                while alive && waiting.len() < WINDOW && !self.stop.load(Ordering::Relaxed) {
                    waiting.push(next);
                    alive = client.try_send_json(&message(next)).is_some();
                    next += 1;
                }
                if waiting.is_empty() {
                    return acks;
                }
                let Some(frame) = client.try_next() else {
                    break;
                };
                let id = frame["id"].as_str().unwrap_or_default();
                let number = id.strip_prefix(&format!("{name}-"));
                let Some(n) = number.and_then(|n| n.parse::<u64>().ok()) else {
                    continue;
                };
                match frame["type"].as_str() {
                    Some("ack") => {
                        let offset = frame["payload"]["offset"].as_u64().expect("offset");
                        let before = acks.insert(id.to_owned(), offset);
                        assert!(before.is_none_or(|before| before == offset), "{frame}");
                        waiting.retain(|waits| *waits != n);
                        self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    Some("error") => {
                        assert_eq!(frame["payload"]["code"], "storage_unavailable", "{frame}");
                        thread::park_timeout(Duration::from_millis(20));
                        alive = client.try_send_json(&message(n)).is_some();
                    }
                    _ => {}
                }
            }
        }
    }

    /// Reads the room up to its last offset, at random nodes and with random reconnects.
    fn read(&self, rng: &mut StdRng) -> u64 {
        let (mut offset, mut epoch) = (0, String::new());
        while offset < self.last.load(Ordering::Relaxed) {
            let mut target = format!("/ws?room=plant&since={offset}");
            if !epoch.is_empty() {
                target = format!("{target}&epoch={epoch}");
            }
            let mut client = self.connect(&target, rng);
            let room = client.welcome().room("plant");
            assert_eq!(room.recovered, Some(true), "{room:?} after {offset}");
            epoch = room.epoch;
            let stay = offset + rng.random_range(1..500u64);
            while offset < stay.min(self.last.load(Ordering::Relaxed)) {
                let Some(message) = client.try_next() else {
                    break;
                };
                assert_eq!(message["offset"], offset + 1, "{message}");
                offset += 1;
            }
        }
        offset
    }
}

/// Runs publishers and readers while `inject` causes faults. Asserts that each message is acknowledged and stored once,
/// at the acknowledged offset, and that each reader recovers at every reconnect and gets every offset in order.
fn run_with_faults(nodes: &mut Nodes, inject: impl FnOnce(&FaultRun, &mut Nodes, &mut StdRng)) {
    let seed = Seed::new();
    let run = FaultRun {
        addresses: nodes.addresses(),
        acknowledged: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        last: AtomicU64::new(u64::MAX),
    };
    let (stored, acks) = thread::scope(|scope| {
        let (run, seed) = (&run, &seed);
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|name| scope.spawn(move || run.publish(name, &mut seed.rng_of(name as u64))))
            .collect();
        let readers: Vec<_> = (0..READERS as u64)
            .map(|n| scope.spawn(move || run.read(&mut seed.rng_of(100 + n))))
            .collect();
        let stop = StopOnDrop(&run.stop);
        let _readers = EndReaders(run);
        inject(run, nodes, &mut seed.rng_of(1000));
        run.wait_for_acks(100);
        drop(stop);
        let acks: Vec<_> = publishers
            .into_iter()
            .map(|publisher| publisher.join().expect("a publisher failed"))
            .collect();
        let stored = read_whole_history(run.addresses[0], "plant");
        run.last.store(stored.len() as u64, Ordering::Relaxed);
        // Another message on each node wakes readers that have all of them already.
        for node in &nodes.nodes {
            node.client_at("/ws?room=plant").say("the end");
        }
        for reader in readers {
            assert!(reader.join().expect("a reader failed") >= stored.len() as u64);
        }
        (stored, acks)
    });
    let acks = acks.into_iter().flatten().collect();
    assert_each_is_stored_once(&stored, &acks);
}

fn assert_each_is_stored_once(stored: &[Value], acks: &HashMap<String, u64>) {
    let mut offsets = HashMap::new();
    for (message, offset) in stored.iter().zip(1u64..) {
        assert_eq!(message["offset"], offset, "{message}");
        let id = message["id"].as_str().expect("id").to_owned();
        let before = offsets.insert(id, offset);
        assert_eq!(before, None, "{message} is stored twice");
    }
    for (id, offset) in acks {
        assert_eq!(offsets.get(id), Some(offset), "{id} was acknowledged");
    }
    assert_eq!(acks.len(), stored.len(), "all are sent until acknowledged");
    println!("{} messages, each acknowledged and stored once", acks.len());
}

/// Injects `count` faults, each after a random number of acknowledgements.
fn survives(count: usize, inject: impl Fn(&mut Nodes, usize)) {
    with_durable_redis(|redis| {
        let mut nodes = Nodes::start(redis);
        run_with_faults(&mut nodes, |run, nodes, rng| {
            for n in 0..count {
                run.wait_for_acks(rng.random_range(1..300));
                inject(nodes, n);
            }
        });
    });
}

#[test]
fn acknowledged_messages_survive_repeated_kills_of_redis() {
    survives(8, |nodes, _| {
        nodes.redis.kill();
        nodes.redis.restart();
    });
}

#[test]
fn acknowledged_messages_survive_kills_of_nodes() {
    survives(9, |nodes, n| nodes.kill_and_restart(n % NODES));
}

/// A Redis that stops for ten seconds executes commands it received before, once it continues. It must not execute
/// publishes that the server reported as refused.
#[test]
fn stopped_redis_costs_no_message_and_no_connection() {
    with_durable_redis(|redis| {
        let mut nodes = Nodes::start(redis);
        let mut idle = nodes.nodes[0].client_at("/ws?room=idle");
        run_with_faults(&mut nodes, |run, nodes, _| {
            run.wait_for_acks(100);
            nodes.redis.signal(Signal::STOP);
            let stopped = Instant::now();
            nodes
                .nodes
                .iter()
                .for_each(|node| node.wait_for_health(503));
            // Clients that need nothing of Redis are answered.
            idle.send_json(json!({"type": "ping", "id": "still here"}));
            assert_eq!(idle.next_of("pong")["id"], "still here");
            let stop_for = Duration::from_secs(10);
            thread::park_timeout(stop_for.saturating_sub(stopped.elapsed()));
            nodes.redis.signal(Signal::CONT);
            nodes
                .nodes
                .iter()
                .for_each(|node| node.wait_for_health(200));
        });
        idle.say("still connected");
        idle.expect("still connected");
    });
}
