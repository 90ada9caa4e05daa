//! A database whose files come from different moments: no acknowledged offset is given out again in its epoch, and a
//! reader that resumes from before learns that messages are missing.

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::database_files::{
    DATABASE, FILES, LOG, MARK, PutBack, Saved, delete, flip, restore_with_sqlite,
};
use crate::support::{FAILURE, TempDir, TestServer, program, run, skip, wait_until};

const SESSION: &str = "the-publisher-and-nobody-else";
const BOTH_COMMANDS: [PutBack; 2] = [PutBack::Move, PutBack::Copy];

/// A directory with a database, and the positions that were acknowledged.
struct History {
    dir: TempDir,
    acknowledged: HashSet<(String, u64)>,
    last: Option<(String, u64)>,
    published: usize,
}

impl History {
    fn new() -> Self {
        Self {
            dir: TempDir::new(),
            acknowledged: HashSet::new(),
            last: None,
            published: 0,
        }
    }

    fn publish(&mut self, server: &TestServer, count: usize) {
        self.publish_sized(server, count, 10);
    }

    fn publish_sized(&mut self, server: &TestServer, count: usize, bytes: usize) {
        for _ in 0..count {
            self.published += 1;
            let id = self.published.to_string();
            let position = server.publish("lobby", SESSION, &id, "x".repeat(bytes));
            let position = parse(&position);
            assert!(
                self.acknowledged.insert(position.clone()),
                "{position:?} was acknowledged before"
            );
            self.last = Some(position);
        }
    }

    /// Starts a server, publishes, and ends it with this signal.
    fn run_until(&mut self, signal: Signal) {
        let mut server = self.dir.serve(&[]);
        self.publish(&server, 5);
        end(&mut server, signal);
    }

    /// Whether a reader of all acknowledged messages resumes without a gap.
    fn is_resumed(&self, server: &TestServer) -> bool {
        let (epoch, offset) = self.last.as_ref().expect("a message");
        let reader = server.client_at(&format!("/ws?since={offset}&epoch={epoch}"));
        let room = reader.welcome().room("lobby");
        let is_resumed = room.recovered.expect("recovered");
        assert_eq!(is_resumed, room.epoch == *epoch, "{room:?}");
        is_resumed
    }

    /// Starts a server on the files. The reader learns of a gap, and offsets are not used again.
    fn assert_restarted(&mut self, case: &str) {
        let server = self.dir.serve(&["--log-level", "warn"]);
        assert!(!self.is_resumed(&server), "{case}");
        let log = server.log();
        assert_eq!(
            log.matches("restarts in a new epoch").count(),
            1,
            "{case}: {log}"
        );
        self.publish(&server, 10);
        drop(server);
        // The new numbering continues.
        let server = self.dir.serve(&[]);
        assert!(self.is_resumed(&server), "{case}: {}", server.log());
    }
}

fn parse(position: &Value) -> (String, u64) {
    let epoch = position["epoch"].as_str().expect("epoch").to_owned();
    (epoch, position["offset"].as_u64().expect("offset"))
}

fn end(server: &mut TestServer, signal: Signal) {
    server.signal(signal);
    server.wait_for_exit();
}

#[test]
fn numbering_continues_after_every_end_of_the_process() {
    let mut history = History::new();
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

#[test]
fn numbering_restarts_on_a_stopped_servers_copy() {
    for how in BOTH_COMMANDS {
        let mut history = History::new();
        history.run_until(Signal::TERM);
        let saved = Saved::of(&history.dir, &[DATABASE]);
        history.run_until(Signal::TERM);
        saved.put_back(&history.dir, how);
        history.assert_restarted(&format!("{how:?}"));
    }
}

#[test]
fn numbering_restarts_on_a_running_servers_copy_without_its_log() {
    for how in BOTH_COMMANDS {
        for (signal, keeps_log) in [
            (Signal::TERM, true),
            (Signal::KILL, true),
            (Signal::KILL, false),
        ] {
            let case = format!("{how:?} after {signal:?}, log kept: {keeps_log}");
            let mut history = History::new();
            let mut server = history.dir.serve(&[]);
            history.publish(&server, 5);
            let saved = Saved::of(&history.dir, &[DATABASE]);
            history.publish(&server, 5);
            end(&mut server, signal);
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
fn numbering_restarts_on_a_copy_under_a_log_that_continues_another_file() {
    for how in BOTH_COMMANDS {
        let mut history = History::new();
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
        end(&mut server, Signal::KILL);
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
        let mut history = History::new();
        history.run_until(Signal::KILL);
        alter(&history.dir);
        history.assert_restarted(case);
    }
}

#[test]
fn numbering_restarts_on_a_log_of_another_moment_or_run() {
    for how in BOTH_COMMANDS {
        for same_run in [true, false] {
            let mut history = History::new();
            let mut server = history.dir.serve(&[]);
            history.publish(&server, 5);
            let saved = Saved::of(&history.dir, &[LOG]);
            if !same_run {
                end(&mut server, Signal::KILL);
                server = history.dir.serve(&[]);
            }
            history.publish(&server, 5);
            end(&mut server, Signal::KILL);
            saved.put_back(&history.dir, how);
            history.assert_restarted(&format!("{how:?}, same run: {same_run}"));
        }
    }
}

#[test]
fn numbering_restarts_on_files_that_were_all_set_back() {
    for how in BOTH_COMMANDS {
        for signal in [Signal::KILL, Signal::TERM] {
            let mut history = History::new();
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
        let mut history = History::new();
        history.run_until(Signal::TERM);
        let saved = Saved::of(&history.dir, &[DATABASE]);
        history.run_until(signal);
        restore_with_sqlite(&saved, &history.dir);
        history.assert_restarted(&format!("{signal:?}"));
    }
}

/// The running server notices at the next publish or within a second, and stores nothing in the wrong place.
#[test]
fn running_server_refuses_publishes_after_sqlite_restored_its_database() {
    let mut history = History::new();
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
    let health = server.raw().get("/health").json();
    assert_eq!(health["status"], "degraded");
    let message = health["message"].as_str().expect("message");
    assert!(message.contains("restart the server"), "{message}");
    end(&mut server, Signal::TERM);
    history.assert_restarted("restored while it ran");
}

#[test]
fn numbering_restarts_after_another_program_wrote_over_a_running_servers_file() {
    let mut history = History::new();
    let mut server = history.dir.serve(&["--log-level", "warn"]);
    history.publish(&server, 5);
    let saved = Saved::of(&history.dir, &[DATABASE]);
    history.publish(&server, 5);
    saved.put_back(&history.dir, PutBack::Copy);
    wait_until("the write is noticed", || {
        server.log().contains("another program has written")
    });
    end(&mut server, Signal::TERM);
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
            let mut other = History::new();
            other.run_until(Signal::TERM);
            Saved::of(&other.dir, &[MARK]).put_back(dir, PutBack::Copy);
        }),
    ];
    for (case, alter) in cases {
        for signal in [Signal::KILL, Signal::TERM] {
            let mut history = History::new();
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
            let mut history = History::new();
            let flags = ["--durability", durability, "--log-level", "warn"];
            let mut server = history.dir.serve(&flags);
            history.publish(&server, 5);
            end(&mut server, signal);
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
        let mut command = Command::new("unshare");
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

/// A backup is made while the server runs, put back in every way, and has all messages up to it.
#[test]
fn backup_is_restored_and_starts_new_epochs() {
    for how in BOTH_COMMANDS {
        for (signal, keeps_log) in [
            (Signal::TERM, true),
            (Signal::KILL, true),
            (Signal::KILL, false),
        ] {
            let case = format!("{how:?} after {signal:?}, log kept: {keeps_log}");
            let mut history = History::new();
            let mut server = history.dir.serve(&[]);
            history.publish(&server, 5);
            back_up(&history.dir, "backup.db");
            history.publish(&server, 5);
            end(&mut server, signal);
            let backup = fs::read(history.dir.path("backup.db")).expect("backup");
            match how {
                PutBack::Copy => fs::write(history.dir.path(DATABASE), backup).expect("copy"),
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
        let mut history = History::new();
        history.run_until(signal);
        let before = Saved::of(&history.dir, &[DATABASE, LOG]);
        back_up(&history.dir, "backup.db");
        let server = history.dir.serve(&["--log-level", "warn"]);
        assert!(history.is_resumed(&server), "the backup changes nothing");
        assert_eq!(server.log(), "");
        drop(server);
        drop(before);
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
fn backup_has_every_acknowledged_message_while_publishers_go_on() {
    let mut history = History::new();
    let server = history.dir.serve(&[]);
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
}

#[test]
fn backup_fails_with_one_line_and_leaves_files_as_they_are() {
    let history = History::new();
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
    let history = History::new();
    let _server = history.dir.serve(&[]);
    back_up(&history.dir, "backup.db");
    let file = fs::metadata(history.dir.path("backup.db")).expect("backup");
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
}
