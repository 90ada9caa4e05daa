//! Redis loses data and connections while clients publish and read: no offset is given to two messages, a reader gets
//! every message in order or learns that some are missing, and in the end everything works again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rand::RngExt;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Seed, StopOnDrop, TestClient, TestRedis, TestServer, wait_for, wait_until, with_redis,
};

/// The number of faults injected.
const FAULTS: usize = 40;

/// Every position that a client has seen, and the message there.
#[derive(Default)]
struct Ledger {
    payloads: Mutex<HashMap<(String, u64), String>>,
    acknowledged: AtomicU64,
    stop_publishers: AtomicBool,
    stop_readers: AtomicBool,
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}"))
}

fn text(value: &Value) -> String {
    let text = value.as_str();
    text.unwrap_or_else(|| panic!("{value}")).to_owned()
}

impl Ledger {
    /// Records a message at a position. Panics if another message is known there.
    fn record(&self, epoch: &str, offset: u64, payload: &str) {
        let mut payloads = self.payloads.lock().unwrap();
        let known = payloads.entry((epoch.to_owned(), offset));
        let known = known.or_insert_with(|| payload.to_owned());
        assert_eq!(known, payload, "both have the position {epoch} {offset}");
    }

    /// Blocks until `more` further publishes have been acknowledged.
    fn wait_for_acks(&self, more: u64) {
        let enough = self.acknowledged.load(Ordering::Relaxed) + more;
        wait_until("publishes are acknowledged", || {
            self.acknowledged.load(Ordering::Relaxed) >= enough
        });
    }

    fn connect(&self, node: SocketAddr, target: &str) -> TestClient {
        wait_for("a node accepts a client", || {
            TestClient::try_connect(node, target)
        })
    }

    /// Publishes one message after the other, each with another payload, stored or not.
    fn publish(&self, node: SocketAddr, name: &str) {
        let mut next = 0;
        while !self.stop_publishers.load(Ordering::Relaxed) {
            let mut client = self.connect(node, "/ws?room=plant");
            while !self.stop_publishers.load(Ordering::Relaxed) {
                next += 1;
                let payload = format!("{name}-{next}");
                let Some(reply) = publish_one(&mut client, &payload) else {
                    break;
                };
                if reply["type"] == "ack" {
                    let position = &reply["payload"];
                    let (epoch, offset) = (text(&position["epoch"]), number(&position["offset"]));
                    self.record(&epoch, offset, &payload);
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                } else {
                    let code = &reply["payload"]["code"];
                    assert_eq!(code, "storage_unavailable", "{reply}");
                    thread::park_timeout(Duration::from_millis(5));
                }
            }
        }
    }

    /// Reads until the message "the end" and returns how often the server said that messages are missing.
    fn read(&self, node: SocketAddr) -> usize {
        let mut at: Option<(String, u64)> = None;
        let mut gaps = 0;
        while !self.stop_readers.load(Ordering::Relaxed) {
            let resume = at
                .as_ref()
                .map(|(epoch, offset)| format!("&since={offset}&epoch={epoch}"));
            let target = format!("/ws?room=plant{}", resume.unwrap_or_default());
            let mut client = self.connect(node, &target);
            let room = client.welcome().room("plant");
            let (epoch, mut offset) = (room.epoch.clone(), room.offset);
            match (room.recovered, &at) {
                (Some(true), at) => assert_eq!(*at, Some((epoch.clone(), offset)), "{room:?}"),
                (_, Some(_)) => gaps += 1,
                (_, None) => {}
            }
            while let Some(frame) = client.try_next() {
                if frame["type"] == "error" {
                    break;
                }
                let next = offset + 1;
                assert_eq!(number(&frame["offset"]), next, "{frame} after {offset}");
                offset = next;
                let payload = text(&frame["payload"]);
                self.record(&epoch, offset, &payload);
                if payload == "the end" {
                    return gaps;
                }
            }
            at = Some((epoch, offset));
        }
        gaps
    }
}

/// Publishes a message whose id is its payload. Returns the `ack` or `error`; `None` if the connection broke.
fn publish_one(client: &mut TestClient, payload: &str) -> Option<Value> {
    let message = json!({"type": "message", "room": "plant", "payload": payload, "id": payload});
    client.try_send_json(&message)?;
    loop {
        let frame = client.try_next()?;
        if frame["id"] == payload && ["ack", "error"].iter().any(|kind| frame["type"] == *kind) {
            return Some(frame);
        }
    }
}

fn inject(redis: &mut TestRedis, nodes: &[TestServer], ledger: &Ledger, fault: u32) {
    match fault {
        0 => redis.command::<()>(&["FLUSHALL"]),
        1 => redis.command::<()>(&["DEL", "wscast:{plant}:numbers"]),
        2 => redis.command::<()>(&["DEL", "wscast:{plant}:log"]),
        3 => redis.command::<()>(&["DEL", "wscast:{plant}:ids:0", "wscast:{ run}"]),
        4 => redis.command::<()>(&["XTRIM", "wscast:{plant}:log", "MAXLEN", "1"]),
        5 => redis.command::<()>(&["SCRIPT", "FLUSH"]),
        6 => redis.command::<()>(&["CLIENT", "KILL", "TYPE", "normal"]),
        7 => redis.command::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]),
        8 => redis.command::<()>(&["CLIENT", "PAUSE", "300"]),
        9 => redis.command::<()>(&["SAVE"]),
        10 | 11 => {
            redis.kill();
            redis.restart();
        }
        // Redis disconnects a stopped node when the output buffer of its subscription is full.
        _ => {
            let limit = ["client-output-buffer-limit", "pubsub 4kb 4kb 1"];
            redis.command::<()>(&["CONFIG", "SET", limit[0], limit[1]]);
            nodes[0].signal(Signal::STOP);
            ledger.wait_for_acks(200);
            nodes[0].signal(Signal::CONT);
        }
    }
}

// Actors: two nodes, two publishers and two readers on each.
// Faults: 40 random ones, from a flushed Redis to a stopped node.
// Invariants: no position holds two messages; readers get contiguous offsets, or an epoch or welcome that says
// that messages are missing; at the end all readers get the last message.
#[test]
fn no_offset_is_used_twice_and_no_gap_is_silent_whatever_redis_loses() {
    with_redis(|mut redis| {
        let seed = Seed::new();
        let mut rng = seed.rng();
        let nodes = redis.nodes(2, &["--log-level=warn"]);
        let ledger = Ledger::default();
        let gaps: usize = thread::scope(|scope| {
            let ledger = &ledger;
            let readers: Vec<_> = nodes
                .iter()
                .chain(&nodes)
                .map(|node| scope.spawn(|| ledger.read(node.address())))
                .collect();
            let publishers: Vec<_> = ["a", "b", "c", "d"]
                .into_iter()
                .zip(nodes.iter().cycle())
                .map(|(name, node)| scope.spawn(move || ledger.publish(node.address(), name)))
                .collect();
            let _readers = StopOnDrop(&ledger.stop_readers);
            let stop = StopOnDrop(&ledger.stop_publishers);
            for _ in 0..FAULTS {
                ledger.wait_for_acks(rng.random_range(1..100));
                let fault = rng.random_range(0..13);
                println!("fault {fault}");
                inject(&mut redis, &nodes, ledger, fault);
            }
            ledger.wait_for_acks(50);
            drop(stop);
            for publisher in publishers {
                publisher.join().expect("a publisher failed");
            }
            // Repeated, because a reader that joins just now gets only messages that follow.
            wait_until("all readers get the last message", || {
                let body = json!({"type": "message", "payload": "the end"});
                let _may_be_refused = nodes[0].post("/rooms/plant/messages", &body);
                readers.iter().all(|reader| reader.is_finished())
            });
            let readers = readers.into_iter();
            readers.map(|r| r.join().expect("a reader failed")).sum()
        });
        let payloads = ledger.payloads.lock().unwrap();
        println!("{} messages, {gaps} announced gaps", payloads.len());
    });
}
