//! `wscast backup` while a server runs and while none does, and what a restored backup means for readers.

use std::fs;

use rustix::process::Signal;

use crate::support::database_files::{DATABASE, FILES, LOG, PutBack, delete};
use crate::support::{AcknowledgedHistory, FAILURE, TempDir, program, run};

/// A backup is made while the server runs and restored in every way. It has all messages acknowledged before it.
#[test]
fn backup_is_restored_and_starts_new_epochs() {
    for how in [PutBack::Move, PutBack::Copy] {
        for (signal, keeps_log) in [
            (Signal::TERM, true),
            (Signal::KILL, true),
            (Signal::KILL, false),
        ] {
            let case = format!("{how:?} after {signal:?}, log kept: {keeps_log}");
            let mut history = AcknowledgedHistory::new();
            let mut server = history.dir.serve(&[]);
            history.publish(&server, 5);
            back_up(&history.dir, "backup.db");
            history.publish(&server, 5);
            server.end(signal);
            let backup = fs::read(history.dir.path("backup.db")).expect("backup");
            match how {
                PutBack::Copy | PutBack::Archive => {
                    fs::write(history.dir.path(DATABASE), backup).expect("copy")
                }
                PutBack::Move => {
                    let (from, to) = (history.dir.path("backup.db"), history.dir.path(DATABASE));
                    fs::rename(from, to).expect("move");
                }
            }
            if !keeps_log {
                delete(&history.dir, LOG);
            }
            history.assert_restarted(&case);
            let server = history.dir.serve(&[]);
            let page = server.get_json("/rooms/lobby/messages?since=0");
            assert_eq!(page["contiguous"], true, "{case}: {page}");
            let stored = page["messages"].as_array().expect("messages").len();
            assert_eq!(stored, 5 + 10, "{case}");
        }
    }
}

/// The epochs are new even where the last run of the server ended with the backup.
#[test]
fn backup_of_a_stopped_or_killed_server_starts_new_epochs_too() {
    for signal in [Signal::TERM, Signal::KILL] {
        let mut history = AcknowledgedHistory::new();
        history.run_until(signal);
        back_up(&history.dir, "backup.db");
        let server = history.dir.serve(&["--log-level", "warn"]);
        assert!(history.is_resumed(&server), "the backup changes nothing");
        assert_eq!(server.log(), "");
        drop(server);
        for name in FILES {
            delete(&history.dir, name);
        }
        fs::rename(history.dir.path("backup.db"), history.dir.path(DATABASE)).expect("move");
        history.assert_restarted(&format!("{signal:?}"));
    }
}

fn back_up(dir: &TempDir, name: &str) {
    let (database, copy) = (dir.arg(DATABASE), dir.arg(name));
    let ended = run(program().args(["backup", "--db", &database, &copy]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let expected = fs::metadata(&copy).expect("backup").len();
    assert_eq!(ended.stdout, format!("{copy}: {expected} bytes\n"));
}

#[test]
fn backup_has_every_acknowledged_message_while_publishers_continue() {
    let mut history = AcknowledgedHistory::new();
    let mut server = history.dir.serve(&["--log-level", "warn"]);
    history.publish_sized(&server, 50, 50_000);
    for round in 0..5 {
        history.publish(&server, 20);
        let acknowledged = history.last.as_ref().expect("a message").1;
        let name = format!("backup-{round}.db");
        let mut client = server.client_at("/ws?room=lobby");
        (0..50).for_each(|_| client.say("goes on"));
        back_up(&history.dir, &name);
        let restored = TempDir::new();
        fs::rename(history.dir.path(&name), restored.path(DATABASE)).expect("move");
        let restored = restored.serve(&[]);
        let page = restored.get_json("/rooms/lobby/messages?limit=1");
        assert!(page["last"].as_u64() >= Some(acknowledged), "{page}");
        (0..50).for_each(|_| drop(client.next_of("message")));
    }
    // The server does not take a backup for a change of its database.
    history.publish(&server, 1);
    server.end(Signal::KILL);
    assert_eq!(server.log(), "");
    assert!(history.is_resumed(&history.dir.serve(&[])));
}

#[test]
fn backup_fails_with_one_line_and_leaves_files_as_they_are() {
    let history = AcknowledgedHistory::new();
    let dir = &history.dir;
    drop(dir.serve(&[]));
    let database = dir.arg(DATABASE);
    fs::write(dir.path("existing"), "precious").expect("write");
    fs::write(dir.path("diary"), "dear diary").expect("write");
    let (existing, new) = (dir.arg("existing"), dir.arg("new"));
    for (from, to, reason) in [
        (database.as_str(), existing.as_str(), "File exists"),
        (&database, "/nowhere/at/all", "/nowhere/at/all"),
        (&dir.arg("missing"), &new, "No such file"),
        (&dir.arg("diary"), &new, "not a wscast database"),
        ("/dev/null", &new, "not a regular file"),
    ] {
        let ended = run(program().args(["backup", "--db", from, to]));
        assert_eq!(ended.code, FAILURE, "{}", ended.stderr);
        let line = ended.only_line();
        assert!(line.contains(reason), "{line}");
        assert!(!dir.path("new").exists(), "{line}");
    }
    assert_eq!(fs::read(dir.path("existing")).expect("read"), b"precious");
    assert!(!dir.path("missing").exists());
    let ended = run(program().args(["backup", &new]));
    assert!(ended.only_line().contains("--db"), "{}", ended.stderr);
}

#[test]
fn only_its_owner_can_read_a_backup() {
    use std::os::unix::fs::PermissionsExt;
    let history = AcknowledgedHistory::new();
    let _server = history.dir.serve(&[]);
    back_up(&history.dir, "backup.db");
    let file = fs::metadata(history.dir.path("backup.db")).expect("backup");
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
}
