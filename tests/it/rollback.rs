//! A database whose files come from different moments: no acknowledged offset is assigned again in its epoch, and a
//! reader that resumes from before learns that messages are missing.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::RngExt;
use rusqlite::Connection;
use rustix::process::Signal;

use crate::support::database_files::{
    DATABASE, FILES, LOG, MARK, PutBack, Saved, delete, flip, restore_with_sqlite,
};
use crate::support::{
    AcknowledgedHistory, Seed, TempDir, TestServer, command_without_settings, skip, wait_until,
};

const COMMANDS: [PutBack; 3] = [PutBack::Move, PutBack::Copy, PutBack::Archive];

#[test]
fn numbering_continues_after_every_end_of_the_process() {
    let mut history = AcknowledgedHistory::new();
    for signal in [
        Signal::KILL,
        Signal::TERM,
        Signal::KILL,
        Signal::KILL,
        Signal::TERM,
    ] {
        history.run_until(signal);
        let server = history.dir.serve(&["--log-level", "warn"]);
        assert!(history.is_resumed(&server));
        assert_eq!(server.log(), "");
    }
}

/// A start writes to the database and to the mark several times.
#[test]
fn numbering_continues_after_kills_in_the_middle_of_starts() {
    const KILLS: usize = 40;
    const START_TIME: Duration = Duration::from_millis(60);
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut history = AcknowledgedHistory::new();
    history.run_until(Signal::KILL);
    for _ in 0..KILLS {
        let mut command = history.dir.command(&["--log-level", "warn"]);
        let mut server = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start");
        let kill_at = Instant::now() + rng.random_range(Duration::ZERO..START_TIME);
        while Instant::now() < kill_at {
            std::thread::yield_now();
        }
        server.kill().expect("kill");
        server.wait().expect("wait");
    }
    let server = history.dir.serve(&["--log-level", "warn"]);
    assert!(history.is_resumed(&server), "{}", server.log());
    assert_eq!(server.log(), "");
}

/// The database was written by a version that kept no mark.
#[test]
fn numbering_continues_once_without_a_mark_on_a_database_of_an_earlier_version() {
    let mut history = AcknowledgedHistory::new();
    history.run_until(Signal::TERM);
    let database = Connection::open(history.dir.path(DATABASE)).expect("open");
    let downgrade =
        "DROP INDEX expiring; DROP TABLE gone; ALTER TABLE messages DROP COLUMN expires;
        DELETE FROM rooms WHERE room = 0; PRAGMA user_version = 1";
    database.execute_batch(downgrade).expect("update");
    drop(database);
    delete(&history.dir, MARK);
    let mut server = history.dir.serve(&["--log-level", "warn"]);
    assert!(history.is_resumed(&server));
    assert_eq!(server.log(), "");
    history.publish(&server, 1);
    server.end(Signal::KILL);
    delete(&history.dir, MARK);
    history.assert_restarted("without a mark again");
}

#[test]
fn numbering_restarts_on_a_stopped_servers_copy() {
    for how in COMMANDS {
        let mut history = AcknowledgedHistory::new();
        history.run_until(Signal::TERM);
        let saved = Saved::of(&history.dir, &[DATABASE]);
        history.run_until(Signal::TERM);
        saved.put_back(&history.dir, how);
        history.assert_restarted(&format!("{how:?}"));
    }
}

#[test]
fn numbering_restarts_on_a_running_servers_copy_without_its_log() {
    for how in COMMANDS {
        for (signal, keeps_log) in [
            (Signal::TERM, true),
            (Signal::KILL, true),
            (Signal::KILL, false),
        ] {
            if (how, signal, keeps_log) == (PutBack::Archive, Signal::KILL, true) {
                // The file had not changed since it was copied, so nothing is lost.
                continue;
            }
            let case = format!("{how:?} after {signal:?}, log kept: {keeps_log}");
            let mut history = AcknowledgedHistory::new();
            let mut server = history.dir.serve(&[]);
            history.publish(&server, 5);
            let saved = Saved::of(&history.dir, &[DATABASE]);
            history.publish(&server, 5);
            server.end(signal);
            saved.put_back(&history.dir, how);
            if !keeps_log {
                delete(&history.dir, LOG);
            }
            history.assert_restarted(&case);
        }
    }
}

/// The copy is older than a checkpoint, so the log that is left continues another file.
#[test]
fn numbering_restarts_if_an_old_copy_meets_a_newer_log() {
    for how in COMMANDS {
        let mut history = AcknowledgedHistory::new();
        let mut server = history.dir.serve(&[]);
        history.publish(&server, 5);
        let saved = Saved::of(&history.dir, &[DATABASE]);
        let before = fs::metadata(history.dir.path(DATABASE))
            .expect("file")
            .len();
        wait_until("a checkpoint", || {
            history.publish_sized(&server, 20, 50_000);
            fs::metadata(history.dir.path(DATABASE))
                .expect("file")
                .len()
                > before
        });
        // The log starts again after it was copied and truncated.
        wait_until("the log is empty", || {
            fs::metadata(history.dir.path(LOG)).expect("log").len() == 0
        });
        history.publish(&server, 5);
        server.end(Signal::KILL);
        saved.put_back(&history.dir, how);
        history.assert_restarted(&format!("{how:?}"));
        let aside = history.dir.path("history.db-wal-of-another-file");
        assert!(aside.exists(), "the log is not deleted");
    }
}

#[test]
fn numbering_restarts_after_the_log_was_lost_or_altered() {
    type Alter = fn(&TempDir);
    let cases: [(&str, Alter); 6] = [
        ("deleted", |dir| delete(dir, LOG)),
        ("emptied", |dir| {
            fs::write(dir.path(LOG), "").expect("write")
        }),
        ("cut", |dir| {
            let log = fs::read(dir.path(LOG)).expect("log");
            fs::write(dir.path(LOG), &log[..log.len() / 2]).expect("write");
        }),
        ("flipped in its header", |dir| flip(&dir.path(LOG), 9 * 8)),
        ("flipped in its first page", |dir| {
            flip(&dir.path(LOG), 200 * 8);
        }),
        ("flipped in its last page", |dir| {
            let length = fs::metadata(dir.path(LOG)).expect("log").len();
            flip(&dir.path(LOG), (length - 100) * 8);
        }),
    ];
    for (case, alter) in cases {
        let mut history = AcknowledgedHistory::new();
        history.run_until(Signal::KILL);
        alter(&history.dir);
        history.assert_restarted(case);
    }
}

#[test]
fn numbering_restarts_on_a_log_of_another_moment_or_run() {
    for how in COMMANDS {
        for same_run in [true, false] {
            let mut history = AcknowledgedHistory::new();
            let mut server = history.dir.serve(&[]);
            history.publish(&server, 5);
            let saved = Saved::of(&history.dir, &[LOG]);
            if !same_run {
                server.end(Signal::KILL);
                server = history.dir.serve(&[]);
            }
            history.publish(&server, 5);
            server.end(Signal::KILL);
            saved.put_back(&history.dir, how);
            history.assert_restarted(&format!("{how:?}, same run: {same_run}"));
        }
    }
}

#[test]
fn numbering_restarts_on_files_that_were_all_set_back() {
    for how in COMMANDS {
        for signal in [Signal::KILL, Signal::TERM] {
            let mut history = AcknowledgedHistory::new();
            history.run_until(signal);
            let saved = Saved::of(&history.dir, &FILES);
            history.run_until(signal);
            delete(&history.dir, LOG);
            saved.put_back(&history.dir, how);
            history.assert_restarted(&format!("{how:?} after {signal:?}"));
        }
    }
}

#[test]
fn numbering_restarts_after_sqlite_restored_a_stopped_database() {
    for signal in [Signal::KILL, Signal::TERM] {
        let mut history = AcknowledgedHistory::new();
        history.run_until(Signal::TERM);
        let saved = Saved::of(&history.dir, &[DATABASE]);
        history.run_until(signal);
        restore_with_sqlite(&saved, &history.dir);
        history.assert_restarted(&format!("{signal:?}"));
    }
}

/// The running server notices at the next publish or within a second, and stores nothing in the wrong file.
#[test]
fn running_server_refuses_publishes_after_sqlite_restored_its_database() {
    let mut history = AcknowledgedHistory::new();
    history.run_until(Signal::TERM);
    let saved = Saved::of(&history.dir, &[DATABASE]);
    let mut server = history.dir.serve(&[]);
    history.publish(&server, 5);
    restore_with_sqlite(&saved, &history.dir);
    let refused = server.post(
        "/rooms/lobby/messages",
        &serde_json::json!({"type": "message", "payload": "refused"}),
    );
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.error_code(), "storage_unavailable");
    let (epoch, _) = history.last.clone().expect("a message");
    let reader = server.client_at(&format!("/ws?since=1&epoch={epoch}"));
    assert_eq!(reader.welcome().room("lobby").recovered, Some(false));
    let health = server.raw().get("/health").json();
    assert_eq!(health["status"], "degraded");
    let message = health["message"].as_str().expect("message");
    assert!(message.contains("restart the server"), "{message}");
    server.end(Signal::TERM);
    history.assert_restarted("restored while it ran");
}

#[test]
fn numbering_restarts_after_another_program_wrote_over_a_running_servers_file() {
    let mut history = AcknowledgedHistory::new();
    let mut server = history.dir.serve(&["--log-level", "warn"]);
    history.publish(&server, 5);
    let saved = Saved::of(&history.dir, &[DATABASE]);
    history.publish(&server, 5);
    saved.put_back(&history.dir, PutBack::Copy);
    wait_until("the write is noticed", || {
        server.log().contains("another program has written")
    });
    server.end(Signal::TERM);
    history.assert_restarted("overwritten while it ran");
}

#[test]
fn numbering_restarts_without_a_valid_mark() {
    type Alter = fn(&TempDir);
    let cases: [(&str, Alter); 4] = [
        ("deleted", |dir| delete(dir, MARK)),
        ("emptied", |dir| {
            fs::write(dir.path(MARK), "").expect("write")
        }),
        ("flipped", |dir| flip(&dir.path(MARK), 30 * 8)),
        ("of another database", |dir| {
            let mut other = AcknowledgedHistory::new();
            other.run_until(Signal::TERM);
            Saved::of(&other.dir, &[MARK]).put_back(dir, PutBack::Copy);
        }),
    ];
    for (case, alter) in cases {
        for signal in [Signal::KILL, Signal::TERM] {
            let mut history = AcknowledgedHistory::new();
            history.run_until(signal);
            alter(&history.dir);
            history.assert_restarted(case);
        }
    }
}

/// A disk that was set back in a machine that was started again looks like a power failure.
#[test]
fn numbering_restarts_after_a_reboot_unless_the_server_had_stopped() {
    for durability in ["normal", "full"] {
        for (signal, restarts) in [(Signal::KILL, true), (Signal::TERM, false)] {
            let mut history = AcknowledgedHistory::new();
            let flags = ["--durability", durability, "--log-level", "warn"];
            let mut server = history.dir.serve(&flags);
            history.publish(&server, 5);
            server.end(signal);
            let Some(command) = after_a_reboot(&history.dir, &flags) else {
                return;
            };
            let server = TestServer::start_command(command);
            let case = format!("{durability} after {signal:?}: {}", server.log());
            assert_eq!(history.is_resumed(&server), !restarts, "{case}");
            let page = server.get_json("/rooms/lobby/messages?since=0");
            assert_eq!(page["last"], 5, "{case}");
        }
    }
}

/// The command of a server that reads another boot id, which only its process sees. Skips the test, with `None`,
/// where that is not possible.
fn after_a_reboot(dir: &TempDir, flags: &[&str]) -> Option<Command> {
    let boot_id = dir.path("boot-id");
    fs::write(&boot_id, "00000000-0000-4000-8000-000000000000\n").expect("write");
    let unshare = |script: &str| {
        let mut command = command_without_settings("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        let mount = "mount --bind \"$1\" /proc/sys/kernel/random/boot_id";
        command.args([&format!("{mount} && {script}"), "sh"]);
        command.arg(&boot_id);
        command
    };
    let output = unshare("true").output();
    if !output.is_ok_and(|output| output.status.success()) {
        skip("no right to mount in a user namespace");
        return None;
    }
    let server = dir.command(flags);
    let mut command = unshare("shift && exec \"$@\"");
    command.arg(server.get_program()).args(server.get_args());
    Some(command)
}
