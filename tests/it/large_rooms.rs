//! Rooms with hundreds of members, to which helper threads send too.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::json;

use crate::support::{
    Seed, StopOnDrop, TIMEOUT, TestClient, TestServer, allow_many_sockets, message_frame,
    wait_until,
};

/// Members that make a room large. A smaller room wakes no helper.
const LARGE: usize = 600;
const SMALL: usize = 100;

/// The voluntary context switches of each helper thread. They count how often it was woken.
fn wakes_of_helpers(server: &TestServer) -> BTreeMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("tasks");
    let status_of = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).ok();
    let statuses = tasks.filter_map(|task| status_of(task.expect("a task")));
    let helpers = statuses.filter(|status| status.starts_with("Name:\tfan-out\n"));
    helpers
        .map(|status| {
            let field = |name| {
                let mut lines = status.lines();
                let value = lines.find_map(|line| line.strip_prefix(name));
                value.expect(name).trim().to_owned()
            };
            let wakes = field("voluntary_ctxt_switches:");
            (field("Pid:"), wakes.parse().expect("a number"))
        })
        .collect()
}

/// Waits, because a thread has its name only some time after it was started.
fn wait_for_helpers(server: &TestServer, count: usize, case: &str) {
    wait_until(&format!("{count} helpers with {case}"), || {
        wakes_of_helpers(server).len() == count
    });
}

/// Publishes one message at a time and reads it at every client.
fn publish_to_all(clients: &mut [TestClient], offsets: std::ops::RangeInclusive<u64>) {
    for offset in offsets {
        clients[0].say("hello");
        for client in &mut *clients {
            assert_eq!(client.next_offset(), offset);
        }
    }
}

#[test]
fn small_room_wakes_no_helper_and_large_room_does() {
    allow_many_sockets();
    let server = TestServer::start(&["--fan-out-threads", "3"]);
    let mut clients: Vec<_> = (0..SMALL).map(|_| server.client()).collect();
    let mut before = wakes_of_helpers(&server);
    // A helper that has just started is about to sleep.
    wait_until("the helpers sleep", || {
        let last = std::mem::replace(&mut before, wakes_of_helpers(&server));
        before.len() == 3 && before == last && before.values().all(|wakes| *wakes > 0)
    });
    publish_to_all(&mut clients, 1..=50);
    assert_eq!(wakes_of_helpers(&server), before);

    clients.extend((SMALL..LARGE).map(|_| server.client()));
    publish_to_all(&mut clients, 51..=60);
    assert_ne!(wakes_of_helpers(&server), before);
}

#[test]
fn fan_out_threads_sets_the_number_of_helpers() {
    for (setting, expected) in [("0", 0), ("1", 1), ("5", 5)] {
        let server = TestServer::start(&["--fan-out-threads", setting]);
        let mut alice = server.client();
        alice.say("hi");
        alice.expect("hi");
        wait_for_helpers(&server, expected, &format!("--fan-out-threads {setting}"));
    }
}

#[test]
fn automatic_number_of_helpers_follows_the_cores_that_the_server_may_use() {
    let allowed = sched_getaffinity(None).expect("affinity");
    let cores: Vec<_> = (0..CpuSet::MAX_CPU)
        .filter(|core| allowed.is_set(*core))
        .collect();
    for count in 1..=cores.len().min(3) {
        let cores = &cores[..count];
        // The server inherits the affinity of the thread that starts it.
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut only = CpuSet::new();
                cores.iter().for_each(|core| only.set(*core));
                sched_setaffinity(None, &only).expect("affinity");
                let server = TestServer::start(&[]);
                wait_for_helpers(&server, count - 1, &format!("{count} cores"));
            });
        });
    }
}

#[test]
fn shutdown_during_fan_outs_closes_every_member_after_whole_messages() {
    allow_many_sockets();
    let mut server = TestServer::start(&["--fan-out-threads", "3", "--drain", "0.2"]);
    let mut clients: Vec<_> = (0..LARGE).map(|_| server.client()).collect();
    // Pipelined, so that the signal arrives while messages wait.
    let burst = message_frame("hello").repeat(200);
    clients[0].send(&burst);
    assert_eq!(clients[LARGE - 1].next_offset(), 1);
    server.signal(Signal::TERM);
    let last = clients.pop().expect("the last client");
    for (mut client, read) in clients.into_iter().map(|c| (c, 0)).chain([(last, 1)]) {
        assert_eq!(client.close_code_after_offset(read), 1001);
    }
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

const MESSAGES: u64 = 400;
/// Messages in flight at once, so few that a client that reads does not lag.
const ROUND: u64 = 20;
const READER_THREADS: usize = 4;
const MOVERS: usize = 8;
/// The message that fills the buffers of a client that does not read. Other clients are not in its room.
const FLOOD_BYTES: usize = 32 * 1024;

/// Reads every offset in order at each client, and reports each round.
fn read_rounds(clients: &mut [TestClient], round_done: &mpsc::Sender<()>) {
    for round in 0..MESSAGES / ROUND {
        for client in &mut *clients {
            for offset in round * ROUND + 1..=(round + 1) * ROUND {
                assert_eq!(client.next_offset(), offset);
            }
        }
        let _publisher_failed = round_done.send(());
    }
}

/// A member that does not stay. It is also in the flooded room.
struct Mover<'a> {
    server: &'a TestServer,
    /// The last offset in the crowd's room that it has read.
    offset: u64,
    epoch: String,
}

impl Mover<'_> {
    /// Resumes after the last offset read, which must be possible.
    fn connect(&mut self) -> TestClient {
        let (offset, epoch) = (self.offset, &self.epoch);
        let target = format!("/ws?room=crowd&since={offset}&epoch={epoch}&room=flood");
        let client = self.server.passive_client(&target);
        let room = client.welcome().room("crowd");
        assert_eq!(room.recovered, Some(true), "{room:?}");
        assert_eq!(room.offset, offset, "{room:?}");
        client
    }

    /// Reads the crowd's messages up to an offset, or until the server has closed the connection.
    fn read_to(&mut self, client: &mut TestClient, last: u64) {
        while self.offset < last {
            let Some(frame) = client.try_next() else {
                return;
            };
            if frame["room"] == "crowd" && frame["type"] == "message" {
                assert_eq!(frame["offset"], self.offset + 1, "{frame}");
                self.offset += 1;
            }
        }
    }

    /// Leaves the room and resumes in it on the same connection.
    fn leave_and_join(&mut self, client: &mut TestClient) {
        client.try_send_json(&json!({"type": "leave", "room": "crowd"}));
        // Messages before `left` were sent before the member left.
        while let Some(frame) = client.try_next() {
            if frame["type"] == "left" {
                break;
            }
            if frame["room"] == "crowd" {
                assert_eq!(frame["offset"], self.offset + 1, "{frame}");
                self.offset += 1;
            }
        }
        let (offset, epoch) = (self.offset, &self.epoch);
        client.try_send_json(
            &json!({"type": "join", "room": "crowd", "since": offset, "epoch": epoch}),
        );
    }

    /// Returns the number of times that it stalled until a client was evicted.
    fn run(&mut self, rng: &mut StdRng) -> usize {
        let mut stalls = 0;
        while self.offset < MESSAGES {
            let mut client = self.connect();
            let stop_at = MESSAGES.min(self.offset + rng.random_range(0..60));
            self.read_to(&mut client, stop_at);
            match rng.random_range(0..4) {
                0 => client.reset(),
                1 => drop(client),
                2 => {
                    self.leave_and_join(&mut client);
                    let stop_at = MESSAGES.min(self.offset + rng.random_range(0..60));
                    self.read_to(&mut client, stop_at);
                }
                _ => {
                    let evicted = self.server.total("slow_consumers_evicted");
                    wait_until("an eviction", || {
                        self.server.total("slow_consumers_evicted") > evicted
                    });
                    stalls += 1;
                }
            }
        }
        stalls
    }
}

/// Publishes large messages to the flooded room until stopped.
fn flood(server: &TestServer, stop: &AtomicBool) {
    let mut publisher = server.client_at("/ws?room=flood");
    let message = message_frame(&"x".repeat(FLOOD_BYTES));
    while !stop.load(Ordering::Relaxed) {
        publisher.send(&message);
        publisher.next_offset();
    }
}

// Actors: 600 members that stay, 8 that join, leave, stall and resume at random, one publisher; another publisher floods
// a room of the 8, so that they are evicted when they stall. Three helper threads.
// Invariants: every member gets every offset in order exactly once, those that resume across their connections.
#[test]
fn members_get_every_offset_once_while_others_come_stall_and_go() {
    allow_many_sockets();
    let seed = Seed::new();
    let server = TestServer::start(&[
        "--fan-out-threads=3",
        "--history-messages=100000",
        "--history-bytes=64MiB",
        "--outbox-bytes=256KiB",
        "--max-request-rate=0",
        "--max-byte-rate=0",
    ]);
    let mut publisher = server.client_at("/ws?room=crowd");
    let epoch = publisher.welcome().room("crowd").epoch;
    let mut members: Vec<_> = (0..LARGE)
        .map(|_| server.client_at("/ws?room=crowd"))
        .collect();

    let stop = AtomicBool::new(false);
    let (round_done, rounds_done) = mpsc::channel();
    let stalls: usize = thread::scope(|scope| {
        let stop_flood = StopOnDrop(&stop);
        scope.spawn(|| flood(&server, &stop));
        for members in members.chunks_mut(LARGE / READER_THREADS) {
            let round_done = round_done.clone();
            scope.spawn(move || read_rounds(members, &round_done));
        }
        let movers: Vec<_> = (0..MOVERS)
            .map(|number| {
                let mut mover = Mover {
                    server: &server,
                    offset: 0,
                    epoch: epoch.clone(),
                };
                let mut rng = seed.rng_of(number as u64);
                scope.spawn(move || mover.run(&mut rng))
            })
            .collect();
        for _ in 0..MESSAGES / ROUND {
            for _ in 0..ROUND {
                publisher.say("hello");
            }
            for _ in 0..READER_THREADS {
                let read = rounds_done.recv_timeout(TIMEOUT);
                read.expect("all members read the round");
            }
        }
        let stalls = movers
            .into_iter()
            .map(|mover| mover.join().expect("a mover failed"));
        let stalls = stalls.sum();
        drop(stop_flood);
        stalls
    });

    println!("{stalls} stalls");
    for offset in 1..=MESSAGES {
        assert_eq!(publisher.next_offset(), offset);
    }
    for client in members.iter_mut().chain([&mut publisher]) {
        client.expect_nothing();
    }
}
