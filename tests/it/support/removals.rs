//! Readers that disconnect and resume, some with `last`, while others publish, some without `echo`, while messages are
//! deleted and their ttls end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;

use rand::RngExt;
use rand::rngs::StdRng;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::token::admin_bearer;
use super::{RawConnection, Seed, TestClient, TestServer, offsets, wait_until};

const ROOMS: usize = 2;
/// Readers of each room that read all the time.
const READERS: usize = 4;
const PHASES: u64 = 3;
/// Messages of a room in each phase.
const MESSAGES: u64 = 800;

/// A room, and the offsets whose messages may be gone.
struct Room {
    name: String,
    /// Offsets that were deleted or are about to be.
    deleted: Mutex<BTreeSet<u64>>,
    /// Offsets of messages with a short ttl.
    short: Mutex<BTreeSet<u64>>,
}

/// A reader's position in its room.
#[derive(Default)]
struct Reader {
    epoch: String,
    offset: u64,
    /// Up to this offset, removed messages may be missing, because the server reported the gap.
    live_after: u64,
    reported_gaps: usize,
}

impl Room {
    /// Returns whether a message after `since` and up to `until` may be gone.
    fn may_lack(&self, since: u64, until: u64) -> bool {
        let has = |offsets: &Mutex<BTreeSet<u64>>| {
            let offsets = offsets.lock().unwrap();
            offsets.range(since + 1..=until).next().is_some()
        };
        since < until && (has(&self.deleted) || has(&self.short))
    }

    /// Returns whether every message after `since` and up to `until` may be gone.
    fn may_lack_all(&self, since: u64, until: u64) -> bool {
        (since + 1..=until).all(|offset| self.may_lack(offset - 1, offset))
    }

    /// Publishes `MESSAGES` messages after offset `last`, half of them without `echo`, and deletes some at random.
    fn publish(&self, mut last: u64, node: SocketAddr, rng: &mut StdRng) {
        let mut publisher = TestClient::connect(node, &format!("/ws?room={}", self.name));
        let until = last + MESSAGES;
        while last < until {
            let burst = rng.random_range(1..30).min(until - last);
            for _ in 0..burst {
                last += 1;
                let ttl = rng.random_bool(0.1).then_some(1);
                if ttl.is_some() {
                    self.short.lock().unwrap().insert(last);
                }
                let echo = rng.random_bool(0.5);
                publisher.send_json(
                    json!({"type": "message", "payload": last, "ttl": ttl, "echo": echo}),
                );
            }
            for offset in last - burst + 1..=last {
                assert_eq!(offset_in_place(&publisher.next()), offset);
            }
            if rng.random_bool(0.3) {
                let offset = rng.random_range(last.saturating_sub(40).max(1)..=last);
                self.deleted.lock().unwrap().insert(offset);
                self.delete(node, &format!("/{offset}"), &[200, 404]);
            } else if rng.random_bool(0.01) {
                self.deleted.lock().unwrap().extend(1..=last);
                self.delete(node, "", &[200]);
            }
        }
    }

    fn delete(&self, node: SocketAddr, rest: &str, statuses: &[u16]) {
        let target = format!("/rooms/{}/messages{rest}", self.name);
        let mut raw = RawConnection::connect(node);
        let response = raw.request("DELETE", &target, &[&admin_bearer()]);
        assert!(statuses.contains(&response.status), "{}", response.text());
    }

    /// Waits until the history has exactly the messages that it must have.
    fn await_history(&self, node: SocketAddr, last: u64) {
        let expected: Vec<u64> = {
            let (deleted, short) = (self.deleted.lock().unwrap(), self.short.lock().unwrap());
            let is_left = |offset: &u64| !deleted.contains(offset) && !short.contains(offset);
            (1..=last).filter(is_left).collect()
        };
        wait_until("the history has the messages that are left", || {
            self.read(node, last) == expected
        });
    }

    /// Reads the history page by page. Asserts that a page has a gap exactly if it says so.
    fn read(&self, node: SocketAddr, last: u64) -> Vec<u64> {
        let (mut all, mut since) = (Vec::new(), 0);
        loop {
            let target = format!("/rooms/{}/messages?since={since}&limit=97", self.name);
            let page = RawConnection::connect(node).get(&target).json();
            let found = offsets(&page);
            let reached = match found.last() {
                Some(reached) if found.len() == 97 => *reached,
                _ => last,
            };
            let is_contiguous = reached - since == found.len() as u64;
            assert_eq!(page["contiguous"], is_contiguous, "{page}");
            all.extend(&found);
            match found.last() {
                Some(offset) if *offset < last => since = *offset,
                _ => return all,
            }
        }
    }
}

impl Reader {
    /// Resumes at the last position, to continue there or after a gap that the server reports.
    fn connect(&mut self, room: &Room, node: SocketAddr, rng: &mut StdRng) -> TestClient {
        let mut target = format!("/ws?room={}&since={}", room.name, self.offset);
        if !self.epoch.is_empty() {
            target = format!("{target}&epoch={}", self.epoch);
        }
        if rng.random_bool(0.3) {
            target = format!("{target}&last={}", rng.random_range(0..=200));
        }
        let client = TestClient::connect(node, &target);
        let state = client.welcome().room(&room.name);
        if state.recovered == Some(true) {
            assert_eq!(state.offset, self.offset, "{state:?}");
        } else {
            assert!(state.offset >= self.offset, "{state:?}");
            self.live_after = state.live_after.unwrap_or(state.offset);
            let is_gap = room.may_lack(self.offset, self.live_after);
            assert!(is_gap, "{state:?} after {}, without a gap", self.offset);
            self.offset = state.offset;
            self.reported_gaps += 1;
        }
        self.epoch = state.epoch;
        client
    }

    /// Reads up to the offset `last`, and drops the connection at random. The server may close it to report a gap.
    fn read_to(&mut self, last: u64, room: &Room, nodes: &[SocketAddr], rng: &mut StdRng) {
        while self.offset < last {
            let node = nodes[rng.random_range(0..nodes.len())];
            let mut client = self.connect(room, node, rng);
            // The pong follows the newest messages, whose last ones may have been removed.
            client.send_json(json!({"type": "ping"}));
            let stop_at = self.offset + rng.random_range(0..60u64);
            while self.offset < stop_at.min(last) {
                let Some(frame) = client.try_next() else {
                    break;
                };
                if frame["type"] == "pong" {
                    self.skip_to(self.live_after.max(self.offset), room);
                } else {
                    self.take(&frame, room);
                }
            }
        }
    }

    fn take(&mut self, frame: &Value, room: &Room) {
        let offset = frame["offset"].as_u64().expect("offset");
        assert!(offset > self.offset, "after {}: {frame}", self.offset);
        self.skip_to(offset - 1, room);
        assert_eq!(frame["payload"], offset, "{frame}");
        self.offset = offset;
    }

    /// Passes over messages that did not come: the server reported a gap, and all of them may be gone.
    fn skip_to(&mut self, until: u64, room: &Room) {
        let is_reported = until <= self.offset.max(self.live_after);
        let is_gap = is_reported && room.may_lack_all(self.offset, until);
        assert!(is_gap, "no message after {} up to {until}", self.offset);
        self.offset = until;
    }
}

/// The offset of a message, or of the acknowledgement that comes in its place.
fn offset_in_place(frame: &Value) -> u64 {
    let place = match frame["type"].as_str() {
        Some("ack") => &frame["payload"],
        _ => frame,
    };
    place["offset"].as_u64().expect("offset")
}

/// Servers that are killed if a scenario fails. Otherwise its readers would wait for ever.
struct KilledOnPanic<'a>(&'a [&'a TestServer]);

impl Drop for KilledOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.iter().for_each(|node| node.signal(Signal::KILL));
        }
    }
}

/// Runs publishers whose messages are deleted or expire, readers that reconnect again and again, each time to a random one of
/// these nodes, and late readers that resume after the ttls have ended. Asserts that each reader gets every offset once,
/// except in gaps that were reported and that removals explain.
pub fn read_over_removals(nodes: &[&TestServer], seed: &Seed) {
    let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.address()).collect();
    let addresses = &*addresses;
    let rooms: Vec<Room> = (0..ROOMS)
        .map(|n| Room {
            name: format!("room-{n}"),
            deleted: Mutex::default(),
            short: Mutex::default(),
        })
        .collect();
    let mut late: Vec<Reader> = rooms.iter().map(|_| Reader::default()).collect();
    let reported_gaps: usize = thread::scope(|scope| {
        let _nodes = KilledOnPanic(nodes);
        let last = PHASES * MESSAGES;
        let mut readers = Vec::new();
        for (n, room) in (0u64..).zip(&rooms) {
            for reader in 0..READERS as u64 {
                readers.push(scope.spawn(move || {
                    let mut rng = seed.rng_of(n * 100 + reader);
                    let mut reader = Reader::default();
                    reader.read_to(last, room, addresses, &mut rng);
                    reader.reported_gaps
                }));
            }
        }
        for phase in 0..PHASES {
            let publishers: Vec<_> = (0u64..)
                .zip(&rooms)
                .map(|(n, room)| {
                    scope.spawn(move || {
                        let mut rng = seed.rng_of(10_000 + n * 100 + phase);
                        let node = addresses[n as usize % addresses.len()];
                        room.publish(phase * MESSAGES, node, &mut rng);
                    })
                })
                .collect();
            for publisher in publishers {
                publisher.join().expect("a publisher failed");
            }
            let published = (phase + 1) * MESSAGES;
            for (n, (room, reader)) in (0u64..).zip(rooms.iter().zip(&mut late)) {
                room.await_history(addresses[addresses.len() - 1], published);
                let mut rng = seed.rng_of(20_000 + n * 100 + phase);
                reader.read_to(published, room, addresses, &mut rng);
            }
        }
        let readers = readers.into_iter();
        readers
            .map(|reader| reader.join().expect("a reader failed"))
            .sum()
    });
    let late_gaps: usize = late.iter().map(|reader| reader.reported_gaps).sum();
    println!("{reported_gaps} gaps reported to readers, {late_gaps} to late readers");
    assert!(late_gaps as u64 >= PHASES, "only {late_gaps} gaps");
}
