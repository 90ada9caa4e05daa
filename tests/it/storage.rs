//! History on disk: what survives a restart, what is pruned, and which files are accepted.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    FAILURE, TempDir, TestServer, payloads, read_only_disk_command, run, wait_for, wait_until,
};

const SESSION: &str = "alice-and-nobody-else";

fn payloads_of(server: &TestServer, room: &str) -> Vec<Value> {
    payloads(&server.get_json(&format!("/rooms/{room}/messages?limit=1000")))
}

#[test]
fn history_ids_and_epochs_survive_a_restart() {
    let disk = TempDir::new();
    for end in [Signal::TERM, Signal::KILL] {
        let room = format!("room-{end:?}").replace(|c: char| !c.is_alphanumeric(), "");
        let session = format!("the-session-of-{room}");
        let mut server = disk.serve(&[]);
        let payload = json!({"text": "caf\u{e9} \u{4f60}\u{597d}\n\u{0}", "n": 1e3});
        let position = server.publish(&room, &session, "first", payload.clone());
        let mut alice = server.client_at(&format!("/ws?room={room}"));
        alice.send_json(json!({"type": "custom_event", "payload": null}));
        let event = alice.next_of("custom_event");
        server.signal(end);
        server.wait_for_exit();

        let server = disk.serve(&[]);
        let epoch = position["epoch"].as_str().expect("epoch");
        let mut bob = server.client_at(&format!("/ws?room={room}&since=0&epoch={epoch}"));
        assert_eq!(bob.welcome().room(&room).recovered, Some(true));
        let message = bob.expect(payload.clone());
        assert_eq!(message["offset"], position["offset"]);
        assert_eq!(message["id"], "first");
        assert_eq!(
            bob.next_of("custom_event"),
            event,
            "with its author and time"
        );
        // The same id in the same session is still the same message.
        assert_eq!(server.publish(&room, &session, "first", "again"), position);
        bob.say("new");
        assert_eq!(bob.expect("new")["offset"], 3);
        assert_eq!(server.total("duplicate_publishes"), 1);
    }
}

/// Payloads are stored as text, so that the layout of numbers survives too.
#[test]
fn payload_text_is_unchanged_after_a_restart() {
    let disk = TempDir::new();
    let text = r#"{"type":"message","payload":{ "a" : 1.50, "b":[ 12345678901234567890123 ] }}"#;
    let server = disk.serve(&[]);
    let mut alice = server.client();
    alice.send_text(text);
    let before = alice.next_text();
    drop(server);
    let server = disk.serve(&[]);
    let mut bob = server.client_at("/ws?since=0");
    assert_eq!(bob.next_text(), before);
}

#[test]
fn stopped_server_leaves_one_file_that_can_be_copied() {
    let disk = TempDir::new();
    let mut server = disk.serve(&[]);
    server.publish("lobby", SESSION, "1", "copied");
    server.signal(Signal::TERM);
    assert!(server.wait_for_exit().success());
    assert!(!disk.path("history.db-wal").exists(), "{}", server.log());
    let other = TempDir::new();
    fs::copy(disk.path("history.db"), other.path("history.db")).expect("copy");
    assert_eq!(payloads_of(&other.serve(&[]), "lobby"), ["copied"]);
}

#[test]
fn database_is_readable_only_by_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let disk = TempDir::new();
    let _server = disk.serve(&[]);
    for name in ["history.db", "history.db-wal", "history.db-mark"] {
        let mode = fs::metadata(disk.path(name))
            .expect(name)
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn limits_of_history_hold_on_disk_and_after_a_restart_with_lower_ones() {
    let disk = TempDir::new();
    let count = |server: &TestServer, room: &str| payloads_of(server, room).len();
    {
        let server = disk.serve(&["--history-messages", "50"]);
        for n in 0..80 {
            server.publish("a", SESSION, &format!("a{n}"), n);
        }
        let page = server.get_json("/rooms/a/messages?since=0&limit=1000");
        assert_eq!((&page["first"], &page["last"]), (&json!(31), &json!(80)));
        assert_eq!(page["contiguous"], false);
        assert_eq!(count(&server, "a"), 50);
        assert_eq!(server.stats()["history"]["messages"], 50);
        assert_eq!(server.stats()["history"]["messages_pruned"], 30);
    }
    {
        let server = disk.serve(&["--history-messages", "20"]);
        assert_eq!(count(&server, "a"), 20);
        let page = server.get_json("/rooms/a/messages?since=60");
        assert_eq!(page["contiguous"], true, "{page}");
    }
    {
        // "79" and its neighbours are two bytes each.
        let server = disk.serve(&["--history-bytes", "11"]);
        assert_eq!(payloads_of(&server, "a"), [75, 76, 77, 78, 79]);
        assert_eq!(server.stats()["history"]["bytes"], 10);
    }
    {
        let server = disk.serve(&["--history-age", "0.001"]);
        wait_until("the rest expires", || {
            server.stats()["history"]["messages"] == 0
        });
        assert_eq!(server.stats()["history"]["bytes"], 0);
    }
}

#[test]
fn largest_room_is_pruned_when_all_together_are_too_large() {
    let disk = TempDir::new();
    let server = disk.serve(&["--history-total-bytes", "64KiB"]);
    server.publish("small", SESSION, "small", "stays");
    for n in 0..200 {
        server.publish("large", SESSION, &format!("{n}"), "x".repeat(1000));
    }
    let history = server.stats()["history"].clone();
    assert!(
        history["bytes"].as_u64().expect("bytes") <= 64 * 1024,
        "{history}"
    );
    assert!(
        history["bytes"].as_u64().expect("bytes") > 48 * 1024,
        "{history}"
    );
    assert_eq!(payloads_of(&server, "small"), ["stays"]);
    let page = server.get_json("/rooms/large/messages?limit=1");
    assert_eq!(page["last"], 200);
}

/// The file grows to the size that its limits need and no further.
#[test]
fn database_stops_growing() {
    let disk = TempDir::new();
    let limits = ["--history-messages", "500", "--log-level", "warn"];
    let disk_bytes = |server: &TestServer| {
        let bytes = server.stats()["store"]["disk_bytes"].as_u64();
        bytes.expect("a number")
    };
    let mut sizes = Vec::new();
    {
        let server = disk.serve(&limits);
        let mut alice = server.client();
        for round in 0..4 {
            // 10 MB a round, of which 1 MB is kept.
            for _ in 0..50 {
                (0..100).for_each(|_| alice.say("x".repeat(2000)));
                (0..100).for_each(|_| drop(alice.next_of("message")));
            }
            // Publishing leaves a log of any size up to its limit, which is emptied a second later.
            let settled = wait_for("the log is emptied", || {
                let log = fs::metadata(disk.path("history.db-wal")).expect("log");
                (log.len() == 0).then(|| disk_bytes(&server))
            });
            eprintln!("round {round}: {settled} bytes");
            sizes.push(settled);
        }
    }
    assert!(sizes[3] < sizes[0].max(sizes[1]) + (2 << 20), "{sizes:?}");
    let server = disk.serve(&limits);
    assert_eq!(server.stats()["history"]["messages"], 500);
}

#[test]
fn room_keeps_its_numbering_long_after_its_history_expired() {
    for args in [&[][..], &["--db"]] {
        let disk = TempDir::new();
        let limits = ["--history-age", "1"];
        let server = match args {
            [] => TestServer::start(&limits),
            _ => disk.serve(&limits),
        };
        let position = server.publish("quiet", SESSION, "1", "the only message");
        wait_until("history expires", || {
            server.stats()["history"]["messages"] == 0
        });
        let since = format!(
            "/ws?room=quiet&since=1&epoch={}",
            position["epoch"].as_str().expect("epoch")
        );
        let back = server.client_at(&since);
        assert_eq!(
            back.welcome().room("quiet").recovered,
            Some(true),
            "{args:?}"
        );
    }
}

/// The original server has assigned further offsets after the copy.
#[test]
fn numbering_restarts_on_a_copy_of_a_running_servers_database() {
    let disk = TempDir::new();
    let server = disk.serve(&[]);
    let position = server.publish("lobby", SESSION, "1", "copied");
    let database = Connection::open(disk.path("history.db")).expect("open");
    let copy = disk.path("copy.db");
    let backup = "VACUUM INTO ?1";
    let made = database.execute(backup, [copy.to_str().expect("UTF-8")]);
    made.expect("copy");
    drop(database);
    server.publish("lobby", SESSION, "2", "after the copy");
    drop(server);
    for name in ["history.db-wal", "history.db-shm"] {
        fs::remove_file(disk.path(name)).expect(name);
    }
    fs::rename(copy, disk.path("history.db")).expect("put back");

    let mut server = disk.serve(&[]);
    server.publish("lobby", SESSION, "3", "on the copy");
    let epoch = position["epoch"].as_str().expect("epoch");
    let resume = |server: &TestServer, epoch: &str| {
        let client = server.client_at(&format!("/ws?since=2&epoch={epoch}"));
        client.welcome().room("lobby")
    };
    assert_eq!(resume(&server, epoch).recovered, Some(false));
    assert_eq!(payloads_of(&server, "lobby"), ["copied", "on the copy"]);
    // From now on it counts as the original.
    let epoch = resume(&server, epoch).epoch;
    server.signal(Signal::KILL);
    server.wait_for_exit();
    let room = resume(&disk.serve(&[]), &epoch);
    assert_eq!(room.recovered, Some(true));
}

/// A machine without a battery-backed clock may start in the wrong year.
#[test]
fn messages_stored_under_a_clock_ahead_still_expire() {
    let disk = TempDir::new();
    disk.serve(&[])
        .publish("a", SESSION, "1", "from the future");
    let database = Connection::open(disk.path("history.db")).expect("open");
    let years = "UPDATE messages SET ts = ts + 300000000000; UPDATE ids SET ts = ts + 300000000000";
    database.execute_batch(years).expect("update");
    drop(database);
    let server = disk.serve(&["--history-age", "1"]);
    server.publish("b", SESSION, "2", "from the present");
    wait_until("both messages expire", || {
        server.stats()["history"]["messages"] == 0
    });
}

#[test]
fn second_server_on_the_same_file_fails_with_one_line() {
    let disk = TempDir::new();
    let server = disk.serve(&[]);
    let line = refused(&disk);
    assert!(line.contains("another server uses it"), "{line}");
    let mut alice = server.client();
    alice.say("undisturbed");
    alice.expect("undisturbed");
}

/// The start fails with one line, and the file is unchanged.
#[test]
fn foreign_database_is_refused_and_unchanged() {
    let disk = TempDir::new();
    let path = disk.path("history.db");
    let foreign = || {
        let database = Connection::open(&path).expect("create");
        let create =
            "PRAGMA journal_mode = WAL; CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)";
        database.execute_batch(create).expect("create");
    };
    let newer = || {
        drop(disk.serve(&[]));
        let database = Connection::open(&path).expect("open");
        database
            .pragma_update(None, "user_version", 7)
            .expect("update");
    };
    let prepare: [(&dyn Fn(), &str); 4] = [
        (
            &|| fs::write(&path, "dear diary").expect("write"),
            "not a wscast database",
        ),
        (
            &|| fs::write(&path, vec![7; 8192]).expect("write"),
            "not a wscast database",
        ),
        (&foreign, "not a wscast database"),
        (&newer, "later version"),
    ];
    for (prepare, why) in prepare {
        let _none = fs::remove_file(&path);
        prepare();
        let before = fs::read(&path).expect("read");
        let line = refused(&disk);
        assert!(line.contains(why), "{line}");
        assert!(line.contains("left as it is"), "{line}");
        assert_eq!(fs::read(&path).expect("read"), before, "{why}");
    }
}

#[test]
fn unwritable_path_fails_with_one_line() {
    let disk = TempDir::new();
    fs::create_dir(disk.path("history.db")).expect("directory");
    assert!(refused(&disk).contains("history.db"));
    let missing = TestServer::command(&["--db", "/nowhere/at/all.db"]);
    assert!(only_line_of_a_failed_start(missing).contains("/nowhere/at/all.db"));
}

#[test]
fn read_only_file_system_fails_with_one_line() {
    let Some(command) = read_only_disk_command() else {
        return;
    };
    let line = only_line_of_a_failed_start(command);
    assert!(line.contains("Read-only file system"), "{line}");
}

/// Reading a pipe would block for ever.
#[test]
fn pipe_or_device_as_database_fails_with_one_line() {
    let disk = TempDir::new();
    let made = Command::new("mkfifo").arg(disk.path("history.db")).status();
    assert!(made.expect("mkfifo").success());
    for path in [disk.path("history.db"), "/dev/null".into()] {
        let path = path.to_str().expect("UTF-8").to_owned();
        let line = only_line_of_a_failed_start(TestServer::command(&["--db", &path]));
        assert!(line.contains("not a regular file"), "{line}");
    }
}

/// SQLite keeps its log beside the file that the link points to, and checkpoints it there.
#[test]
fn symbolic_link_to_the_database_is_followed() {
    let disk = TempDir::new();
    fs::create_dir(disk.path("target")).expect("directory");
    let log = disk.path("target/real.db-wal");
    symlink(disk.path("target/real.db"), disk.path("history.db")).expect("link");
    {
        let server = disk.serve(&[]);
        let on_disk = |path| fs::metadata(path).map_or(0, |file: fs::Metadata| file.len());
        let mut number = 0;
        wait_until("the log is checkpointed", || {
            for _ in 0..20 {
                server.publish("a", SESSION, &number.to_string(), "x".repeat(60_000));
                number += 1;
            }
            on_disk(disk.path("target/real.db")) > 4 << 20
        });
        let store = server.stats()["store"]["disk_bytes"].clone();
        assert!(store.as_u64() >= Some(on_disk(log.clone())), "{store}");
    }
    assert!(!payloads_of(&disk.serve(&[]), "a").is_empty());
}

/// SQLite gives some of these names a special meaning.
#[test]
fn database_may_have_any_name() {
    let disk = TempDir::new();
    for name in [":memory:", "file:a.db?mode=memory", "two words 房间.db"] {
        let serve = || {
            let mut command = TestServer::command(&["--db", name]);
            command.current_dir(disk.path("."));
            TestServer::start_command(command)
        };
        serve().publish("a", SESSION, "1", name);
        assert_eq!(payloads_of(&serve(), "a"), [name]);
        assert!(disk.path(name).exists(), "{name}");
    }
}

/// Starts a server that must not start on the file, and returns the only line it prints.
fn refused(disk: &TempDir) -> String {
    only_line_of_a_failed_start(disk.command(&[]))
}

fn only_line_of_a_failed_start(mut command: Command) -> String {
    let ended = run(&mut command);
    assert_eq!(ended.code, FAILURE, "{}", ended.stderr);
    ended.only_line().to_owned()
}
