//! Files that are set back together with the mark beside the database, or while a server runs: no acknowledged offset is
//! assigned again in its epoch.

use std::fs::{self, File};

use rustix::process::Signal;
use serde_json::json;

use crate::support::database_files::{DATABASE, FILES, LOG, MARK, PutBack, Saved, delete};
use crate::support::{AcknowledgedHistory, FAILURE, TestServer, program, run, wait_until};

const COMMANDS: [PutBack; 3] = [PutBack::Move, PutBack::Copy, PutBack::Archive];
const LOG_ASIDE: &str = "history.db-wal-of-another-file";

#[test]
fn numbering_restarts_on_a_mark_that_was_put_back_with_other_files() {
    let sets: [&[&str]; 4] = [&[MARK], &[LOG, MARK], &[DATABASE, MARK], &FILES];
    for how in COMMANDS {
        for names in sets {
            let mut history = AcknowledgedHistory::new();
            let mut server = history.dir.serve(&[]);
            history.publish(&server, 5);
            let saved = Saved::of(&history.dir, names);
            history.publish(&server, 5);
            server.end(Signal::KILL);
            saved.put_back(&history.dir, how);
            history.assert_restarted(&format!("{names:?} by {how:?}"));
        }
    }
}

#[test]
fn numbering_restarts_on_a_stopped_servers_directory_that_was_put_back() {
    for how in COMMANDS {
        for signal in [Signal::TERM, Signal::KILL] {
            let mut history = AcknowledgedHistory::new();
            history.run_until(Signal::TERM);
            let saved = Saved::of(&history.dir, &FILES);
            history.run_until(signal);
            delete(&history.dir, LOG);
            saved.put_back(&history.dir, how);
            history.assert_restarted(&format!("{how:?} after {signal:?}"));
        }
    }
}

/// The server goes on writing to a mark that has no name.
#[test]
fn numbering_restarts_on_a_mark_that_was_replaced_while_a_server_ran() {
    for signal in [Signal::TERM, Signal::KILL] {
        let mut history = AcknowledgedHistory::new();
        let mut server = history.dir.serve(&[]);
        history.publish(&server, 5);
        let saved = Saved::of(&history.dir, &[MARK]);
        let log_bytes = fs::metadata(history.dir.path(LOG)).expect("log").len();
        saved.put_back(&history.dir, PutBack::Move);
        wait_until("publishes are refused", || {
            status_of_publish(&server) == 503
        });
        assert_degraded(&server, "-mark");
        server.end(signal);
        if signal == Signal::KILL {
            let log = File::options().write(true).open(history.dir.path(LOG));
            log.and_then(|log| log.set_len(log_bytes)).expect("cut");
        }
        history.assert_restarted(&format!("{signal:?}"));
    }
}

/// Moving the directory changes none of the files.
#[test]
fn numbering_continues_in_a_directory_that_was_moved() {
    for signal in [Signal::TERM, Signal::KILL] {
        let mut history = AcknowledgedHistory::new();
        history.run_until(signal);
        let (here, there) = (
            history.dir.path(""),
            history.dir.arg("").trim_end_matches('/').to_owned() + "-moved",
        );
        fs::rename(&here, &there).expect("move");
        fs::rename(&there, &here).expect("move back");
        let server = history.dir.serve(&["--log-level", "warn"]);
        assert!(history.is_resumed(&server), "{}", server.log());
    }
}

/// The log is not copied into the backup, which would destroy both.
#[test]
fn backup_is_whole_beside_the_log_of_another_file_and_without_a_mark() {
    for alter_mark in ["delete", "empty", "keep"] {
        let mut history = AcknowledgedHistory::new();
        let mut server = history.dir.serve(&[]);
        history.publish_sized(&server, 50, 3000);
        back_up(&history);
        for room in 0..30 {
            server.publish(
                &format!("room-{room}"),
                "another-publisher-of-rooms",
                "1",
                "x".repeat(3000),
            );
        }
        history.publish_sized(&server, 50, 3000);
        server.end(Signal::KILL);
        fs::write(history.dir.path(LOG_ASIDE), "an earlier log").expect("write");
        match alter_mark {
            "delete" => delete(&history.dir, MARK),
            "empty" => fs::write(history.dir.path(MARK), "").expect("write"),
            _ => {}
        }
        fs::copy(history.dir.path("backup.db"), history.dir.path(DATABASE)).expect("copy");
        history.assert_restarted(alter_mark);
        let server = history.dir.serve(&[]);
        let page = server.get_json("/rooms/lobby/messages?since=0&limit=1000");
        assert_eq!(page["contiguous"], true, "{alter_mark}: {page}");
        let stored = page["messages"].as_array().expect("messages").len();
        assert_eq!(stored, 50 + 10, "{alter_mark}");
        let earlier = fs::read(history.dir.path(LOG_ASIDE)).expect("log");
        assert_eq!(earlier, b"an earlier log", "{alter_mark}");
        let second = history.dir.path(&format!("{LOG_ASIDE}-2"));
        assert!(second.exists(), "{alter_mark}");
    }
}

/// The publishes after the copy are refused until the server is started again, and the backup is then whole.
#[test]
fn running_server_refuses_publishes_after_a_backup_was_copied_over_its_file() {
    for signal in [Signal::TERM, Signal::KILL] {
        let mut history = AcknowledgedHistory::new();
        let mut server = history.dir.serve(&[]);
        history.publish_sized(&server, 50, 20_000);
        back_up(&history);
        history.publish_sized(&server, 50, 20_000);
        wait_until("the log is copied", || {
            fs::metadata(history.dir.path(LOG)).expect("log").len() == 0
        });
        history.publish(&server, 5);
        fs::copy(history.dir.path("backup.db"), history.dir.path(DATABASE)).expect("copy");
        for _ in 0..5 {
            assert_eq!(status_of_publish(&server), 503);
        }
        assert_degraded(&server, "another program has written");
        // Maintenance runs once a second.
        let server_time = || server.stats()["server_time"].as_f64().expect("seconds");
        let until = server_time() + 2.5;
        wait_until("maintenance has run", || server_time() > until);
        assert_eq!(status_of_publish(&server), 503);
        assert_degraded(&server, "restart the server");
        server.end(signal);
        history.assert_restarted(&format!("{signal:?}"));
        let server = history.dir.serve(&[]);
        let page = server.get_json("/rooms/lobby/messages?since=0&limit=1");
        assert_eq!(page["last"], 50 + 10, "{signal:?}: {page}");
    }
}

#[test]
fn second_server_leaves_the_log_of_a_running_server() {
    let mut history = AcknowledgedHistory::new();
    let server = history.dir.serve(&[]);
    history.publish(&server, 5);
    back_up(&history);
    fs::rename(history.dir.path("backup.db"), history.dir.path(DATABASE)).expect("move");
    let mut second = program();
    second.args([
        "--host=127.0.0.1",
        "--port=0",
        "--db",
        &history.dir.arg(DATABASE),
    ]);
    let ended = run(&mut second);
    assert_eq!(ended.code, FAILURE);
    assert!(
        ended.only_line().contains("another server uses it"),
        "{}",
        ended.stderr
    );
    assert!(history.dir.path(LOG).exists());
    assert!(!history.dir.path(LOG_ASIDE).exists());
}

fn back_up(history: &AcknowledgedHistory) {
    let (from, to) = (history.dir.arg(DATABASE), history.dir.arg("backup.db"));
    let ended = run(program().args(["backup", "--db", &from, &to]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

fn status_of_publish(server: &TestServer) -> u16 {
    let body = json!({"type": "message", "payload": "may be refused"});
    server.post("/rooms/other/messages", &body).status
}

fn assert_degraded(server: &TestServer, part: &str) {
    let health = server.raw().get("/health").json();
    assert_eq!(health["status"], "degraded");
    let message = health["message"].as_str().expect("message");
    assert!(message.contains(part), "{message}");
}
