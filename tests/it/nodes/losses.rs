//! Redis loses this and that while clients publish and read: no place is given to two messages, who reads gets one
//! message after the other or is told that some are gone, and in the end all goes on.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::crash::Link;
use crate::resume::StopOnDrop;
use crate::support::{TestRedis, TestServer, eventually};

/// How often something is lost.
const LOSSES: usize = 40;

/// What is where, as far as anyone was told.
#[derive(Default)]
struct Ledger {
    places: Mutex<HashMap<(String, u64), String>>,
    acknowledged: AtomicU64,
    stop: AtomicBool,
    /// Whether the scenario is over, well or not.
    over: AtomicBool,
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}"))
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value}"))
        .to_owned()
}

impl Ledger {
    fn note(&self, epoch: &str, offset: u64, payload: &str) {
        let mut places = self.places.lock().unwrap();
        let there = places.entry((epoch.to_owned(), offset));
        let there = there.or_insert_with(|| payload.to_owned());
        assert_eq!(there, payload, "both are at {epoch} {offset}");
    }

    fn wait_for(&self, more: u64) {
        let enough = self.acknowledged.load(Ordering::Relaxed) + more;
        eventually("publishes are acknowledged", || {
            (self.acknowledged.load(Ordering::Relaxed) >= enough).then_some(())
        });
    }

    fn connect(&self, node: SocketAddr, target: &str) -> Link {
        eventually("a node takes a client", || Link::connect(node, target))
    }

    /// One message after the other, each with another payload, whatever becomes of it.
    fn publish(&self, node: SocketAddr, name: &str) {
        let mut next = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let mut link = self.connect(node, "/ws?room=plant");
            while !self.stop.load(Ordering::Relaxed) {
                next += 1;
                let payload = format!("{name}-{next}");
                let frame =
                    json!({"type": "message", "room": "plant", "payload": payload, "id": payload});
                if link.send(&frame).is_none() {
                    break;
                }
                let is_answer = |frame: &Value| {
                    frame["id"] == payload && ["ack", "error"].iter().any(|t| frame["type"] == *t)
                };
                let answer = std::iter::repeat_with(|| link.next())
                    .find(|frame| frame.as_ref().is_none_or(is_answer));
                let Some(answer) = answer.flatten() else {
                    break;
                };
                if answer["type"] == "ack" {
                    let place = &answer["payload"];
                    self.note(&text(&place["epoch"]), number(&place["offset"]), &payload);
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                } else {
                    let code = &answer["payload"]["code"];
                    assert_eq!(code, "storage_unavailable", "{answer}");
                    thread::park_timeout(Duration::from_millis(5));
                }
            }
        }
    }

    /// Reads until the end is told; gives how often some were gone.
    fn read(&self, node: SocketAddr) -> usize {
        let mut at: Option<(String, u64)> = None;
        let mut gone = 0;
        while !self.over.load(Ordering::Relaxed) {
            let resumed = at
                .as_ref()
                .map(|(epoch, offset)| format!("&since={offset}&epoch={epoch}"));
            let target = format!("/ws?room=plant{}", resumed.unwrap_or_default());
            let mut link = self.connect(node, &target);
            let Some(welcome) = link.next().filter(|frame| frame["type"] == "message") else {
                continue;
            };
            let room = &welcome["rooms"][0];
            let (epoch, mut offset) = (text(&room["epoch"]), number(&room["offset"]));
            match (room["recovered"].as_bool(), &at) {
                (Some(true), at) => assert_eq!(*at, Some((epoch.clone(), offset)), "{room}"),
                (_, Some(_)) => gone += 1,
                (_, None) => {}
            }
            while let Some(frame) = link.next() {
                if frame["type"] == "error" {
                    break;
                }
                assert_eq!(
                    number(&frame["offset"]),
                    offset + 1,
                    "{frame} after {offset}"
                );
                offset += 1;
                let payload = text(&frame["payload"]);
                self.note(&epoch, offset, &payload);
                if payload == "the end" {
                    return gone;
                }
            }
            at = Some((epoch, offset));
        }
        gone
    }
}

fn lose(redis: &mut TestRedis, nodes: &[TestServer], ledger: &Ledger, what: u32) {
    match what {
        0 => redis.ask::<()>(&["FLUSHALL"]),
        1 => redis.ask::<()>(&["DEL", "wscast:{plant}:numbers"]),
        2 => redis.ask::<()>(&["DEL", "wscast:{plant}:log"]),
        3 => redis.ask::<()>(&["DEL", "wscast:{plant}:ids:0", "wscast:{ run}"]),
        4 => redis.ask::<()>(&["XTRIM", "wscast:{plant}:log", "MAXLEN", "1"]),
        5 => redis.ask::<()>(&["SCRIPT", "FLUSH"]),
        6 => redis.ask::<()>(&["CLIENT", "KILL", "TYPE", "normal"]),
        7 => redis.ask::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]),
        8 => redis.ask::<()>(&["CLIENT", "PAUSE", "300"]),
        9 => redis.ask::<()>(&["SAVE"]),
        10 | 11 => {
            redis.kill();
            redis.start_again();
        }
        // What is told it while it stands still is cut off by Redis.
        _ => {
            redis.ask::<()>(&[
                "CONFIG",
                "SET",
                "client-output-buffer-limit",
                "pubsub 4kb 4kb 1",
            ]);
            nodes[0].signal(Signal::STOP);
            ledger.wait_for(200);
            nodes[0].signal(Signal::CONT);
        }
    }
}

#[test]
fn whatever_redis_loses_no_place_is_given_twice_and_no_hole_is_silent() {
    let Some(mut redis) = TestRedis::start() else {
        return;
    };
    let seed = rand::random();
    eprintln!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let nodes = redis.nodes(2, &["--log-level=warn"]);
    let ledger = Ledger::default();
    let gone: usize = thread::scope(|scope| {
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
        let (_over, stop) = (StopOnDrop(&ledger.over), StopOnDrop(&ledger.stop));
        for _ in 0..LOSSES {
            ledger.wait_for(rng.random_range(1..100));
            let what = rng.random_range(0..13);
            eprintln!("loses {what}");
            lose(&mut redis, &nodes, ledger, what);
        }
        ledger.wait_for(50);
        drop(stop);
        for publisher in publishers {
            publisher.join().expect("publisher");
        }
        // Readers that come back to a room that begins anew right now are told of what follows.
        eventually("all readers are told of the end", || {
            let body = json!({"type": "message", "payload": "the end"});
            let _refused = nodes[0].post("/rooms/plant/messages", &body);
            readers
                .iter()
                .all(|reader| reader.is_finished())
                .then_some(())
        });
        readers.into_iter().map(|r| r.join().expect("reader")).sum()
    });
    let places = ledger.places.lock().unwrap();
    eprintln!("{} messages, {gone} times some were gone", places.len());
}
