//! The server is killed at random moments: what it has acknowledged is there, once, and who was
//! connected goes on without a gap.

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::support::{PATIENCE, RawConnection, Scratch, TestServer, eventually};

const KILLS: usize = 60;
const PUBLISHERS: usize = 4;
/// Publishes of one publisher that wait for their acknowledgement at once.
const WINDOW: usize = 10;

/// A connection that may break at any time.
pub struct Link(WebSocket<TcpStream>);

impl Link {
    /// `None` while nobody listens there.
    pub fn connect(address: SocketAddr, target: &str) -> Option<Self> {
        let socket = TcpStream::connect(address).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).expect("time-out");
        socket.set_nodelay(true).expect("nodelay");
        let (websocket, _) = tungstenite::client(format!("ws://{address}{target}"), socket).ok()?;
        Some(Self(websocket))
    }

    fn reconnect(address: SocketAddr, target: &str) -> Self {
        eventually("the server comes back", || Self::connect(address, target))
    }

    pub fn send(&mut self, frame: &Value) -> Option<()> {
        self.0.send(Message::text(frame.to_string())).ok()
    }

    pub fn next(&mut self) -> Option<Value> {
        loop {
            match self.0.read().ok()? {
                Message::Text(text) => return serde_json::from_str(&text).ok(),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }
}

/// Publishes with ids until told to stop; gives what was acknowledged, by id.
fn publish(
    name: usize,
    address: SocketAddr,
    acknowledged: &AtomicU64,
    stop: &AtomicBool,
) -> HashMap<String, u64> {
    let target = format!("/ws?room=plant&session=publisher-number-{name}");
    let mut acks = HashMap::new();
    let mut waiting: VecDeque<u64> = VecDeque::new();
    let mut next = 0;
    let frame = |n: u64| {
        let id = format!("{name}-{n}");
        json!({"type": "message", "room": "plant", "payload": n, "id": id})
    };
    loop {
        let mut link = Link::reconnect(address, &target);
        let resent = waiting.iter().try_for_each(|n| link.send(&frame(*n)));
        let mut alive = resent.is_some();
        while alive {
            while alive && waiting.len() < WINDOW && !stop.load(Ordering::Relaxed) {
                waiting.push_back(next);
                alive = link.send(&frame(next)).is_some();
                next += 1;
            }
            if waiting.is_empty() {
                return acks;
            }
            let Some(answer) = link.next() else {
                break;
            };
            assert_ne!(answer["type"], "error", "{answer}");
            if answer["type"] == "ack" {
                let n = waiting.pop_front().expect("an ack for what was sent");
                assert_eq!(answer["id"], format!("{name}-{n}"), "acks come in order");
                let offset = answer["payload"]["offset"].as_u64().expect("offset");
                acks.insert(format!("{name}-{n}"), offset);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Reads the room over all kills, until it has the offset that is last in the end.
fn read(address: SocketAddr, last: &AtomicU64) -> u64 {
    let (mut offset, mut epoch) = (0, String::new());
    while offset < last.load(Ordering::Relaxed) {
        let mut target = format!("/ws?room=plant&since={offset}");
        if !epoch.is_empty() {
            target = format!("{target}&epoch={epoch}");
        }
        let mut link = Link::reconnect(address, &target);
        let Some(welcome) = link.next() else {
            continue;
        };
        let room = &welcome["rooms"][0];
        assert_eq!(room["recovered"], true, "{room} after {offset}");
        epoch = room["epoch"].as_str().expect("epoch").to_owned();
        while offset < last.load(Ordering::Relaxed) {
            let Some(message) = link.next() else {
                break;
            };
            assert_eq!(message["offset"], offset + 1, "{message}");
            offset += 1;
        }
    }
    offset
}

/// All of a room's history, page by page, as soon as it can be read.
pub fn history(address: SocketAddr, room: &str) -> Vec<Value> {
    let (mut all, mut since) = (Vec::new(), 0);
    loop {
        let path = format!("/rooms/{room}/messages?since={since}&limit=1000");
        let page = eventually("history can be read", || {
            let response = RawConnection::connect(address).get(&path);
            (response.status != 503).then(|| response.json())
        });
        assert_eq!(page["contiguous"], true, "{page}");
        let messages = page["messages"].as_array().expect("messages");
        if messages.is_empty() {
            return all;
        }
        all.extend(messages.iter().cloned());
        since = all.last().expect("one")["offset"].as_u64().expect("offset");
    }
}

#[test]
fn what_was_acknowledged_survives_every_kill_once() {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let disk = Scratch::new();
    let unbounded = ["--history-messages=10000000", "--history-bytes=1GiB"];
    let more = ["--history-total-bytes=1GiB", "--log-level=warn"];
    let start = |port: &str| disk.serve(&[&unbounded[..], &more, &["--port", port]].concat());
    let mut server = start("0");
    let address = server.address();
    let port = address.port().to_string();

    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let last = AtomicU64::new(u64::MAX);
    let (stored, acks, read_up_to) = thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|name| {
                let (acknowledged, stop) = (&acknowledged, &stop);
                scope.spawn(move || publish(name, address, acknowledged, stop))
            })
            .collect();
        let reader = scope.spawn(|| read(address, &last));
        for _ in 0..KILLS {
            let enough = acknowledged.load(Ordering::Relaxed) + rng.random_range(1..800);
            eventually("publishes are acknowledged", || {
                (acknowledged.load(Ordering::Relaxed) >= enough).then_some(())
            });
            server.signal(Signal::KILL);
            server.wait_for_exit();
            server = start(&port);
        }
        stop.store(true, Ordering::Relaxed);
        let acks: Vec<_> = publishers
            .into_iter()
            .map(|publisher| publisher.join().expect("publisher"))
            .collect();
        let stored = history(address, "plant");
        last.store(stored.len() as u64, Ordering::Relaxed);
        // One more wakes the reader if it has all of them already.
        server.client_at("/ws?room=plant").say("the end");
        (stored, acks, reader.join().expect("reader"))
    });

    let mut offsets = HashMap::new();
    for (message, offset) in stored.iter().zip(1u64..) {
        assert_eq!(message["offset"], offset, "{message}");
        if let Some(id) = message["id"].as_str() {
            let before = offsets.insert(id.to_owned(), offset);
            assert_eq!(before, None, "{id} is stored twice");
        }
    }
    let mut checked = 0;
    for (id, offset) in acks.into_iter().flatten() {
        assert_eq!(offsets.get(&id), Some(&offset), "{id} was acknowledged");
        checked += 1;
    }
    eprintln!("{checked} acknowledged messages over {KILLS} kills");
    assert!(checked > KILLS, "only {checked} acknowledged");
    assert!(read_up_to >= stored.len() as u64, "read {read_up_to}");
    let _running: &TestServer = &server;
}
