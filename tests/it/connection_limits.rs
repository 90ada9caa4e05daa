//! All connections or descriptors are in use: a clear refusal, and service afterwards.

use std::process::Command;
use std::time::Instant;

use crate::support::{
    RawConnection, TIMEOUT, TestServer, allow_many_sockets, handshake, message_frame, request,
    wait_for, wait_until,
};

#[test]
fn connection_over_the_limit_is_refused_with_retry_after() {
    let server = TestServer::start(&["--max-connections=5"]);
    let mut clients: Vec<_> = (0..5).map(|_| server.client()).collect();
    for _ in 0..20 {
        let mut sixth = server.raw();
        sixth.try_send(request("GET", "/health", &[]));
        assert_is_full(&sixth.read_to_end());
    }
    // Connected clients notice nothing.
    clients[0].say("still here");
    for client in &mut clients {
        client.expect("still here");
    }

    clients.pop().expect("five").close();
    let client = wait_for("a connection is free again", || {
        let mut next = server.raw();
        next.try_send(handshake("/ws"));
        (next.response().status == 101).then_some(next)
    });
    drop((client, clients));
    wait_until("all connections are free", || {
        let mut client = server.raw();
        client.try_send(request("GET", "/stats", &[]));
        let response = client.response();
        response.status == 200 && response.json()["connections"] == 1
    });
    assert!(server.total("connections_refused") >= 20);
}

/// An `EventSource` reconnects only after a stream, and a page can read a refusal only if its origin is allowed.
#[test]
fn refusal_of_a_full_server_fits_the_request() {
    let server = TestServer::start(&["--max-connections=1", "--allow-origin=https://a.example"]);
    let _only = server.client();
    let stream = "Accept: text/event-stream";
    for (target, lines, is_stream) in [
        ("/rooms/ops/events", &[stream][..], true),
        ("/rooms/ops/events/?lastEventId=0", &[], true),
        ("/rooms/ops/events", &["Accept: application/json"], false),
        ("/rooms/ops", &[stream], false),
        ("/health", &[], false),
    ] {
        let mut refused = server.raw();
        let origin = "Origin: https://a.example";
        refused.try_send(request("GET", target, &[lines, &[origin]].concat()));
        let response = refused.response();
        if is_stream {
            assert_eq!(response.refused_stream()["code"], "too_many_connections");
        } else {
            assert_eq!(response.status, 503, "{target}");
            assert_eq!(response.error_code(), "too_many_connections", "{target}");
        }
        let allowed = response.header("Access-Control-Allow-Origin");
        assert_eq!(allowed, Some("https://a.example"), "{target}");
        refused.assert_closed();
    }
    // A client that sends nothing, half a request, or no request at all is refused too.
    for bytes in [
        "",
        "GET /rooms/ops/events HTTP/1.1\r\nHo",
        "NONSENSE\r\n\r\n",
    ] {
        let mut refused = server.raw();
        refused.try_send(bytes);
        assert_is_full(&refused.read_to_end());
    }
}

/// The crowd is larger than the number of refused sockets the server lingers on. None of them reads, sends or closes.
#[test]
fn refused_crowd_that_stays_costs_nothing() {
    allow_many_sockets();
    let server = TestServer::start(&["--max-connections=1", "--head-timeout=600"]);
    let mut only = server.raw();
    assert_eq!(only.get("/health").status, 200);
    let descriptors = descriptors(&server);
    let mut crowd: Vec<RawConnection> = (0..700).map(|_| server.raw()).collect();
    for one in &mut crowd {
        assert_is_full(&one.read_to_end());
    }
    assert_eq!(only.get("/health").status, 200);
    wait_until("the crowd's descriptors are freed", || {
        self::descriptors(&server) <= descriptors
    });
}

#[test]
fn full_server_logs_about_once_a_second() {
    let start = Instant::now();
    let server = TestServer::start(&["--max-connections=1", "--log-level=info"]);
    let _only = server.client();
    for _ in 0..500 {
        let mut refused = server.raw();
        refused.try_send(request("GET", "/health", &[]));
        assert_is_full(&refused.read_to_end());
    }
    let count = |log: &str| log.matches("--max-connections sets").count() as u64;
    wait_until("the log names the setting", || count(&server.log()) > 0);
    let lines = count(&server.log());
    assert!(lines <= start.elapsed().as_secs() + 2, "{}", server.log());
}

#[test]
fn server_out_of_descriptors_waits_and_then_serves_again() {
    let start = Instant::now();
    let server = TestServer::start_command(under_limit("ulimit -n 40", &["--log-level=info"]));
    // The first round uses up the descriptors; the connections of later rounds wait in the kernel.
    let mut rounds = 0;
    wait_until("accepting fails for lack of descriptors", || {
        rounds += 1;
        let idle: Vec<RawConnection> = (0..60).map(|_| server.raw()).collect();
        drop(idle);
        accept_errors(&server) > 0
    });
    let mut alice = wait_for("a connection is free", || {
        let mut client = server.raw();
        client.try_send(handshake("/ws"));
        (status(&mut client) == Some(101)).then_some(client)
    });
    assert_eq!(alice.next_json()["from"], "server");
    alice.send(message_frame("hi"));
    assert_eq!(alice.next_json()["payload"], "hi");
    let log = server.log();
    let warnings = log.lines().filter(|line| line.contains("[WARN]")).count() as u64;
    assert!(warnings > 0, "{log}");
    assert!(
        warnings <= start.elapsed().as_secs() + 2,
        "{warnings} lines in {:?} and {rounds} rounds: {log}",
        start.elapsed()
    );
}

/// Descriptors that the server reserves for itself must leave some for clients.
#[test]
fn forty_descriptors_suffice_for_a_few_clients() {
    let server = TestServer::start_command(under_limit("ulimit -n 40", &[]));
    let mut alice = server.client();
    let mut bob = server.raw();
    bob.try_send(handshake("/ws"));
    assert_eq!(bob.response().status, 101, "{}", server.log());
    bob.next_json();
    alice.say("hi");
    assert_eq!(bob.next_json()["payload"], "hi");
}

#[test]
fn log_names_the_limit_of_connections_and_its_cause() {
    let server = TestServer::start(&["--max-connections=7"]);
    server.wait_for_log("up to 7 connections, set by --max-connections");
    let server = TestServer::start_command(under_limit("ulimit -n 200", &[]));
    server.wait_for_log("connections, set by RLIMIT_NOFILE");
}

/// A setting cannot raise the limit of the machine.
#[test]
fn max_connections_is_capped_at_the_machines_limit() {
    let server =
        TestServer::start_command(under_limit("ulimit -n 200", &["--max-connections=5000"]));
    server.wait_for_log("connections, set by RLIMIT_NOFILE");
}

fn assert_is_full(response: &str) {
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 503 "), "{response}");
    for line in ["Retry-After: 1", "Connection: close"] {
        assert!(head.lines().any(|l| l == line), "{line} in {response}");
    }
    let error: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(error["error"]["code"], "too_many_connections");
}

/// Returns the command of a server under a limit set by a shell.
fn under_limit(limit: &str, args: &[&str]) -> Command {
    let server = TestServer::command(args);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limit} && exec \"$0\" \"$@\"")]);
    shell.arg(server.get_program()).args(server.get_args());
    for (name, value) in server.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Returns the status of the response; `None` if none comes.
fn status(client: &mut RawConnection) -> Option<u16> {
    client
        .has_input_within(TIMEOUT)
        .then(|| client.response().status)
}

fn accept_errors(server: &TestServer) -> u64 {
    wait_for("a connection is free for a request", || {
        let mut client = server.raw();
        client.try_send(request("GET", "/metrics", &[]));
        let response = client.response();
        (response.status == 200).then(|| {
            let text = response.text();
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("wscast_accept_errors_total "));
            line.expect("the counter").parse().expect("a number")
        })
    })
}

fn descriptors(server: &TestServer) -> usize {
    let directory = format!("/proc/{}/fd", server.pid());
    std::fs::read_dir(directory).expect("fd").count()
}
