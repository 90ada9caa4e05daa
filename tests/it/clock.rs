//! The wall clock steps while a server runs or between two runs: ids stay known for their window, and numbering
//! continues.
//!
//! A library of the package libfaketime shifts the wall clock of the server's process by what a file says.

use std::fs;
use std::process::Command;
use std::thread;

use rand::RngExt;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Seed, TempDir, TestServer, skip, wait_until};

const SESSION: &str = "the-publisher-and-nobody-else";
/// Six minutes are longer than the window of ids, as on a Raspberry Pi before and after it asks for the time.
const STEPS_S: [i64; 4] = [360, -360, 3600, -3600];

/// A directory with a database and the file that shifts the clock.
struct ShiftedClock {
    dir: TempDir,
    library: String,
}

impl ShiftedClock {
    /// Skips the test, with `None`, without libfaketime.
    fn find() -> Option<Self> {
        let architectures = fs::read_dir("/usr/lib").ok()?;
        let candidates = architectures
            .flatten()
            .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
        let Some(library) = candidates.into_iter().find(|path| path.exists()) else {
            skip("no libfaketime; apt-get install libfaketime");
            return None;
        };
        let clock = Self {
            dir: TempDir::new(),
            library: library.to_str().expect("UTF-8").to_owned(),
        };
        clock.set(0);
        Some(clock)
    }

    /// Sets the distance of the server's clock from the real one.
    fn set(&self, seconds: i64) {
        // Renamed, because a file that is being written is not a time.
        let new = self.dir.path("new-time");
        fs::write(&new, format!("{seconds:+}s\n")).expect("write");
        fs::rename(&new, self.dir.path("time")).expect("rename");
    }

    fn command(&self, database: Option<&str>) -> Command {
        let mut command = match database {
            Some(durability) => self.dir.command(&["--durability", durability]),
            None => TestServer::command(&[]),
        };
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.dir.path("time"))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
        command
    }

    fn serve(&self, database: Option<&str>) -> TestServer {
        TestServer::start_command(self.command(database))
    }

    /// Steps the clock while the server runs, and waits until maintenance has seen it.
    fn step(&self, server: &TestServer, seconds: i64) {
        let uptime = || server.raw().get("/health").json()["uptime_seconds"].as_f64();
        let wall = || server.stats()["server_time"].as_f64().expect("seconds");
        let before = wall();
        self.set(seconds);
        wait_until("the clock has stepped", || (wall() - before).abs() > 200.0);
        let until = uptime().expect("uptime") + 2.5;
        wait_until("maintenance has run", || uptime() > Some(until));
    }
}

fn publish(server: &TestServer, id: &str) -> Value {
    server.publish("lobby", SESSION, id, "payload")
}

/// The cases run at the same time, because each waits for maintenance.
#[test]
fn repeated_id_is_recognized_after_the_clock_stepped() {
    if ShiftedClock::find().is_none() {
        return;
    }
    let check = |database, seconds| {
        let clock = ShiftedClock::find().expect("libfaketime");
        let server = clock.serve(database);
        let first = publish(&server, "1");
        clock.step(&server, seconds);
        let case = format!("{database:?} {seconds:+} s");
        assert_eq!(publish(&server, "1"), first, "{case}");
        assert_eq!(server.total("duplicate_publishes"), 1, "{case}");
    };
    thread::scope(|scope| {
        for database in [None, Some("normal")] {
            for seconds in STEPS_S {
                scope.spawn(move || check(database, seconds));
            }
        }
    });
}

/// The clock steps before the restart, after it, or both.
#[test]
fn repeated_id_is_recognized_after_the_clock_stepped_and_a_restart() {
    if ShiftedClock::find().is_none() {
        return;
    }
    let check = |signal, seconds, steps_while_running| {
        let clock = ShiftedClock::find().expect("libfaketime");
        let mut server = clock.serve(Some("normal"));
        let first = publish(&server, "1");
        if steps_while_running {
            clock.step(&server, seconds);
        }
        server.signal(signal);
        server.wait_for_exit();
        clock.set(seconds);
        let server = clock.serve(Some("normal"));
        let case = format!("{signal:?} {seconds:+} s, while running: {steps_while_running}");
        assert_eq!(publish(&server, "1"), first, "{case}");
        let epoch = first["epoch"].as_str().expect("epoch");
        let reader = server.client_at(&format!("/ws?since=1&epoch={epoch}"));
        let room = reader.welcome().room("lobby");
        assert_eq!(room.recovered, Some(true), "{case}");
    };
    thread::scope(|scope| {
        for signal in [Signal::TERM, Signal::KILL] {
            for seconds in STEPS_S {
                scope.spawn(move || check(signal, seconds, true));
                scope.spawn(move || check(signal, seconds, false));
            }
        }
    });
}

/// Steps of up to an hour between runs, which end in both ways: nothing is stored twice or lost, and numbering
/// continues.
#[test]
fn random_steps_between_runs_lose_and_repeat_nothing() {
    const RUNS: usize = 12;
    let seed = Seed::new();
    let mut rng = seed.rng();
    let Some(clock) = ShiftedClock::find() else {
        return;
    };
    let mut positions: Vec<(String, Value)> = Vec::new();
    for run in 0..RUNS {
        clock.set(rng.random_range(-3600..=3600));
        let mut server = clock.serve(Some("normal"));
        for (id, position) in &positions {
            assert_eq!(publish(&server, id), *position, "run {run}");
        }
        let id = format!("{run}");
        let position = publish(&server, &id);
        assert_eq!(position["offset"], run + 1);
        positions.push((id, position));
        let signal = if rng.random() {
            Signal::KILL
        } else {
            Signal::TERM
        };
        server.signal(signal);
        server.wait_for_exit();
    }
}
