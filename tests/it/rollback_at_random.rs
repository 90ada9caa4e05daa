//! Runs that end with `kill -9` or cleanly, between which files are deleted, cut, flipped and set back at random.
//!
//! Publishers note every acknowledged position. A reader of each room resumes in every run. No position is
//! acknowledged twice, and a reader that receives `recovered: true` receives every acknowledged message after its own
//! position, in order. `WSCAST_TEST_RUNS` sets the number of runs.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use rand::RngExt;
use rand::rngs::StdRng;
use rustix::process::Signal;
use serde_json::json;

use crate::support::database_files::{DATABASE, FILES, LOG, PutBack, Saved, cut, delete, flip_bit};
use crate::support::{Seed, TempDir, TestServer, program, run};

/// The number of runs unless `WSCAST_TEST_RUNS` sets another; 200 take about a minute.
const RUNS: usize = 40;
const ROOMS: [&str; 3] = ["plant", "office", "street"];
/// Copies of the files that are kept to be put back.
const SAVED_MAX: usize = 6;

/// The acknowledged messages of a room: their ids by epoch and offset.
type Acknowledged = HashMap<String, BTreeMap<u64, String>>;

/// A room and its reader.
#[derive(Default)]
struct Room {
    acknowledged: Acknowledged,
    /// The last position that the reader has.
    position: Option<(String, u64)>,
}

#[derive(Default)]
struct Counts {
    resumed: usize,
    restarted: usize,
    refused: usize,
}

#[test]
fn no_offset_is_acknowledged_twice_and_no_gap_is_silent() {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let runs =
        std::env::var("WSCAST_TEST_RUNS").map_or(RUNS, |runs| runs.parse().expect("a number"));
    let dir = TempDir::new();
    let mut rooms: HashMap<&str, Room> = HashMap::new();
    let (mut saved, mut counts) = (Vec::new(), Counts::default());
    for number in 0..runs {
        let server = TestServer::try_start_command(dir.command(&["--log-level", "warn"]));
        let mut server = match server {
            Ok(server) => server,
            Err((status, log)) => {
                assert_eq!(status.code(), Some(1), "{log}");
                let line = log.lines().last().unwrap_or_default();
                assert!(line.contains("the database is damaged"), "{log}");
                // The operator does what the line says.
                FILES.iter().for_each(|name| delete(&dir, name));
                counts.refused += 1;
                continue;
            }
        };
        for name in ROOMS {
            read(&server, name, rooms.entry(name).or_default(), &mut counts);
        }
        publish(&server, number, &mut rooms, &mut rng);
        if rng.random_bool(0.5) {
            save(&dir, &mut saved, &mut rng);
        }
        publish(&server, number, &mut rooms, &mut rng);
        let signal = if rng.random() {
            Signal::KILL
        } else {
            Signal::TERM
        };
        server.signal(signal);
        server.wait_for_exit();
        if rng.random_bool(0.3) {
            save(&dir, &mut saved, &mut rng);
        }
        if rng.random_bool(0.7) {
            alter(&dir, &saved, &mut rng);
        }
    }
    let Counts {
        resumed,
        restarted,
        refused,
    } = counts;
    println!(
        "{runs} runs: readers resumed {resumed} times, restarted {restarted} times; {refused} starts refused"
    );
    assert!(resumed > 0 && restarted > 0);
}

/// Publishes some messages. Some are large, so that checkpoints happen.
fn publish(server: &TestServer, number: usize, rooms: &mut HashMap<&str, Room>, rng: &mut StdRng) {
    let name = ROOMS[rng.random_range(0..ROOMS.len())];
    let room = rooms.entry(name).or_default();
    let session = format!("the-publisher-of-run-{number}");
    let mut client = server.client_at(&format!("/ws?room={name}&session={session}"));
    let bytes = if rng.random_bool(0.2) { 60_000 } else { 20 };
    for _ in 0..rng.random_range(1..40) {
        let id = format!("{:x}", rng.random::<u64>());
        let request = json!({"type": "message", "payload": "x".repeat(bytes), "id": id});
        client.send_json(request);
        let ack = client.skip_to("ack");
        let epoch = ack["payload"]["epoch"].as_str().expect("epoch").to_owned();
        let offset = ack["payload"]["offset"].as_u64().expect("offset");
        let before = room
            .acknowledged
            .entry(epoch)
            .or_default()
            .insert(offset, id.clone());
        assert_eq!(before, None, "{name} {offset} was acknowledged before");
    }
    client.close();
}

/// Resumes at the reader's position and compares what it receives with what was acknowledged.
fn read(server: &TestServer, name: &str, room: &mut Room, counts: &mut Counts) {
    let mut target = format!("/ws?room={name}");
    if let Some((epoch, offset)) = &room.position {
        target = format!("{target}&since={offset}&epoch={epoch}");
    }
    let mut reader = server.client_at(&target);
    let state = reader.welcome().room(name);
    let (epoch, mut offset) = (state.epoch, state.offset);
    if state.recovered == Some(true) {
        counts.resumed += 1;
        let missed: Vec<(u64, String)> = room
            .acknowledged
            .get(&epoch)
            .map(|messages| messages.range(offset + 1..))
            .into_iter()
            .flatten()
            .map(|(offset, id)| (*offset, id.clone()))
            .collect();
        for (expected, id) in missed {
            let message = reader.next_of("message");
            let found = (message["offset"].as_u64(), message["id"].as_str());
            assert_eq!(found, (Some(expected), Some(id.as_str())), "{name} {epoch}");
            offset = expected;
        }
    } else if room.position.is_some() {
        counts.restarted += 1;
    }
    room.position = Some((epoch, offset));
    reader.close();
}

/// Copies the files, some of them, or makes a backup.
fn save(dir: &TempDir, saved: &mut Vec<Saved>, rng: &mut StdRng) {
    let names: &[&str] = match rng.random_range(0..5) {
        0 => &[DATABASE],
        1 => &[LOG],
        2 => &[DATABASE, LOG],
        3 => &FILES,
        _ => {
            delete(dir, "backup.db");
            let (from, to) = (dir.arg(DATABASE), dir.arg("backup.db"));
            assert_eq!(
                run(program().args(["backup", "--db", &from, &to])).code,
                Some(0)
            );
            let contents = fs::read(dir.path("backup.db")).expect("backup");
            return add(saved, Saved::from_contents(DATABASE, contents), rng);
        }
    };
    add(saved, Saved::of(dir, names), rng);
}

fn add(saved: &mut Vec<Saved>, copy: Saved, rng: &mut StdRng) {
    if saved.len() == SAVED_MAX {
        saved.swap_remove(rng.random_range(0..SAVED_MAX));
    }
    saved.push(copy);
}

/// Changes the files of a stopped server at random, as operators and failing disks do.
fn alter(dir: &TempDir, saved: &[Saved], rng: &mut StdRng) {
    let name = FILES[rng.random_range(0..FILES.len())];
    match rng.random_range(0..6) {
        0 => delete(dir, name),
        1 => cut(&dir.path(name), rng),
        2 => {
            flip_bit(&dir.path(name), rng);
        }
        _ if saved.is_empty() => {}
        _ => {
            let copy = &saved[rng.random_range(0..saved.len())];
            if rng.random() {
                delete(dir, LOG);
            }
            let how = [PutBack::Move, PutBack::Copy, PutBack::Archive][rng.random_range(0..3)];
            copy.put_back(dir, how);
        }
    }
}
