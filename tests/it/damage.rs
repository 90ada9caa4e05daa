//! A database that is damaged while nothing of it looks changed: readers learn of every gap and can continue, and
//! `/health` is degraded for as long as messages cannot be read.

use std::fs;
use std::path::Path;

use rand::RngExt;
use rusqlite::Connection;
use rustix::process::Signal;

use crate::support::database_files::{DATABASE, damage_unnoticed, flip, flip_bit, zero_page};
use crate::support::{Seed, TempDir, TestServer, request, wait_until};

const MESSAGES: u64 = 300;
const PAYLOAD_BYTES: usize = 1000;
/// Connections after which a reader must have got past the damage.
const ATTEMPTS_MAX: usize = 4;
/// Try again later.
const TRY_AGAIN_LATER: u16 = 1013;

/// Stops a server that has stored messages, so that all of them are in the file.
fn stored() -> TempDir {
    let dir = TempDir::new();
    let mut server = dir.serve(&["--log-level", "warn"]);
    let mut publisher = server.client();
    for number in 0..MESSAGES {
        publisher.say(format!("{number:0width$}", width = PAYLOAD_BYTES));
    }
    (0..MESSAGES).for_each(|_| drop(publisher.next_of("message")));
    // Otherwise the shutdown waits for it.
    drop(publisher);
    server.signal(Signal::TERM);
    server.wait_for_exit();
    dir
}

/// Returns the position of the first bit of these bytes, which must occur once.
fn find(path: &Path, bytes: &[u8]) -> u64 {
    let contents = fs::read(path).expect("read");
    let found: Vec<_> = contents
        .windows(bytes.len())
        .enumerate()
        .filter(|(_, window)| *window == bytes)
        .map(|(at, _)| at as u64)
        .collect();
    assert_eq!(found.len(), 1, "{bytes:?} is in the file once");
    found[0] * 8
}

fn payload(number: u64) -> String {
    format!("{number:0width$}", width = PAYLOAD_BYTES)
}

/// Reads the lobby from its start, reconnecting as a client does. Returns the offsets received, and whether the
/// server reported a gap. Panics on a silent gap, a message that is not JSON, and an endless refusal.
fn read_all(server: &TestServer) -> (Vec<u64>, bool) {
    let (mut received, mut position) = (Vec::new(), None::<(String, u64)>);
    for _ in 0..ATTEMPTS_MAX {
        let target = match &position {
            None => "/ws?since=0".to_owned(),
            Some((epoch, offset)) => format!("/ws?since={offset}&epoch={epoch}"),
        };
        let mut reader = server.client_without_welcome(&target);
        let Some(welcome) = reader.try_next() else {
            continue;
        };
        let room = &welcome["rooms"][0];
        let mut offset = room["offset"].as_u64().expect("offset");
        let epoch = room["epoch"].as_str().expect("epoch").to_owned();
        if room["recovered"] == false {
            return (received, true);
        }
        while offset < MESSAGES {
            let Some(message) = reader.try_next() else {
                break;
            };
            assert_eq!(message["offset"], offset + 1, "a silent gap");
            offset += 1;
            received.push(offset);
        }
        if offset == MESSAGES {
            return (received, false);
        }
        position = Some((epoch, offset));
    }
    panic!("the reader is refused for ever at {position:?}");
}

/// Reads the lobby over HTTP, past damage too. Returns the offsets received, and whether a page had a gap.
fn read_pages(server: &TestServer) -> (Vec<u64>, bool) {
    let (mut received, mut has_gap, mut since) = (Vec::new(), false, 0);
    while since < MESSAGES {
        let page = server.get_json(&format!("/rooms/lobby/messages?since={since}&limit=50"));
        let messages = page["messages"].as_array().expect("messages");
        let offsets = messages
            .iter()
            .map(|m| m["offset"].as_u64().expect("offset"));
        let offsets: Vec<u64> = offsets.collect();
        let is_whole = offsets
            .iter()
            .copied()
            .eq(since + 1..=since + offsets.len() as u64);
        if page["contiguous"] == true {
            assert!(is_whole, "a silent gap in {offsets:?} after {since}");
            assert!(!offsets.is_empty(), "{page}");
        } else {
            has_gap = true;
        }
        received.extend(&offsets);
        since = offsets.last().copied().unwrap_or(since + 1);
    }
    (received, has_gap)
}

/// The first connection learns `recovered: true`, then 1013 at the damage. The next one learns `recovered: false`
/// and is live.
fn assert_gap_is_reported(server: &TestServer, damaged: std::ops::RangeInclusive<u64>) {
    let mut first = server.client_at("/ws?since=0");
    assert_eq!(first.welcome().room("lobby").recovered, Some(true));
    let epoch = first.welcome().room("lobby").epoch;
    assert_eq!(first.close_code_after_offset(0), TRY_AGAIN_LATER);
    for target in ["/ws?since=0", "/ws?since=1"] {
        let mut next = server.client_at(target);
        let room = next.welcome().room("lobby");
        assert_eq!((room.recovered, room.offset), (Some(false), MESSAGES));
        next.expect_nothing();
    }
    let mut behind = server.client_at(&format!("/ws?since={}", damaged.end()));
    assert_eq!(behind.welcome().room("lobby").recovered, Some(true));
    for offset in damaged.end() + 1..=MESSAGES {
        assert_eq!(behind.next_of("message")["offset"], offset);
    }
    let mut events = server.raw();
    let last_event_id = format!("Last-Event-ID: {epoch}-0");
    events.send(request("GET", "/rooms/lobby/events", &[&last_event_id]));
    assert!(
        events
            .read_until("\"members\"")
            .contains("\"recovered\":false")
    );
    let page = server.get_json("/rooms/lobby/messages?since=0&limit=1000");
    assert_eq!(page["contiguous"], false, "{page}");
    let (received, has_gap) = read_pages(server);
    assert!(has_gap);
    let expected: Vec<u64> = (1..=MESSAGES)
        .filter(|offset| !damaged.contains(offset))
        .collect();
    assert_eq!(received, expected);
}

/// Health is degraded, and stays so through several rounds of maintenance, which runs once a second.
fn assert_degraded(server: &TestServer) {
    let server_time = || server.stats()["server_time"].as_f64().expect("seconds");
    let until = server_time() + 2.5;
    wait_until("maintenance has run", || {
        let health = server.raw().get("/health");
        assert_eq!(health.status, 503, "{}", health.text());
        let message = health.json()["message"].to_string();
        assert!(message.contains("lobby"), "{message}");
        server_time() > until
    });
    server.client().say("publishing works");
}

#[test]
fn zeroed_page_is_a_gap_that_readers_learn_of() {
    let dir = stored();
    let path = dir.path(DATABASE);
    // The page with the middle of the messages.
    let page = find(&path, payload(MESSAGES / 2).as_bytes()) / 8 / 4096;
    damage_unnoticed(&path, |path| zero_page(path, page));
    let server = dir.serve(&["--log-level", "warn"]);
    let (received, has_gap) = read_all(&server);
    assert!(has_gap && !received.is_empty());
    assert_degraded(&server);
    let (received, has_gap) = read_pages(&server);
    assert!(has_gap && received.len() > 200, "{received:?}");
}

#[test]
fn payload_that_is_no_longer_json_is_a_gap_that_readers_learn_of() {
    let dir = stored();
    let path = dir.path(DATABASE);
    let opening_quote = find(&path, format!("\"{}", payload(100)).as_bytes());
    damage_unnoticed(&path, |path| flip(path, opening_quote));
    let server = dir.serve(&["--log-level", "warn"]);
    assert_gap_is_reported(&server, 101..=101);
    assert_degraded(&server);
    server.wait_for_log("cannot be read");
    let log = server.log();
    assert_eq!(log.matches("cannot be read").count(), 1, "{log}");
}

/// The damage is in the row only, which the index of offsets contradicts, or in the index only.
#[test]
fn offset_that_changed_is_a_gap_that_readers_learn_of() {
    for of_index in [false, true] {
        let dir = stored();
        let path = dir.path(DATABASE);
        damage_unnoticed(&path, |path| flip(path, bit_of_offset(path, 100, of_index)));
        let server = dir.serve(&["--log-level", "warn"]);
        let (received, has_gap) = read_all(&server);
        assert!(has_gap, "of the index: {of_index}");
        assert!(received.len() < MESSAGES as usize);
        assert_degraded(&server);
        let (_, has_gap) = read_pages(&server);
        assert!(has_gap, "of the index: {of_index}");
    }
}

/// Finds the lowest bit of an offset, in the row of a message or in the index.
fn bit_of_offset(path: &Path, offset: u64, of_index: bool) -> u64 {
    // Small offsets take one or two bytes. The header of a record says which, so the search is for its bytes.
    let contents = fs::read(path).expect("read");
    let low = (offset & 0xff) as u8;
    let at = if of_index {
        // Record of (room 1, offset, seq): header 4, types 9 (the constant 1), 1, 1; then offset and seq.
        let record = [4, 9, 1, 1, low, low];
        contents
            .windows(6)
            .position(|window| window == record)
            .expect("index")
            + 4
    } else {
        let payload = format!("\"{}", payload(offset - 1));
        let row = contents
            .windows(payload.len())
            .position(|window| window == payload.as_bytes())
            .expect("row");
        let start = row - 100;
        // The offset is followed by the six bytes of the time, whose first two are zero or one until the year 2527.
        let before = contents[start..row].windows(2).rposition(|w| w == [low, 1]);
        start + before.expect("offset")
    };
    at as u64 * 8
}

#[test]
fn health_recovers_when_damaged_messages_are_dropped() {
    let dir = stored();
    let path = dir.path(DATABASE);
    let quote = find(&path, format!("\"{}", payload(0)).as_bytes());
    damage_unnoticed(&path, |path| flip(path, quote));
    let flags = ["--history-messages", "300", "--log-level", "warn"];
    let server = dir.serve(&flags);
    let (_, has_gap) = read_all(&server);
    assert!(has_gap);
    assert_degraded(&server);
    // Its message has replaced the damaged one.
    wait_until("health recovers", || {
        server.raw().get("/health").status == 200
    });
    let mut reader = server.client_at("/ws?since=1");
    assert_eq!(reader.welcome().room("lobby").recovered, Some(true));
    assert_eq!(reader.next_of("message")["offset"], 2);
}

/// A room's row decides which offset comes next.
#[test]
fn damaged_row_of_a_room_is_refused_at_start() {
    let dir = stored();
    let path = dir.path(DATABASE);
    damage_unnoticed(&path, |path| {
        let database = Connection::open(path).expect("open");
        let set_back =
            "PRAGMA journal_mode = DELETE; UPDATE rooms SET last_offset = last_offset - 64;
            PRAGMA journal_mode = WAL;";
        database.execute_batch(set_back).expect("update");
    });
    let Err((status, log)) = TestServer::try_start_command(dir.command(&["--log-level", "warn"]))
    else {
        panic!("it started");
    };
    assert_eq!(status.code(), Some(1), "{log}");
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("the database is damaged"), "{log}");
}

/// A bit flips in the file of a server that does not run, or runs.
#[test]
fn no_flipped_bit_is_a_silent_gap() {
    const FLIPS: usize = 200;
    let flips =
        std::env::var("WSCAST_TEST_FLIPS").map_or(FLIPS, |flips| flips.parse().expect("a number"));
    let seed = Seed::new();
    let mut rng = seed.rng();
    let dir = stored();
    let path = dir.path(DATABASE);
    let files = ["history.db", "history.db-mark"].map(|name| {
        let name = dir.path(name);
        let contents = fs::read(&name).expect("read");
        let modified = fs::metadata(&name)
            .and_then(|file| file.modified())
            .expect("time");
        (name, contents, modified)
    });
    let (mut refused, mut gaps, mut whole) = (0, 0, 0);
    for _ in 0..flips {
        for (name, contents, modified) in &files {
            fs::write(name, contents).expect("write");
            let file = fs::OpenOptions::new().write(true).open(name).expect("open");
            file.set_modified(*modified).expect("set time");
        }
        fs::remove_file(dir.path("history.db-wal")).ok();
        let while_running: bool = rng.random();
        if !while_running {
            damage_unnoticed(&path, |path| {
                flip_bit(path, &mut rng);
            });
        }
        let command = dir.command(&["--log-level", "warn"]);
        let mut server = match TestServer::try_start_command(command) {
            Ok(server) => server,
            Err((status, log)) => {
                assert_eq!(status.code(), Some(1), "{log}");
                refused += 1;
                continue;
            }
        };
        if while_running {
            damage_unnoticed(&path, |path| {
                flip_bit(path, &mut rng);
            });
        }
        let (received, has_gap) = if server.raw().get("/rooms/lobby").status == 200 {
            read_all(&server)
        } else {
            (Vec::new(), true)
        };
        if has_gap {
            gaps += 1;
        } else {
            assert_eq!(received, (1..=MESSAGES).collect::<Vec<_>>());
            whole += 1;
        }
        server.signal(Signal::KILL);
        server.wait_for_exit();
    }
    println!(
        "{flips} flips: {refused} starts refused, {gaps} gaps reported, {whole} without effect"
    );
}
