//! When all connections, descriptors or threads are taken: a clear refusal, and service afterwards.

use std::process::Command;
use std::time::Instant;

use crate::support::{
    PATIENCE, RawConnection, TestServer, allow_many_sockets, eventually, handshake, request,
};

#[test]
fn the_sixth_of_five_connections_is_told_to_come_back() {
    let server = TestServer::start(&["--max-connections=5"]);
    let mut clients: Vec<_> = (0..5).map(|_| server.client()).collect();
    for _ in 0..20 {
        let mut sixth = server.raw();
        sixth.try_send(request("GET", "/health", &[]));
        assert_is_full(&sixth.read_to_end());
    }
    // Those who are in notice nothing.
    clients[0].say("still here");
    for client in &mut clients {
        client.expect("still here");
    }

    clients.pop().expect("five").close();
    let client = eventually("the place is free again", || {
        let mut next = server.raw();
        next.try_send(handshake("/ws"));
        (next.response().status == 101).then_some(next)
    });
    drop((client, clients));
    eventually("all places are free", || {
        let mut client = server.raw();
        client.try_send(request("GET", "/stats", &[]));
        let answer = client.response();
        (answer.status == 200 && answer.json()["connections"] == 1).then_some(())
    });
    assert!(server.total("connections_refused") >= 20);
}

/// More than the server waits for at once; none of them reads, sends or closes.
#[test]
fn a_crowd_that_is_turned_away_and_stays_costs_nothing() {
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
    eventually("their descriptors are given back", || {
        (self::descriptors(&server) <= descriptors).then_some(())
    });
}

#[test]
fn being_full_is_logged_about_once_a_second() {
    let begun = Instant::now();
    let server = TestServer::start(&["--max-connections=1", "--log-level=info"]);
    let _only = server.client();
    for _ in 0..500 {
        assert_is_full(&server.raw().read_to_end());
    }
    let told = |log: &str| log.matches("--max-connections sets").count() as u64;
    eventually("the log names the setting", || {
        (told(&server.log()) > 0).then_some(())
    });
    let lines = told(&server.log());
    assert!(lines <= begun.elapsed().as_secs() + 2, "{}", server.log());
}

#[test]
fn out_of_descriptors_the_server_waits_and_then_serves_again() {
    let begun = Instant::now();
    let server = TestServer::start_command(under("ulimit -n 40", &["--log-level=info"]));
    // The first takes what there is; the more of them come, the more must wait in the kernel.
    let mut rounds = 0;
    eventually("accepting has failed for want of descriptors", || {
        rounds += 1;
        let idle: Vec<RawConnection> = (0..60).map(|_| server.raw()).collect();
        drop(idle);
        (accept_errors(&server) > 0).then_some(())
    });
    let mut alice = eventually("there is a place", || {
        let mut client = server.raw();
        client.try_send(handshake("/ws"));
        (status(&mut client) == Some(101)).then_some(client)
    });
    assert_eq!(alice.next()["from"], "server");
    alice.say("hi");
    assert_eq!(alice.next()["payload"], "hi");
    let log = server.log();
    let troubles = log.lines().filter(|line| line.contains("[WARN]")).count() as u64;
    assert!(troubles > 0, "{log}");
    assert!(
        troubles <= begun.elapsed().as_secs() + 2,
        "{troubles} lines in {:?} and {rounds} rounds: {log}",
        begun.elapsed()
    );
}

/// Small hosts have small limits; what is kept back for the server must not be all there is.
#[test]
fn forty_descriptors_are_enough_for_a_few_clients() {
    let server = TestServer::start_command(under("ulimit -n 40", &[]));
    let mut alice = server.client();
    let mut bob = server.raw();
    bob.try_send(handshake("/ws"));
    assert_eq!(bob.response().status, 101, "{}", server.log());
    bob.next();
    alice.say("hi");
    assert_eq!(bob.next()["payload"], "hi");
}

#[test]
fn the_log_says_how_many_connections_there_may_be_and_why() {
    let told = |server: &TestServer, what: &str| {
        eventually(what, || server.log().contains(what).then_some(()));
    };
    let server = TestServer::start(&["--max-connections=7"]);
    told(&server, "up to 7 connections, set by --max-connections");
    let server = TestServer::start_command(under("ulimit -n 200", &[]));
    told(&server, "connections, set by RLIMIT_NOFILE");
}

/// Asking for more than the machine has does not make it so.
#[test]
fn a_setting_above_the_machines_limit_is_cut_down_to_it() {
    let server = TestServer::start_command(under("ulimit -n 200", &["--max-connections=5000"]));
    let what = "connections, set by RLIMIT_NOFILE";
    eventually(what, || server.log().contains(what).then_some(()));
}

fn assert_is_full(answer: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 503 "), "{answer}");
    for line in ["Retry-After: 1", "Connection: close"] {
        assert!(head.lines().any(|l| l == line), "{line} in {answer}");
    }
    let error: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(error["error"]["code"], "too_many_connections");
}

/// The server under a limit of the shell's.
fn under(limit: &str, args: &[&str]) -> Command {
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

/// The status of an answer; `None` if there was none.
fn status(client: &mut RawConnection) -> Option<u16> {
    client
        .hears_within(PATIENCE)
        .then(|| client.response().status)
}

fn accept_errors(server: &TestServer) -> u64 {
    eventually("there is a place for a question", || {
        let mut client = server.raw();
        client.try_send(request("GET", "/metrics", &[]));
        let answer = client.response();
        (answer.status == 200).then(|| {
            let text = answer.text();
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
