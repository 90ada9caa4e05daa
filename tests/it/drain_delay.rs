//! `--drain-delay`: `/health` returns 503 for a while before clients are closed and the port closes.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{ClientOptions, RawConnection, Socket, TempDir, TestServer, wait_until};

/// A delay that no scenario waits for.
const LONG: &str = "--drain-delay=1h";

fn draining(server: &TestServer) -> bool {
    let health = server.raw().get("/health");
    health.status == 503 && health.json()["status"] == "draining"
}

#[test]
fn balancer_sees_503_while_clients_are_served() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = TestServer::start(&[LONG]);
        let mut alice = server.client();
        server.signal(signal);
        wait_until("new connections see 503", || draining(&server));
        // Everything else continues, for new clients too.
        let mut bob = server.client();
        bob.say("during the delay");
        alice.expect("during the delay");
        assert_eq!(server.raw().get("/").status, 200);
        server.wait_for_log("draining");
    }
}

#[test]
fn clients_and_the_port_are_closed_after_the_delay() {
    const DELAY: Duration = Duration::from_millis(1500);
    let mut server = TestServer::start(&["--drain-delay=1500ms", "--drain=0"]);
    let mut alice = server.client();
    let start = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(alice.close_code(), 1001);
    assert!(
        start.elapsed() >= DELAY,
        "closed after {:?}",
        start.elapsed()
    );
    drop(alice);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(TcpStream::connect(server.address()).is_err());
}

#[test]
fn second_signal_ends_the_delay_and_the_server() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = TestServer::start(&[LONG]);
        server.signal(Signal::TERM);
        wait_until("the delay runs", || draining(&server));
        server.signal(signal);
        assert_eq!(server.wait_for_exit().code(), Some(128 + signal.as_raw()));
    }
}

#[test]
fn unix_socket_stays_during_the_delay() {
    let dir = TempDir::new();
    let path = dir.path("wscast.sock");
    let server = TestServer::start(&[LONG, &format!("--listen=unix:{}", path.display())]);
    server.signal(Signal::TERM);
    wait_until("the socket says so", || {
        RawConnection::from(Socket::unix(&path))
            .get("/health")
            .status
            == 503
    });
    let mut alice = ClientOptions::new().open(Socket::unix(&path), "/ws");
    alice.say("still served");
    alice.expect("still served");
}
