//! SIGHUP reads the settings file again: settings that change at once, those that need a restart, and invalid files.

use std::fs;
use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    ClientProgram, TEXT, TempDir, TestServer, handshake_with, program, wait_for, wait_until,
};

/// A server with a settings file.
struct Reloaded {
    dir: TempDir,
    server: TestServer,
}

impl Reloaded {
    /// Starts a server with this settings file and few flags, because flags win over it.
    fn start(settings: &str) -> Self {
        Self::start_with(settings, &[])
    }

    fn start_with(settings: &str, args: &[&str]) -> Self {
        let dir = TempDir::new();
        fs::write(dir.path("wscast.toml"), settings).expect("write");
        let mut command = program();
        command.args(["--host=127.0.0.1", "--port=0", "--config"]);
        command.arg(dir.path("wscast.toml")).args(args);
        let server = TestServer::start_command(command);
        Self { dir, server }
    }

    /// Writes the file, sends SIGHUP and returns the line that the server logs for it.
    fn reload(&self, settings: impl AsRef<[u8]>) -> String {
        let logged = self.server.log().len();
        fs::write(self.dir.path("wscast.toml"), settings).expect("write");
        self.server.signal(Signal::HUP);
        wait_for("the reload is logged", || {
            let log = self.server.log();
            let mut lines = log[logged..].lines();
            let line = lines.find(|line| line.contains("reloaded: "))?;
            Some(line.replace(&self.dir.arg("wscast.toml"), "FILE"))
        })
    }

    fn allows(&self, origin: &str) -> bool {
        let mut page = self.server.raw();
        page.send(handshake_with("/ws", &[&format!("Origin: {origin}")]));
        assert_eq!(page.response().status, 101);
        let frame = page.frame().expect("a frame");
        frame.opcode == TEXT || frame.close_code() != 4003
    }
}

// The server waits for its keys before it listens. SIGHUP arrives meanwhile.
#[test]
fn hangup_during_the_start_reloads_after_it() {
    let keys = TcpListener::bind("127.0.0.1:0").expect("bind");
    let dir = TempDir::new();
    let write = |settings: &str| fs::write(dir.path("wscast.toml"), settings).expect("write");
    write("allow-origin = 'https://a.example'");
    let mut command = program();
    command.args(["--host=127.0.0.1", "--port=0", "--log-level=info"]);
    command.args(["--config", &dir.arg("wscast.toml")]);
    let url = keys.local_addr().expect("an address");
    command.args(["--jwks-url", &format!("http://{url}/keys")]);
    let mut server = ClientProgram::start_command(command);
    let fetch = keys.accept().expect("a fetch");
    write("allow-origin = 'https://b.example'");
    server.signal(Signal::HUP);
    drop((fetch, keys));
    wait_until("the settings are reloaded", || {
        let log = server.stderr();
        let mut lines = log.lines();
        lines.any(|line| line.contains("reloaded: ") && line.contains("--allow-origin"))
    });
    assert!(server.is_running());
}

#[test]
fn reload_changes_origins_limits_and_log_level_of_a_running_server() {
    let reloaded = Reloaded::start("allow-origin = 'https://a.example'\n");
    let server = &reloaded.server;
    let mut early = server.client();
    assert!(reloaded.allows("https://a.example") && !reloaded.allows("https://b.example"));
    let line = reloaded.reload(
        "allow-origin = ['https://b.example']\nmax-members-per-room = 1\nmax-message-bytes = 100\n\
         max-rooms-per-connection = 2\nlog-level = 'debug'\n",
    );
    assert!(
        line.ends_with(
            "reloaded: settings in \"FILE\": changed --allow-origin, --max-message-bytes, \
             --max-rooms-per-connection, --max-members-per-room, --log-level"
        ),
        "{line}"
    );
    assert!(!reloaded.allows("https://a.example") && reloaded.allows("https://b.example"));
    early.join("ops");
    early.send_json(json!({"type": "join", "room": "third"}));
    assert_eq!(early.expect_error(), "too_many_rooms");
    let mut late = server.client_at("/ws?room=late");
    late.send_json(json!({"type": "join", "room": "ops"}));
    assert_eq!(late.expect_error(), "room_full");
    // A connection keeps the largest message that it started with.
    early.say("x".repeat(200));
    early.expect("x".repeat(200));
    late.say("x".repeat(200));
    assert_eq!(late.expect_error(), "message_too_large");
    assert_eq!(late.close_code(), 1009);
    let id = server.client_at("/ws?room=own").id();
    wait_until("the client is logged at debug", || {
        server.log().contains(&id)
    });
}

#[test]
fn reload_changes_the_number_of_rooms_and_of_connections() {
    for store in [&[][..], &["--db"]] {
        let dir = TempDir::new();
        let database = dir.arg("history.db");
        let args: Vec<&str> = store
            .iter()
            .copied()
            .chain(store.iter().map(|_| &*database))
            .collect();
        let reloaded = Reloaded::start_with("max-rooms = 2\n", &args);
        let server = &reloaded.server;
        let mut client = server.client_at("/ws?room=a&room=b");
        client.send_json(json!({"type": "join", "room": "c"}));
        assert_eq!(client.expect_error(), "too_many_rooms");
        reloaded.reload("max-rooms = 3\nmax-connections = 1\n");
        wait_until("one more room may be joined", || {
            client.send_json(json!({"type": "join", "room": "c"}));
            client.next()["type"] == "joined"
        });
        assert_eq!(server.raw().get("/health").status, 503);
    }
}

#[test]
fn reload_names_settings_that_need_a_restart_until_they_are_as_before() {
    let reloaded = Reloaded::start("");
    assert!(
        reloaded
            .reload("")
            .ends_with("settings in \"FILE\": nothing changed")
    );
    for _ in 0..2 {
        let line = reloaded.reload("redis-prefix = 'a'\nwelcome = 'other'\n");
        assert!(
            line.contains("nothing changed; needs a restart: --welcome, --redis-prefix"),
            "{line}"
        );
    }
    // The port is set by a flag, which still wins.
    let line = reloaded.reload("port = 1\nmax-http-rate = 7\n");
    assert!(line.ends_with("changed --max-http-rate"), "{line}");
    let client = reloaded.server.client();
    assert_eq!(client.welcome()["payload"], "Welcome to wscast");
}

#[test]
fn reload_warns_about_a_rule_that_applies_to_no_room() {
    let reloaded = Reloaded::start("");
    let line = reloaded.reload("[[rooms]]\nmatch = '*'\n[[rooms]]\nmatch = 'a'\n");
    assert!(line.contains("changed"), "{line}");
    let log = reloaded.server.log();
    let warned = log.lines().find(|line| line.contains("WARN"));
    let warned = warned.unwrap_or_else(|| panic!("no warning: {log}"));
    assert!(
        warned.contains("the rule for a applies to no room"),
        "{warned}"
    );
}

// Defaults are larger with a database. Those without one would delete most of its history.
#[test]
fn reload_without_the_database_keeps_its_history() {
    let database = TempDir::new();
    let with_db = format!("db = '{}'\n", database.arg("history.db"));
    let reloaded = Reloaded::start(&with_db);
    let server = &reloaded.server;
    let message = json!({"room": "ops", "type": "message", "payload": "x"});
    for _ in 0..2 {
        let lines = format!("{message}\n").repeat(750);
        let stored = server.post_as("application/x-ndjson", "/messages", &lines);
        assert_eq!(stored.status, 200, "{}", stored.text());
    }
    let first = || server.get_json("/rooms/ops/messages?since=0&limit=1")["first"].clone();
    let server_time = || server.stats()["server_time"].as_f64().expect("seconds");

    let line = reloaded.reload("max-rooms = 7\n");
    assert!(
        line.ends_with("changed --max-rooms; needs a restart: --db"),
        "{line}"
    );
    // Maintenance runs once a second.
    let until = server_time() + 2.5;
    wait_until("maintenance has run", || server_time() > until);
    assert_eq!(first(), 1);

    let line = reloaded.reload("max-rooms = 7\nhistory-messages = 5\n");
    assert!(
        line.ends_with("changed --history-messages; needs a restart: --db"),
        "{line}"
    );
    wait_until("the history is pruned", || first() == 1496);
    // Another store needs a restart, and does not keep the other settings from changing.
    let line =
        reloaded.reload("redis = 'redis://127.0.0.1:1'\nmax-rooms = 8\nhistory-messages = 5\n");
    assert!(
        line.ends_with("changed --max-rooms; needs a restart: --db"),
        "{line}"
    );
    let line = reloaded.reload(with_db.as_bytes());
    assert!(
        line.ends_with("changed --max-rooms, --history-messages"),
        "{line}"
    );
}

// Invariant: whatever the file has become, the server keeps its settings and serves.
#[test]
fn invalid_file_changes_nothing_and_is_one_line_in_the_log() {
    let settings = "allow-origin = 'https://a.example'\nmax-members-per-room = 5\n";
    let reloaded = Reloaded::start(settings);
    for (text, expected) in [
        (
            &b"allow-origin = 'https://b.example'\nprot = 1"[..],
            "FILE:2: prot",
        ),
        (b"allow-origin = 'b.example'", "FILE:1: allow-origin"),
        (b"allow-origin =", "is not TOML"),
        (b"\xff\xfe", "is not text"),
        (b"outbox-bytes = 100", "FILE:1: outbox-bytes"),
    ] {
        let line = reloaded.reload(text);
        assert!(
            line.contains("[ERROR]") && line.contains("not reloaded: "),
            "{line}"
        );
        assert!(line.contains(expected), "{line}");
        assert!(reloaded.allows("https://a.example"), "{line}");
        assert!(!reloaded.allows("https://b.example"), "{line}");
    }
    fs::remove_file(reloaded.dir.path("wscast.toml")).expect("remove");
    reloaded.server.signal(Signal::HUP);
    wait_until("the missing file is logged", || {
        reloaded.server.log().contains("No such file")
    });
    assert!(reloaded.allows("https://a.example"));
    let line = reloaded.reload(settings);
    assert!(line.contains("nothing changed"), "{line}");
}
