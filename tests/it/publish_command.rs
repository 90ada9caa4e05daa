//! `wscast pub`: each line is stored once, also across restarts; refused lines, rates, memory.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, signed};
use crate::support::{
    Certificate, ClientProgram, FAILURE, TempDir, TestServer, USAGE, free_port, payloads, program,
    read_whole_history, run, wait_for, wait_until,
};

/// Exit codes of clients.
const UNREACHABLE: Option<i32> = Some(3);
const REFUSED: Option<i32> = Some(4);

/// Returns the payloads that the server has stored in `ops`.
fn stored(server: &TestServer) -> Vec<Value> {
    let messages = read_whole_history(server.address(), "ops");
    messages
        .iter()
        .map(|message| message["payload"].clone())
        .collect()
}

fn texts(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| json!(line)).collect()
}

/// Returns the command of a client of this server.
fn client_of(server: &TestServer, args: &[&str]) -> Command {
    let mut command = program();
    command.env("WSCAST_URL", format!("ws://{}", server.address()));
    command.args(args);
    command
}

#[test]
fn pub_publishes_its_arguments_as_one_message() {
    let server = TestServer::start(&[]);
    for args in [
        &["pub", "ops", "hello,", "world"][..],
        &["pub", "ops", "two\nlines"],
        &["pub", "ops", ""],
        &["pub", "--json", "ops", "{\"temperature\": 21.50}"],
        &["pub", "ops", "--", "--json"],
    ] {
        let ended = run(&mut client_of(&server, args));
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{args:?}");
    }
    let expected = [
        json!("hello, world"),
        json!("two\nlines"),
        json!(""),
        json!({"temperature": 21.5}),
        json!("--json"),
    ];
    assert_eq!(stored(&server), expected);
}

#[test]
fn pub_publishes_each_line_of_standard_input() {
    let server = TestServer::start(&[]);
    let mut client = ClientProgram::start(server.address(), &["pub", "ops"]);
    client.write("first\n");
    // A line is published when it is complete, not at the end of the input.
    wait_until("the first line is stored", || {
        let response = server.raw().get("/rooms/ops/messages");
        response.status == 200 && response.json()["last"] == 1
    });
    client.write("of Windows\r\n\nwithout an end");
    client.close_stdin();
    assert_eq!(client.wait_for_exit(), Some(0), "{}", client.stderr());
    let expected = ["first", "of Windows", "", "without an end"];
    assert_eq!(stored(&server), expected.map(Value::from));
}

#[test]
fn lines_that_are_refused_are_named_and_the_others_are_stored() {
    let server = TestServer::start(&["--max-message-bytes=4KiB"]);
    let mut client = ClientProgram::start(server.address(), &["pub", "--json", "ops"]);
    let deep = "[".repeat(70) + &"]".repeat(70);
    let long = format!("\"{}\"", "x".repeat(8 * 1024));
    client.write(&format!("1\nnot json\n{deep}\n4\n{long}\n6\n"));
    client.close_stdin();
    assert_eq!(client.wait_for_exit(), FAILURE);
    assert_eq!(stored(&server), [json!(1), json!(4), json!(6)]);
    let stderr = client.stderr();
    for part in [
        "line 2 is not JSON",
        "line 3 was not published: nest arrays",
        "line 5 was not published: its 8194 bytes",
        "3 of 6 lines were not published",
    ] {
        assert!(stderr.contains(part), "no {part:?} in {stderr}");
    }
}

// `pub | server | sub`, as in a shell. The server is killed and restarted twice while the lines flow.
// Each line is stored once and in order, and the subscriber prints each once.
#[test]
fn no_line_is_lost_or_doubled_when_the_server_restarts() {
    const LINES: usize = 6_000;
    let dir = TempDir::new();
    let port_flag = format!("--port={}", free_port());
    let args = [port_flag.as_str(), "--history-messages=100000"];
    let mut server = dir.serve(&args);
    let subscriber = ClientProgram::start(server.address(), &["sub", "ops"]);
    wait_until("the subscriber is connected", || {
        server.connected_clients() == 1
    });
    let mut publisher = ClientProgram::start(server.address(), &["pub", "ops"]);
    let lines: Vec<String> = (1..=LINES).map(|number| format!("line {number}")).collect();
    for (round, part) in lines.chunks(LINES / 3).enumerate() {
        publisher.write(&(part.join("\n") + "\n"));
        if round < 2 {
            // Somewhere in the middle of the part.
            let some = round * LINES / 3 + 100;
            wait_until("some lines are delivered", || {
                subscriber.lines().len() > some
            });
            server.end(Signal::KILL);
            server = dir.serve(&args);
        }
    }
    publisher.close_stdin();
    assert_eq!(publisher.wait_for_exit(), Some(0), "{}", publisher.stderr());
    assert!(publisher.stderr().contains("connecting again"));
    assert_eq!(stored(&server), texts(&lines));
    wait_until("all lines are printed", || {
        subscriber.lines().len() >= LINES
    });
    assert_eq!(subscriber.lines(), lines, "{}", subscriber.stderr());
    assert!(
        !subscriber.stderr().contains("missing"),
        "{}",
        subscriber.stderr()
    );
}

/// By default a server takes 100 messages per second from one client, and 1000 at once.
#[test]
fn pub_slows_down_where_the_server_limits_the_rate() {
    let server = TestServer::start(&["--max-request-rate=100", "--history-messages=2000"]);
    let mut client = ClientProgram::start(server.address(), &["pub", "ops"]);
    let lines: Vec<String> = (0..1_200).map(|number| number.to_string()).collect();
    client.write(&lines.join("\n"));
    client.close_stdin();
    assert_eq!(client.wait_for_exit(), Some(0), "{}", client.stderr());
    let mut numbers: Vec<u64> = stored(&server)
        .iter()
        .map(|text| text.as_str().expect("text").parse().expect("a number"))
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1_200).collect::<Vec<_>>());
}

// The server is stopped, so nothing is acknowledged. The publisher reads a bounded part of an endless input.
#[test]
fn memory_is_bounded_while_the_server_does_not_acknowledge() {
    let server = TestServer::start(&[]);
    let mut command = client_of(&server, &["pub", "ops"]);
    let mut source = Command::new("yes")
        .arg("x".repeat(1000))
        .stdout(Stdio::piped())
        .spawn()
        .expect("yes");
    command.stdin(source.stdout.take().expect("a pipe"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = command.spawn().expect("cannot start the client");
    let statm = format!("/proc/{}/statm", client.id());
    let resident_pages = || -> u64 {
        let text = fs::read_to_string(&statm).expect("statm");
        let pages = text.split(' ').nth(1).expect("a field");
        pages.parse().expect("a number")
    };
    wait_until("lines are stored", || {
        let response = server.raw().get("/rooms/ops/messages?limit=1");
        response.status == 200 && response.json()["last"].as_u64() > Some(5_000)
    });
    server.signal(Signal::STOP);
    let io = format!("/proc/{}/io", client.id());
    let read_bytes = || {
        fs::read_to_string(&io)
            .expect("io")
            .lines()
            .next()
            .map(str::to_owned)
    };
    let mut last = None;
    wait_for("the publisher waits", || {
        std::thread::park_timeout(std::time::Duration::from_millis(100));
        let now = read_bytes();
        let is_waiting = now == last;
        last = now;
        is_waiting.then_some(())
    });
    let mib = resident_pages() * 4 / 1024;
    server.signal(Signal::CONT);
    client.kill().expect("kill");
    client.wait().expect("wait");
    source.kill().expect("kill");
    source.wait().expect("wait");
    assert!(mib < 32, "{mib} MiB");
}

#[test]
fn token_decides_whether_pub_may_publish() {
    let server = TestServer::with_tokens(&[]);
    let good = signed(SECRET, &claims(json!({})));
    let reader = signed(SECRET, &claims(json!({"publish": []})));
    for (token, code) in [
        ("", REFUSED),
        ("wrong", REFUSED),
        (&reader, REFUSED),
        (&good, Some(0)),
    ] {
        let mut command = client_of(&server, &["pub", "ops", "hello"]);
        let ended = run(command.env("WSCAST_TOKEN", token));
        assert_eq!(ended.code, code, "{}", ended.stderr);
        if code == REFUSED {
            let line = ended.only_line();
            assert!(line.contains("WSCAST_TOKEN"), "{line}");
        }
    }
}

// The server compares the ids of all publishers of a user.
#[test]
fn publishers_of_one_user_are_not_taken_for_each_other() {
    let server = TestServer::with_tokens(&["--anonymous=both"]);
    let token = signed(SECRET, &claims(json!({"sub": "alice"})));
    for text in ["first", "second"] {
        let mut command = client_of(&server, &["pub", "ops", text]);
        let ended = run(command.env("WSCAST_TOKEN", &token));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    assert_eq!(stored(&server), ["first", "second"]);
}

#[test]
fn pub_without_a_server_is_one_line_with_the_cure() {
    let url = format!("ws://127.0.0.1:{}", free_port());
    let ended = run(program().args(["pub", "ops", "hello", "--url", &url]));
    assert_eq!(ended.code, UNREACHABLE, "{}", ended.stderr);
    assert!(ended.only_line().contains("start one with `wscast`"));
}

#[test]
fn wrong_arguments_of_pub_are_one_line() {
    for (args, part) in [
        (&["pub"][..], "the room is missing"),
        (&["pub", "a b", "text"], "letters, digits"),
        (&["pub", "a", "--tokn=x"], "did you mean --token?"),
        (
            &["pub", "a", "text", "--url=ws://a:65536"],
            "a port from 1 to 65535",
        ),
        (&["publish", "a"], "did you mean pub?"),
    ] {
        let ended = run(program().args(args));
        let line = ended.only_line();
        assert_eq!(ended.code, USAGE, "{line}");
        assert!(line.contains(part), "{args:?}: {line}");
    }
}

#[test]
fn pub_over_tls_stores_each_line() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let mut command = program();
    let url = format!("wss://localhost:{}", server.address().port());
    command.args(["pub", "ops", "--url", &url]);
    command.args(["--ca-file", &certificate.dir.arg("cert.pem")]);
    let mut client = ClientProgram::start_command(command);
    let lines: Vec<String> = (0..300)
        .map(|number| format!("{number} {}", "x".repeat(500)))
        .collect();
    client.write(&lines.join("\n"));
    client.close_stdin();
    assert_eq!(client.wait_for_exit(), Some(0), "{}", client.stderr());
    let page = server.get_json("/rooms/ops/messages?since=0&limit=1000");
    assert_eq!(payloads(&page), texts(&lines));
}
