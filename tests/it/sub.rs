//! `wscast sub`: a line a message, resume across restarts, gaps, closed pipes, refusals.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::token::{OTHER_SECRET, SECRET, claims, signed};
use crate::support::{
    Certificate, ClientProgram, TempDir, TestServer, USAGE, free_port, program, run, wait_for,
    wait_until,
};

/// Exit codes of clients.
const UNREACHABLE: Option<i32> = Some(3);
const REFUSED: Option<i32> = Some(4);

fn publish(server: &TestServer, room: &str, payload: &Value) {
    let body = json!({"type": "message", "payload": payload});
    let response = server.post(&format!("/rooms/{room}/messages"), &body);
    assert_eq!(response.status, 201, "{}", response.text());
}

fn publish_all(server: &TestServer, room: &str, texts: &[&str]) {
    for text in texts {
        publish(server, room, &json!(text));
    }
}

/// Returns the number of members of `ops`.
fn members(server: &TestServer) -> u64 {
    let response = server.raw().get("/rooms/ops");
    match response.status {
        200 => response.json()["members"].as_u64().expect("a number"),
        _ => 0,
    }
}

/// Starts a subscriber and waits until it is in `ops`.
fn subscribe(server: &TestServer, args: &[&str]) -> ClientProgram {
    let before = members(server);
    let client = ClientProgram::start(server.address(), &[&["sub"], args].concat());
    wait_until("the subscriber is in the room", || members(server) > before);
    client
}

#[test]
fn sub_prints_each_message_on_one_line() {
    let server = TestServer::start(&[]);
    let client = subscribe(&server, &["lobby", "ops"]);
    publish(&server, "lobby", &json!("hello"));
    client.expect_lines(&["hello"]);
    publish(&server, "ops", &json!({"temperature": 21.5}));
    // Messages of different rooms may overtake each other.
    client.expect_lines(&["hello", r#"{"temperature":21.5}"#]);
    publish(&server, "lobby", &json!("two\nlines"));
    publish(&server, "lobby", &json!("\u{1b}[31m"));
    publish(&server, "other", &json!("not for us"));
    publish(&server, "lobby", &json!(7));
    client.expect_lines(&[
        "hello",
        r#"{"temperature":21.5}"#,
        r#""two\nlines""#,
        r#""\u001b[31m""#,
        "7",
    ]);
}

#[test]
fn sub_with_json_prints_whole_frames() {
    let server = TestServer::start(&[]);
    let client = subscribe(&server, &["--json", "ops"]);
    publish(&server, "ops", &json!("hello"));
    wait_until("the frame is printed", || client.lines().len() == 1);
    let frame: Value = serde_json::from_str(&client.lines()[0]).expect("JSON");
    assert_eq!(
        (&frame["room"], &frame["offset"], &frame["payload"]),
        (&json!("ops"), &json!(1), &json!("hello"))
    );
}

// The history has five messages. Each subscriber starts elsewhere in it and goes on with new messages.
#[test]
fn sub_starts_where_it_is_asked_to() {
    let server = TestServer::start(&[]);
    publish_all(&server, "ops", &["1", "2", "3", "4", "5"]);
    let room = server.get_json("/rooms/ops/messages?limit=1");
    let epoch = room["epoch"].as_str().expect("an epoch");
    let starts: [(&[&str], &[&str]); 6] = [
        (&["ops"], &["6"]),
        (&["ops", "--last", "2"], &["4", "5", "6"]),
        (&["ops", "--last=0"], &["6"]),
        (
            &["empty", "ops", "--last", "99"],
            &["1", "2", "3", "4", "5", "6"],
        ),
        (&["ops", "--since", "3"], &["4", "5", "6"]),
        (&["ops", "--since=4", "--epoch", epoch], &["5", "6"]),
    ];
    let clients = starts.map(|(args, expected)| (subscribe(&server, args), expected));
    // A request after the ones that a subscriber makes on entering: its last messages are asked for.
    for (client, expected) in &clients {
        wait_until("the history is printed", || {
            client.lines().len() == expected.len() - 1
        });
    }
    publish_all(&server, "ops", &["6"]);
    for (client, expected) in &clients {
        client.expect_lines(expected);
        assert_eq!(client.stderr(), "");
    }
}

#[test]
fn last_messages_are_those_that_the_history_still_has() {
    let server = TestServer::start(&["--history-messages=3"]);
    publish_all(&server, "ops", &["1", "2", "3", "4", "5"]);
    let client = subscribe(&server, &["ops", "--last=99"]);
    client.expect_lines(&["3", "4", "5"]);
    assert_eq!(client.stderr(), "");
}

// A subscriber stays while the server restarts three times; messages are published while it is away.
#[test]
fn sub_resumes_across_restarts_without_loss_or_duplicate() {
    let dir = TempDir::new();
    let port = free_port();
    let port_flag = format!("--port={port}");
    let mut server = dir.serve(&[&port_flag, "--drain=0"]);
    let client = subscribe(&server, &["ops"]);
    let mut expected = Vec::new();
    for round in 0..3 {
        for when in ["before", "after"] {
            let text = format!("{round} {when}");
            publish(&server, "ops", &json!(text));
            expected.push(text);
            if when == "before" {
                server.end(rustix::process::Signal::TERM);
                server = dir.serve(&[&port_flag, "--drain=0"]);
            }
        }
        wait_until("all are printed", || client.lines().len() == expected.len());
    }
    assert_eq!(client.lines(), expected);
    assert!(
        client.stderr().contains("connecting again"),
        "{}",
        client.stderr()
    );
    assert!(!client.stderr().contains("missing"), "{}", client.stderr());
}

#[test]
fn lost_messages_are_reported_on_stderr() {
    let server = TestServer::start(&["--history-messages=2"]);
    publish_all(&server, "ops", &["1", "2", "3", "4", "5"]);
    let client = subscribe(&server, &["ops", "--since=1"]);
    wait_until("the gap is reported", || {
        client.stderr().contains("messages 2 to 3 are missing")
    });
    client.expect_lines(&["4", "5"]);
    publish_all(&server, "ops", &["6"]);
    client.expect_lines(&["4", "5", "6"]);
    let other = "--epoch=00000000000000ff";
    let client = subscribe(&server, &["ops", "--since=1", other]);
    wait_until("the new epoch is reported", || {
        client.stderr().contains("numbering restarted")
    });
    client.expect_lines(&["5", "6"]);
    let client = subscribe(&server, &["ops", "--since=500"]);
    wait_until("the last message is named", || {
        client.stderr().contains("the last one is 6")
    });
    publish_all(&server, "ops", &["7"]);
    client.expect_lines(&["7"]);
}

// A server without --db is killed; messages are published before the subscriber is back.
#[test]
fn sub_prints_what_was_published_after_the_numbering_restarted() {
    let port_flag = format!("--port={}", free_port());
    let server = TestServer::start(&[&port_flag]);
    let client = subscribe(&server, &["ops"]);
    publish_all(&server, "ops", &["1", "2", "3"]);
    client.expect_lines(&["1", "2", "3"]);
    drop(server);
    let server = TestServer::start(&[&port_flag]);
    publish_all(&server, "ops", &["4", "5"]);
    client.expect_lines(&["1", "2", "3", "4", "5"]);
}

/// `wscast sub ops | head -n 1`
#[test]
fn closed_output_ends_sub_quietly() {
    let server = TestServer::start(&[]);
    for is_reading in [true, false] {
        wait_until("no one else is in the room", || members(&server) == 0);
        let mut command = program();
        command.args(["sub", "ops", "--url", &format!("ws://{}", server.address())]);
        let before = members(&server);
        let spawned = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = spawned.expect("cannot start the client");
        wait_until("the subscriber is in the room", || {
            members(&server) > before
        });
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        if is_reading {
            publish_all(&server, "ops", &["first"]);
            let mut line = String::new();
            out.read_line(&mut line).expect("a line");
            assert_eq!(line, "first\n");
        }
        // The subscriber notices it at once, without another message.
        drop(out);
        let status = wait_for("the client exits", || child.try_wait().expect("wait"));
        assert_eq!(status.code(), Some(0), "{is_reading}");
        let stderr = std::io::read_to_string(child.stderr.take().expect("a pipe"));
        assert_eq!(stderr.expect("stderr"), "", "{is_reading}");
    }
}

#[test]
fn token_decides_whether_sub_may_read() {
    let server = TestServer::with_tokens(&[]);
    let good = signed(SECRET, &claims(json!({})));
    let wrong = signed(OTHER_SECRET, &claims(json!({})));
    let elsewhere = signed(SECRET, &claims(json!({"subscribe": ["dev"]})));
    let expired = signed(SECRET, &claims(json!({"exp": 1})));
    for (token, part) in [
        ("", "WSCAST_TOKEN"),
        (&wrong, "401"),
        (&expired, "401"),
        (&elsewhere, "403"),
    ] {
        let mut command = program();
        command.args(["sub", "ops"]).env("WSCAST_TOKEN", token);
        command.env("WSCAST_URL", format!("ws://{}", server.address()));
        let ended = run(&mut command);
        assert_eq!(ended.code, REFUSED, "{}", ended.stderr);
        let line = ended.only_line();
        assert!(line.contains(part), "{line}");
        assert!(token.is_empty() || !line.contains(token), "{line}");
    }
    let mut command = program();
    command.args(["sub", "ops", "--token", &good]);
    command.env("WSCAST_URL", format!("ws://{}", server.address()));
    let client = ClientProgram::start_command(command);
    let bearer = format!("Authorization: Bearer {good}");
    wait_until("the subscriber is in the room", || {
        let response = server.raw().request("GET", "/rooms/ops", &[&bearer]);
        response.status == 200 && response.json()["members"] == 1
    });
    let mut alice = server.client_at(&format!("/ws?room=ops&token={good}"));
    alice.say("hello");
    client.expect_lines(&["hello"]);
}

#[test]
fn server_that_cannot_be_reached_is_one_line_with_the_cure() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("ws://{}", silent.local_addr().expect("an address"));
    let closed = format!("ws://127.0.0.1:{}", free_port());
    for (url, parts) in [
        (closed.as_str(), ["refused", "start one with `wscast`"]),
        ("ws://wscast.invalid:1", ["cannot connect", "--url"]),
        (&silent, ["does not respond", "--url"]),
    ] {
        let ended = run(program().args(["sub", "ops", "--connect-timeout=0.2", "--url", url]));
        let line = ended.only_line();
        assert_eq!(ended.code, UNREACHABLE, "{line}");
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
}

#[test]
fn other_servers_are_refused_with_a_hint() {
    let server = TestServer::start(&[]);
    let url = format!("ws://{}/health", server.address());
    let ended = run(program().args(["sub", "ops", "--url", &url]));
    assert_eq!(ended.code, REFUSED, "{}", ended.stderr);
    assert!(
        ended.only_line().contains("path of --url"),
        "{}",
        ended.stderr
    );
}

#[test]
fn wrong_arguments_of_sub_are_one_line() {
    for (args, part) in [
        (&["sub"][..], "the room is missing"),
        (&["sub", "a b"], "letters, digits"),
        (&["sub", "a", "--since=1", "--last=1"], "--since"),
        (&["sub", "a", "b", "--since=1"], "--last"),
        (&["sub", "a", "--since=1", "--epoch=x"], "sixteen"),
        (&["sub", "a", "--url=127.0.0.1:5000"], "ws://HOST:PORT"),
        (&["sub", "a", "--port=1"], "wscast serve --port"),
        (&["sub", "a", "--jsn"], "did you mean --json?"),
        (&["--port=1", "sub", "a"], "without flags before it"),
        (&["sbu"], "did you mean sub?"),
        (&["subscribe"], "did you mean sub?"),
    ] {
        let ended = run(program().args(args));
        let line = ended.only_line();
        assert_eq!(ended.code, USAGE, "{line}");
        assert!(line.contains(part), "{args:?}: {line}");
    }
}

#[test]
fn sub_over_tls_trusts_the_authorities_of_a_file_only() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let url = format!("wss://localhost:{}", server.address().port());
    let untrusted = run(program().args(["sub", "ops", "--url", &url]));
    assert_eq!(untrusted.code, REFUSED, "{}", untrusted.stderr);
    assert!(
        untrusted.only_line().contains("--ca-file"),
        "{}",
        untrusted.stderr
    );
    let plain = format!("ws://localhost:{}", server.address().port());
    let plain = run(program().args(["sub", "ops", "--url", &plain]));
    assert!(
        [UNREACHABLE, REFUSED].contains(&plain.code),
        "{}",
        plain.stderr
    );

    let mut command = program();
    command.args(["sub", "ops", "--url", &url]);
    command.args(["--ca-file", &certificate.dir.arg("cert.pem")]);
    let client = ClientProgram::start_command(command);
    wait_until("connected", || server.connected_clients() == 1);
    let long = "x".repeat(60_000);
    let mut alice = server.client_at("/ws?room=ops");
    alice.say("hello");
    alice.say(long.as_str());
    client.expect_lines(&["hello", &long]);
}

#[cfg(not(feature = "tls"))]
#[test]
fn wss_is_one_line_in_a_build_without_encryption() {
    let server = TestServer::start(&[]);
    let url = format!("wss://{}", server.address());
    let ended = run(program().args(["sub", "ops", "--url", &url]));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.only_line().contains("--features tls"));
}
