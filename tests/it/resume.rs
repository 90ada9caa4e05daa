//! A client that was away has every message exactly once, or is told plainly that it has not.

use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::support::{Scratch, TestClient, TestServer};

/// A reader's knowledge of its room, checked with every message it gets.
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

    /// Connects to where it was; everything since must be recoverable.
    fn connect(&mut self, address: SocketAddr) -> TestClient {
        let resumes = !self.epoch.is_empty();
        let target = if resumes {
            format!(
                "/ws?room={}&since={}&epoch={}",
                self.room, self.offset, self.epoch
            )
        } else {
            format!("/ws?room={}&since=0", self.room)
        };
        let client = TestClient::connect(address, &target);
        let state = &client.welcome()["rooms"][0];
        assert_eq!(state["recovered"], true, "{state}");
        assert_eq!(state["offset"], self.offset, "{state}");
        self.epoch = state["epoch"].as_str().expect("epoch").to_owned();
        client
    }

    fn take(&mut self, frame: &Value) {
        assert_eq!(
            frame["offset"],
            self.offset + 1,
            "after {}: {frame}",
            self.offset
        );
        self.offset += 1;
    }

    /// Reads until the room's last offset, dropping the connection at random in between, and at times
    /// looking into another room on the way.
    fn read_to(&mut self, last: u64, nodes: &[SocketAddr], rng: &mut StdRng) {
        while self.offset < last {
            let mut client = self.connect(nodes[rng.random_range(0..nodes.len())]);
            let stop_at = self.offset + rng.random_range(0..40u64);
            let mut visiting = rng.random_bool(0.2);
            if visiting {
                let other = format!("room-{}", rng.random_range(0..ROOMS + 3));
                visiting = other != self.room;
                if visiting {
                    client.send(json!({"type": "join", "room": other}));
                    client.send(json!({"type": "leave", "room": other}));
                }
            }
            while self.offset < stop_at.min(last) {
                let frame = client.next();
                if frame["room"] == self.room {
                    self.take(&frame);
                } else {
                    assert!(visiting, "{frame}");
                }
            }
            self.reconnects += 1;
            if rng.random_bool(0.5) {
                let _already_gone = client.socket().shutdown(Shutdown::Both);
            }
        }
    }
}

const ROOMS: usize = 3;
const READERS: usize = 12;
const MESSAGES: u64 = 3000;

#[test]
fn readers_that_come_and_go_miss_nothing_and_get_nothing_twice() {
    for seed in [17, rand::random()] {
        let server = TestServer::start(&["--history-messages", "100000", "--log-level", "info"]);
        come_and_go(&[&server], seed);
    }
}

#[test]
fn the_same_with_history_on_disk() {
    for seed in [18, rand::random()] {
        let disk = Scratch::new();
        let server = disk.serve(&["--history-messages", "100000", "--log-level", "info"]);
        come_and_go(&[&server], seed);
    }
}

/// Publishers at full speed, and readers that each see offsets 1 to the last, one by one, on whichever node they
/// are at the time.
pub fn come_and_go(nodes: &[&TestServer], seed: u64) {
    eprintln!("seed {seed}");
    let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.address()).collect();
    let addresses = &*addresses;
    let reconnects: usize = thread::scope(|scope| {
        for n in 0..ROOMS {
            scope.spawn(move || {
                let address = addresses[n % addresses.len()];
                let mut publisher = TestClient::connect(address, &format!("/ws?room=room-{n}"));
                for message in 0..MESSAGES {
                    publisher.say(message);
                    if message % 100 == 99 {
                        (0..100).for_each(|_| drop(publisher.next_of("message")));
                    }
                }
            });
        }
        let readers: Vec<_> = (0..READERS)
            .map(|n| {
                scope.spawn(move || {
                    let mut rng = StdRng::seed_from_u64(seed.wrapping_add(n as u64));
                    let mut reader = Reader::new(&format!("room-{}", n % ROOMS));
                    reader.read_to(MESSAGES, addresses, &mut rng);
                    reader.reconnects
                })
            })
            .collect();
        readers
            .into_iter()
            .map(|reader| reader.join().expect("reader"))
            .sum()
    });
    eprintln!("{reconnects} reconnects");
    assert!(reconnects > 1000, "only {reconnects} reconnects");
    let published = nodes.iter().map(|node| node.total("messages_published"));
    assert_eq!(published.sum::<u64>(), ROOMS as u64 * MESSAGES);
}

#[test]
fn a_member_that_never_got_a_message_resumes_too() {
    let server = TestServer::start(&[]);
    let welcome = server.client().welcome().clone();
    let (epoch, offset) = (
        &welcome["rooms"][0]["epoch"],
        &welcome["rooms"][0]["offset"],
    );
    assert_eq!(offset, 0);
    let mut alice = server.client();
    alice.say("while you were away");
    alice.expect("while you were away");
    let target = format!("/ws?since=0&epoch={}", epoch.as_str().expect("epoch"));
    let mut bob = server.client_at(&target);
    assert_eq!(bob.welcome()["rooms"][0]["recovered"], true);
    bob.expect("while you were away");
    alice.say("and now live");
    bob.expect("and now live");
}

#[test]
fn a_gap_that_history_no_longer_holds_is_said_plainly() {
    let server = TestServer::start(&["--history-messages", "10"]);
    let mut alice = server.client();
    let epoch = alice.welcome()["rooms"][0]["epoch"].clone();
    let epoch = epoch.as_str().expect("epoch");
    for n in 1..=20 {
        alice.say(n);
        alice.expect(n);
    }
    for (target, recovered, offset) in [
        (format!("/ws?since=9&epoch={epoch}"), false, 20),
        (format!("/ws?since=10&epoch={epoch}"), true, 10),
        (format!("/ws?since=20&epoch={epoch}"), true, 20),
        (format!("/ws?since=21&epoch={epoch}"), false, 20),
        ("/ws?since=15&epoch=00000000deadbeef".to_owned(), false, 20),
        ("/ws?since=15".to_owned(), true, 15),
    ] {
        let mut bob = server.client_at(&target);
        let state = bob.welcome()["rooms"][0].clone();
        assert_eq!(state["recovered"], recovered, "{target}: {state}");
        assert_eq!(state["offset"], offset, "{target}: {state}");
        for n in offset + 1..=20 {
            bob.expect(n);
        }
        bob.expect_nothing();
    }
}

#[test]
fn joining_with_since_fills_the_gap_between_joined_and_live() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob) = (server.client_at("/ws?room=ops"), server.client());
    for n in 1..=5 {
        alice.say(n);
        alice.expect(n);
    }
    bob.send(json!({"type": "join", "room": "ops", "since": 2, "id": "j"}));
    let joined = bob.next_of("joined");
    assert_eq!(
        (&joined["id"], &joined["payload"]["recovered"]),
        (&json!("j"), &json!(true))
    );
    (3..=5).for_each(|n| drop(bob.expect(n)));
    alice.say(6);
    bob.expect(6);
    bob.leave("ops");
    bob.send(json!({"type": "join", "room": "ops", "since": 99}));
    assert_eq!(bob.next_of("joined")["payload"]["recovered"], false);
}

#[test]
fn several_rooms_resume_with_a_pair_each() {
    let server = TestServer::start(&[]);
    let mut alice = server.client_at("/ws?room=a&room=b");
    let rooms = alice.welcome()["rooms"].clone();
    for n in 1..=4 {
        alice.say_in("a", n);
        alice.say_in("b", n * 10);
        alice.expect(n);
        alice.expect(n * 10);
    }
    let epoch = |n: usize| rooms[n]["epoch"].as_str().expect("epoch").to_owned();
    let target = format!(
        "/ws?room=a&since=3&epoch={}&room=b&since=2&epoch={}",
        epoch(0),
        epoch(1)
    );
    let mut bob = server.client_at(&target);
    for payload in [4, 30, 40] {
        bob.expect(payload);
    }
    bob.expect_nothing();
}

/// The gap is far larger than an outbox: the reader's own thread waits for it, nobody else does.
#[test]
fn a_gap_larger_than_the_outbox_is_read_at_the_clients_pace() {
    let server = TestServer::start(&[
        "--outbox-bytes=80KiB",
        "--history-messages=100000",
        "--history-bytes=64MiB",
        "--log-level=info",
    ]);
    let mut alice = server.client();
    let filler = "x".repeat(10_000);
    const MESSAGES: u64 = 600;
    for _ in 0..MESSAGES {
        alice.say(filler.as_str());
        alice.next_of("message");
    }
    let mut bob = server.client_at("/ws?since=0");
    let stop = AtomicBool::new(false);
    let published = thread::scope(|scope| {
        // Dropped also when an assertion fails, so that the publisher always ends.
        let _stop = StopOnDrop(&stop);
        let publisher = scope.spawn(|| {
            let mut published = 0u64;
            while !stop.load(Ordering::Relaxed) {
                alice.say("live");
                alice.expect("live");
                published += 1;
            }
            published
        });
        for offset in 1..=MESSAGES {
            assert_eq!(bob.next()["offset"], offset);
        }
        stop.store(true, Ordering::Relaxed);
        publisher.join().expect("publisher")
    });
    for offset in MESSAGES + 1..=MESSAGES + published {
        assert_eq!(bob.next()["offset"], offset);
    }
    bob.expect_nothing();
    assert_eq!(
        server.get_json("/stats")["totals"]["slow_consumers_evicted"],
        0
    );
}

#[test]
fn a_repeated_id_is_acknowledged_with_its_first_place_and_published_once() {
    let server = TestServer::start(&[]);
    let session = "/ws?session=a-session-chosen-at-random";
    let mut reader = server.client();
    let mut alice = server.client_at(session);
    let publish = json!({"type": "message", "payload": "once", "id": "7"});
    let first = acknowledged(&mut alice, &publish);
    assert_eq!(acknowledged(&mut alice, &publish), first);
    alice.close();
    let mut again = server.client_at(session);
    assert_eq!(acknowledged(&mut again, &publish), first);
    // Another client's 7 is its own.
    let mut bob = server.client();
    assert_eq!(acknowledged(&mut bob, &publish), first + 1);
    reader.expect("once");
    reader.expect("once");
    reader.expect_nothing();
}

/// Whatever ends a test, also an assertion, ends what runs beside it.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn acknowledged(client: &mut TestClient, publish: &Value) -> u64 {
    client.send(publish.clone());
    loop {
        let frame = client.next();
        if frame["type"] == "ack" {
            return frame["payload"]["offset"].as_u64().expect("offset");
        }
    }
}
