//! `wscast bench`: counts each delivery, names losses and refusals, ends on Ctrl-C, searches for the number of clients.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, signed};
use crate::support::{
    Certificate, Ended, TestServer, USAGE, free_port, open_terminal, program, read_terminal_until,
    run, skip, wait_for, wait_until,
};

const UNREACHABLE: Option<i32> = Some(3);
const REFUSED: Option<i32> = Some(4);
const LOSSES: Option<i32> = Some(5);

/// A running bench of one hour. Dropping it kills the process.
struct RunningBench(Child);

impl RunningBench {
    fn start(server: &TestServer, args: &[&str]) -> Self {
        let mut command = bench(server, args);
        command.args(["--duration", "1h", "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().expect("cannot start the bench"))
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, signal).expect("kill");
    }

    fn wait_for_end(&mut self) -> Ended {
        let status = wait_for("the bench ends", || self.0.try_wait().expect("wait"));
        let read = |from: Option<&mut dyn std::io::Read>| {
            let mut text = String::new();
            let read = from.expect("a pipe").read_to_string(&mut text);
            read.expect("output is text");
            text
        };
        Ended {
            code: status.code(),
            stdout: read(self.0.stdout.as_mut().map(|out| out as _)),
            stderr: read(self.0.stderr.as_mut().map(|err| err as _)),
        }
    }
}

impl Drop for RunningBench {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Returns the command that measures this server.
fn bench(server: &TestServer, args: &[&str]) -> Command {
    let mut command = program();
    command.arg("bench").args(args);
    command.arg(format!("ws://{}", server.address()));
    command
}

fn figures(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|why| panic!("{why}: {:?} {:?}", ended.stdout, ended.stderr))
}

#[test]
fn bench_counts_each_delivery_once() {
    let server = TestServer::start(&["--max-request-rate=0"]);
    for pacing in [
        &["--rate=200"][..],
        &["--outstanding=3"],
        &["--payload=100KiB"],
    ] {
        let args = ["--clients=21", "--rooms=3", "--duration=500ms", "--json"];
        let ended = run(&mut bench(&server, &[&args, pacing].concat()));
        if pacing == ["--payload=100KiB"] {
            // Larger than --max-message-bytes, so the server closes the publishers.
            assert_eq!(ended.code, LOSSES, "{}", ended.stdout);
            assert!(ended.stdout.contains("1009"), "{}", ended.stdout);
            continue;
        }
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{pacing:?}");
        let figures = figures(&ended);
        let published = figures["published"].as_u64().expect("a number");
        assert!(published > 0, "{figures}");
        assert_eq!(figures["deliveries"], published * 7, "{figures}");
        assert_eq!(
            (&figures["lost"], &figures["doubled"]),
            (&json!(0), &json!(0))
        );
        let latency = |name: &str| figures["latency_ms"][name].as_f64().expect("a number");
        let sorted = ["p50", "p95", "p99", "longest"].map(latency);
        assert!(sorted.is_sorted(), "{figures}");
    }
    wait_until("all connections are closed", || {
        server.connected_clients() == 0
    });
}

#[test]
fn figures_are_readable_text_without_json() {
    let server = TestServer::start(&[]);
    let ended = run(&mut bench(&server, &["--clients=2", "--duration=200ms"]));
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    for word in ["clients     2, in 1 room\n", "lost        0\n", "p95 "] {
        assert!(ended.stdout.contains(word), "{}", ended.stdout);
    }
}

#[test]
fn ctrl_c_ends_it_with_the_figures_so_far() {
    let server = TestServer::start(&[]);
    for signal in [Signal::INT, Signal::TERM] {
        let before = server.total("messages_delivered");
        let mut bench = RunningBench::start(&server, &["--clients=3"]);
        wait_until("messages are delivered", || {
            server.total("messages_delivered") > before + 100
        });
        bench.signal(signal);
        let ended = bench.wait_for_end();
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
        let figures = figures(&ended);
        assert_eq!(figures["stopped"], true);
        assert_eq!(figures["lost"], 0, "{figures}");
    }
}

#[test]
fn losses_have_an_exit_code_of_their_own() {
    let mut server = TestServer::start(&[]);
    let mut bench = RunningBench::start(&server, &["--clients=3"]);
    wait_until("messages are delivered", || {
        server.total("messages_delivered") > 100
    });
    server.end(Signal::KILL);
    let ended = bench.wait_for_end();
    assert_eq!(ended.code, LOSSES);
    assert!(
        ended.stderr.contains("3 connections were closed"),
        "{}",
        ended.stderr
    );
    assert_eq!(figures(&ended)["clients"], 3);
}

#[test]
fn refused_messages_are_no_deliveries() {
    let server = TestServer::start(&["--max-request-rate=5"]);
    let args = ["--clients=2", "--duration=1s", "--outstanding=2"];
    let ended = run(&mut bench(&server, &args));
    assert_eq!(ended.code, LOSSES);
    assert!(ended.stderr.contains("messages were refused"));
    for part in ["lost        0", "rate_limited", "--max-request-rate 0"] {
        assert!(ended.stdout.contains(part), "{}", ended.stdout);
    }
}

#[test]
fn bench_needs_a_token_where_the_server_does() {
    let server = TestServer::with_tokens(&[]);
    let args = ["--clients=2", "--duration=100ms", "--room=ops"];
    let token = signed(SECRET, &claims(json!({})));
    for (token, code) in [("", REFUSED), ("wrong", REFUSED), (&*token, Some(0))] {
        let ended = run(bench(&server, &args).env("WSCAST_TOKEN", token));
        assert_eq!(ended.code, code, "{}", ended.stderr);
        if code == REFUSED {
            assert!(ended.only_line().contains("token"), "{}", ended.stderr);
        }
    }
}

#[test]
fn bench_measures_tls() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let mut command = program();
    command.args(["bench", "--clients=5", "--duration=200ms"]);
    command.args(["--ca-file", &certificate.dir.arg("cert.pem")]);
    command.arg(format!("wss://localhost:{}", server.address().port()));
    let ended = run(&mut command);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    assert!(ended.stdout.contains("lost        0"), "{}", ended.stdout);
}

#[test]
fn search_finds_how_many_clients_the_server_takes() {
    let server = TestServer::start(&["--max-connections=150"]);
    let args = ["--find-clients", "--p95=1m", "--duration=200ms", "--json"];
    let ended = run(&mut bench(&server, &args));
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    let search = figures(&ended);
    let steps = search["steps"].as_array().expect("a list");
    assert_eq!(
        (&steps[0]["clients"], &steps[0]["held"]),
        (&json!(100), &json!(true))
    );
    let held = search["clients_held"].as_u64().expect("a number");
    assert!((101..=150).contains(&held), "{search}");
    let end = search["end"].as_str().expect("a text");
    assert!(end.contains("the server is full"), "{end}");
}

#[test]
fn progress_is_shown_on_a_terminal() {
    let server = TestServer::start(&[]);
    let Some((terminal, side)) = open_terminal() else {
        return skip("no pseudo-terminal");
    };
    let mut command = bench(&server, &["--duration=1h"]);
    command.stdout(Stdio::null()).stderr(side);
    let bench = RunningBench(command.spawn().expect("cannot start the bench"));
    drop(command);
    let text = read_terminal_until(terminal, "p95");
    assert!(text.contains("measuring: "), "{text}");
    drop(bench);
}

#[test]
fn wrong_arguments_of_bench_are_one_line() {
    for (args, part) in [
        (&["--rate=0"][..], "above 0"),
        (&["--payload=10"], "from 24"),
        (&["--duration=25h"], "24h or less"),
        (&["--clients=3", "--rooms=4"], "at most as many rooms"),
        (&["--clients=9999999"], "from 1 to 1000000"),
        (&["--rate=1", "--outstanding=1"], "cannot be used with"),
        (&["localhost:5000"], "write ws://HOST:PORT"),
    ] {
        let ended = run(program().arg("bench").args(args));
        let line = ended.only_line();
        assert_eq!(ended.code, USAGE, "{line}");
        assert!(line.contains(part), "{args:?}: {line}");
    }
    let url = format!("ws://127.0.0.1:{}", free_port());
    // The argument is used in place of the variable.
    let mut command = program();
    command.env("WSCAST_URL", "ws://127.0.0.1:1");
    let ended = run(command.args(["bench", &url]));
    assert!(ended.stderr.contains(&url), "{}", ended.stderr);
    assert_eq!(ended.code, UNREACHABLE, "{}", ended.stderr);
    assert!(ended.only_line().contains("start one with `wscast`"));
}
