//! History on disk: what it keeps over a restart, what it drops, and which files it takes.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Scratch, SmallDisk, TestServer, eventually};

const SESSION: &str = "alice-and-nobody-else";

fn payloads(server: &TestServer, room: &str) -> Vec<Value> {
    let page = server.get_json(&format!("/rooms/{room}/messages?limit=1000"));
    let messages = page["messages"].as_array().expect("messages");
    messages.iter().map(|m| m["payload"].clone()).collect()
}

#[test]
fn everything_but_the_connections_outlives_the_server() {
    let disk = Scratch::new();
    for end in [Signal::TERM, Signal::KILL] {
        let room = format!("room-{end:?}").replace(|c: char| !c.is_alphanumeric(), "");
        let session = format!("the-session-of-{room}");
        let mut server = disk.serve(&[]);
        let payload = json!({"text": "caf\u{e9} \u{4f60}\u{597d}\n\u{0}", "n": 1e3});
        let place = server.publish(&room, &session, "first", payload.clone());
        let mut alice = server.client_at(&format!("/ws?room={room}"));
        alice.send(json!({"type": "custom_event", "payload": null}));
        let event = alice.next_of("custom_event");
        server.signal(end);
        server.wait_for_exit();

        let server = disk.serve(&[]);
        let epoch = place["epoch"].as_str().expect("epoch");
        let mut bob = server.client_at(&format!("/ws?room={room}&since=0&epoch={epoch}"));
        assert_eq!(bob.welcome()["rooms"][0]["recovered"], true);
        let message = bob.expect(payload.clone());
        assert_eq!(message["offset"], place["offset"]);
        assert_eq!(message["id"], "first");
        assert_eq!(bob.next_of("custom_event"), event, "sender, time and all");
        // The same id in the same session is the same message, now as before.
        assert_eq!(server.publish(&room, &session, "first", "again"), place);
        bob.say("new");
        assert_eq!(bob.expect("new")["offset"], 3);
        assert_eq!(server.total("duplicate_publishes"), 1);
    }
}

/// The layout of numbers survives too: payloads are relayed as they were written.
#[test]
fn a_payload_is_the_same_text_after_a_restart() {
    let disk = Scratch::new();
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
fn a_stopped_server_leaves_one_file_and_can_be_copied() {
    let disk = Scratch::new();
    let mut server = disk.serve(&[]);
    server.publish("lobby", SESSION, "1", "copied");
    server.signal(Signal::TERM);
    assert!(server.wait_for_exit().success());
    assert!(!disk.path("history.db-wal").exists(), "{}", server.log());
    let elsewhere = Scratch::new();
    fs::copy(disk.path("history.db"), elsewhere.path("history.db")).expect("copy");
    assert_eq!(payloads(&elsewhere.serve(&[]), "lobby"), ["copied"]);
}

#[test]
fn only_its_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let disk = Scratch::new();
    let _server = disk.serve(&[]);
    for name in ["history.db", "history.db-wal"] {
        let mode = fs::metadata(disk.path(name))
            .expect(name)
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn bounds_hold_on_disk_and_over_a_restart_with_narrower_ones() {
    let disk = Scratch::new();
    let count = |server: &TestServer, room: &str| payloads(server, room).len();
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
        assert_eq!(payloads(&server, "a"), [75, 76, 77, 78, 79]);
        assert_eq!(server.stats()["history"]["bytes"], 10);
    }
    {
        let server = disk.serve(&["--history-age", "0.001"]);
        eventually("age takes the rest", || {
            (server.stats()["history"]["messages"] == 0).then_some(())
        });
        assert_eq!(server.stats()["history"]["bytes"], 0);
    }
}

#[test]
fn the_largest_room_gives_way_when_all_together_are_too_large() {
    let disk = Scratch::new();
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
    assert_eq!(payloads(&server, "small"), ["stays"]);
    let page = server.get_json("/rooms/large/messages?limit=1");
    assert_eq!(page["last"], 200);
}

/// The file grows to what its bounds need and then no more, and shrinks when they are narrowed.
#[test]
fn the_file_stops_growing() {
    let disk = Scratch::new();
    let bounds = ["--history-messages", "500", "--log-level", "warn"];
    let disk_bytes = |server: &TestServer| {
        let bytes = server.stats()["store"]["disk_bytes"].as_u64();
        bytes.expect("a number")
    };
    let mut sizes = Vec::new();
    {
        let server = disk.serve(&bounds);
        let mut alice = server.client();
        for round in 0..4 {
            // 10 MB a round, of which 1 MB is kept.
            for _ in 0..50 {
                (0..100).for_each(|_| alice.say("x".repeat(2000)));
                (0..100).for_each(|_| drop(alice.next_of("message")));
            }
            let settled = eventually("the log is moved", || {
                let now = disk_bytes(&server);
                (now < 24 << 20).then_some(now)
            });
            eprintln!("round {round}: {settled} bytes");
            sizes.push(settled);
        }
    }
    // Each with its log or without, as it was when the round ended.
    let earlier = sizes[0].max(sizes[1]);
    assert!(sizes[3] < earlier + (12 << 20), "{sizes:?}");
    let server = disk.serve(&bounds);
    assert_eq!(server.stats()["history"]["messages"], 500);
    // Without its log.
    assert!(disk_bytes(&server) < 10 << 20, "{}", disk_bytes(&server));
}

#[test]
fn a_room_keeps_its_numbers_for_long_after_its_history() {
    for args in [&[][..], &["--db"]] {
        let disk = Scratch::new();
        let bounds = ["--history-age", "1"];
        let server = match args {
            [] => TestServer::start(&bounds),
            _ => disk.serve(&bounds),
        };
        let place = server.publish("quiet", SESSION, "1", "the last for long");
        eventually("history expires", || {
            (server.stats()["history"]["messages"] == 0).then_some(())
        });
        let since = format!(
            "/ws?room=quiet&since=1&epoch={}",
            place["epoch"].as_str().expect("epoch")
        );
        let back = server.client_at(&since);
        assert_eq!(back.welcome()["rooms"][0]["recovered"], true, "{args:?}");
    }
}

/// With the power, transactions that were not synced may go: offsets that clients have seen would be
/// given out again.
#[test]
fn numbering_restarts_after_the_machine_went_down_unless_every_batch_was_synced() {
    for (durability, restarts) in [("normal", true), ("full", false)] {
        let disk = Scratch::new();
        let run = ["--durability", durability];
        let mut server = disk.serve(&run);
        let place = server.publish("lobby", SESSION, "1", "before");
        server.signal(Signal::KILL);
        server.wait_for_exit();
        {
            let database = Connection::open(disk.path("history.db")).expect("open");
            let other = "UPDATE state SET value = 'another-boot ' || ?1 WHERE key = 'run'";
            assert_eq!(database.execute(other, [durability]).expect("update"), 1);
        }
        let server = disk.serve(&run);
        let epoch = place["epoch"].as_str().expect("epoch");
        let back = server.client_at(&format!("/ws?since=1&epoch={epoch}"));
        let room = &back.welcome()["rooms"][0];
        assert_eq!(room["recovered"], !restarts, "{durability}");
        assert_eq!(room["epoch"] != epoch, restarts, "{durability}");
        assert_eq!(room["offset"], 1, "offsets go on");
        assert_eq!(payloads(&server, "lobby"), ["before"]);
    }
}

/// The server that was copied from has given out further offsets since.
#[test]
fn numbering_restarts_on_a_copy_that_was_made_while_a_server_ran() {
    let disk = Scratch::new();
    let server = disk.serve(&[]);
    let place = server.publish("lobby", SESSION, "1", "copied");
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
    server.publish("lobby", SESSION, "3", "in its stead");
    let epoch = place["epoch"].as_str().expect("epoch");
    let back = |server: &TestServer, epoch: &str| {
        let client = server.client_at(&format!("/ws?since=2&epoch={epoch}"));
        client.welcome()["rooms"][0].clone()
    };
    assert_eq!(back(&server, epoch)["recovered"], false);
    assert_eq!(payloads(&server, "lobby"), ["copied", "in its stead"]);
    // It is no copy any more.
    let epoch = back(&server, epoch)["epoch"].clone();
    server.signal(Signal::KILL);
    server.wait_for_exit();
    let room = back(&disk.serve(&[]), epoch.as_str().expect("epoch"));
    assert_eq!(room["recovered"], true);
}

/// A machine without a clock of its own may start in the wrong year.
#[test]
fn what_was_stored_under_a_clock_that_was_ahead_expires_all_the_same() {
    let disk = Scratch::new();
    disk.serve(&[])
        .publish("a", SESSION, "1", "from the future");
    let database = Connection::open(disk.path("history.db")).expect("open");
    let years = "UPDATE messages SET ts = ts + 300000000000; UPDATE ids SET ts = ts + 300000000000";
    database.execute_batch(years).expect("update");
    drop(database);
    let server = disk.serve(&["--history-age", "1"]);
    server.publish("b", SESSION, "2", "behind it");
    eventually("age takes both", || {
        (server.stats()["history"]["messages"] == 0).then_some(())
    });
}

#[test]
fn a_second_server_is_told_who_has_the_file() {
    let disk = Scratch::new();
    let server = disk.serve(&[]);
    let line = refused(&disk, &[]);
    assert!(line.contains("another server uses it"), "{line}");
    let mut alice = server.client();
    alice.say("undisturbed");
    alice.expect("undisturbed");
}

/// One line, exit code 1, and not a byte of the file is changed.
#[test]
fn a_file_that_is_not_ours_is_left_as_it_is() {
    let disk = Scratch::new();
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
        let line = refused(&disk, &[]);
        assert!(line.contains(why), "{line}");
        assert!(line.contains("left as it is"), "{line}");
        assert_eq!(fs::read(&path).expect("read"), before, "{why}");
    }
}

#[test]
fn a_place_that_cannot_be_written_is_one_line() {
    let disk = Scratch::new();
    fs::create_dir(disk.path("history.db")).expect("directory");
    assert!(refused(&disk, &[]).contains("history.db"));
    let missing = TestServer::command(&["--db", "/nowhere/at/all.db"]);
    assert!(one_line(missing).contains("/nowhere/at/all.db"));
    let line = one_line(SmallDisk::read_only_command());
    assert!(line.contains("Read-only file system"), "{line}");
}

/// A pipe never ends, so a server that read it would never start.
#[test]
fn what_is_no_file_is_one_line() {
    let disk = Scratch::new();
    let made = Command::new("mkfifo").arg(disk.path("history.db")).status();
    assert!(made.expect("mkfifo").success());
    for path in [disk.path("history.db"), "/dev/null".into()] {
        let path = path.to_str().expect("UTF-8").to_owned();
        let program = TestServer::command(&["--db", &path]);
        let mut patiently = Command::new("timeout");
        patiently.arg("20").arg(program.get_program());
        patiently.args(program.get_args());
        let line = one_line(patiently);
        assert!(line.contains("not a regular file"), "{line}");
    }
}

/// SQLite keeps its log beside the file that the link leads to; it is moved into the database there too.
#[test]
fn a_link_to_the_file_is_the_file() {
    let disk = Scratch::new();
    fs::create_dir(disk.path("elsewhere")).expect("directory");
    let log = disk.path("elsewhere/real.db-wal");
    symlink(disk.path("elsewhere/real.db"), disk.path("history.db")).expect("link");
    {
        let server = disk.serve(&[]);
        let on_disk = |path| fs::metadata(path).map_or(0, |file: fs::Metadata| file.len());
        let mut number = 0;
        eventually("the log is moved", || {
            for _ in 0..20 {
                server.publish("a", SESSION, &number.to_string(), "x".repeat(60_000));
                number += 1;
            }
            let moved = on_disk(disk.path("elsewhere/real.db")) > 4 << 20;
            moved.then_some(())
        });
        let store = server.stats()["store"]["disk_bytes"].clone();
        assert!(store.as_u64() >= Some(on_disk(log.clone())), "{store}");
    }
    assert!(!payloads(&disk.serve(&[]), "a").is_empty());
}

/// These mean something to SQLite.
#[test]
fn a_file_may_have_any_name() {
    let disk = Scratch::new();
    for name in [":memory:", "file:a.db?mode=memory", "two words 房间.db"] {
        let serve = || {
            let mut command = TestServer::command(&["--db", name]);
            command.current_dir(disk.path("."));
            TestServer::start_command(command)
        };
        serve().publish("a", SESSION, "1", name);
        assert_eq!(payloads(&serve(), "a"), [name]);
        assert!(disk.path(name).exists(), "{name}");
    }
}

/// Starts a server that must not start on this file; gives the line that it says.
fn refused(disk: &Scratch, args: &[&str]) -> String {
    let database = disk.database();
    let database = database.iter().map(String::as_str);
    one_line(TestServer::command(
        &database.chain(args.iter().copied()).collect::<Vec<_>>(),
    ))
}

fn one_line(mut command: std::process::Command) -> String {
    let output = command.stdout(Stdio::null()).output().expect("run");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}
