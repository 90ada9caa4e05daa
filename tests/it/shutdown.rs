//! The end of the server: everyone is told, nobody holds it up, and the port is free.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use crate::support::{PATIENCE, RawConnection, Socket, TestServer, allow_many_sockets, said};

/// Somebody's turn comes at once, everybody else's after an hour or so.
const LONG_DRAIN: [&str; 4] = ["--drain", "10000", "--shutdown-timeout", "10000"];

fn entered(server: &TestServer) -> RawConnection {
    let mut raw = server.raw();
    raw.enter("/ws");
    raw
}

fn assert_port_is_free(address: SocketAddr) {
    TcpListener::bind(address).expect("the port can be bound again");
}

/// Which of these sockets is the first that has something to read.
fn first_told(sockets: &[&Socket]) -> usize {
    let mut waiting: Vec<_> = sockets
        .iter()
        .map(|socket| PollFd::new(socket, PollFlags::IN))
        .collect();
    let patience = PATIENCE.try_into().expect("a time-out");
    poll(&mut waiting, Some(&patience)).expect("poll");
    let told = waiting.iter().position(|fd| !fd.revents().is_empty());
    told.expect("nobody was told anything")
}

/// Two clients, of whom one was closed; the other's turn is far away.
fn in_the_middle_of_a_drain() -> (TestServer, RawConnection, [RawConnection; 2]) {
    let server = TestServer::start(&LONG_DRAIN);
    let mut clients = [entered(&server), entered(&server)];
    let mut http = server.raw();
    assert_eq!(http.get("/health").status, 200);
    server.signal(Signal::TERM);
    let told = first_told(&clients.each_ref().map(|client| &client.socket));
    assert_eq!(clients[told].close_code(), 1001);
    (server, http, clients)
}

/// Says something to a crowd, sends the signal, and finds everyone told and the process ended well.
fn assert_ends_well(clients: usize, signal: Signal) {
    let mut server = TestServer::start(&[]);
    let mut crowd: Vec<_> = (0..clients).map(|_| server.client()).collect();
    crowd[0].say("last words");
    crowd[0].expect("last words");
    server.signal(signal);
    for (number, mut client) in crowd.into_iter().enumerate() {
        if number > 0 {
            client.expect("last words");
        }
        assert_eq!(client.close_code(), 1001);
    }
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert_port_is_free(server.address());
}

#[test]
fn on_sigterm_everyone_gets_the_last_words_and_a_close() {
    allow_many_sockets();
    assert_ends_well(500, Signal::TERM);
}

#[test]
fn on_sigint_too() {
    assert_ends_well(5, Signal::INT);
}

#[test]
fn without_clients_it_ends_as_well() {
    let mut server = TestServer::start(&[]);
    let mut idle = server.raw();
    assert_eq!(idle.get("/health").status, 200);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert_port_is_free(server.address());
}

#[test]
fn another_server_can_follow_on_the_same_port() {
    let mut server = TestServer::start(&[]);
    let port = server.address().port().to_string();
    let mut alice = server.client();
    server.signal(Signal::TERM);
    assert_eq!(alice.close_code(), 1001);
    drop(alice);
    server.wait_for_exit();
    let next = TestServer::start(&["--port", &port]);
    let mut alice = next.client();
    alice.say("back again");
    assert_eq!(alice.expect("back again")["offset"], 1);
}

#[test]
fn while_it_drains_health_says_so_and_nobody_new_is_let_in() {
    let (server, mut http, _clients) = in_the_middle_of_a_drain();
    let health = http.get("/health");
    assert_eq!(health.status, 503);
    assert_eq!(health.json()["status"], "draining");
    assert_eq!(health.header("Connection"), Some("close"));
    http.assert_closed();

    let refused = TcpStream::connect(server.address()).expect_err("nobody new");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn while_it_drains_those_who_are_left_are_served() {
    let server = TestServer::start(&LONG_DRAIN);
    let mut clients: Vec<_> = (0..3).map(|_| entered(&server)).collect();
    server.signal(Signal::TERM);
    let sockets: Vec<_> = clients.iter().map(|client| &client.socket).collect();
    let told = first_told(&sockets);
    assert_eq!(clients.remove(told).close_code(), 1001);
    clients[0].say("still here");
    for client in &mut clients {
        assert_eq!(client.next()["payload"], "still here");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut server, _http, _clients) = in_the_middle_of_a_drain();
        server.signal(signal);
        let status = server.wait_for_exit();
        assert_eq!(status.code(), Some(128 + signal.as_raw()));
        assert_port_is_free(server.address());
    }
}

#[test]
fn who_never_answers_the_close_holds_nothing_up() {
    let patient = ["--drain", "0", "--ping-interval", "3600"];
    let mut server = TestServer::start(&[&patient[..], &["--shutdown-timeout", "0.5"]].concat());
    let mut mute = entered(&server);
    server.signal(Signal::TERM);
    let close = mute.frame().expect("a close");
    assert_eq!(close.close_code(), 1001);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert_port_is_free(server.address());
}

#[test]
fn who_does_not_even_read_the_close_holds_nothing_up() {
    let mut server = TestServer::start(&[
        "--drain",
        "0",
        "--shutdown-timeout",
        "0.5",
        "--slow-timeout",
        "3600",
        "--ping-interval",
        "3600",
        "--outbox-bytes",
        "64MiB",
    ]);
    let mut alice = entered(&server);
    let _stalled = entered(&server);
    let words = said(&"x".repeat(32 * 1024));
    while server.lagging_clients() == 0 {
        alice.send(&words);
        alice.next_offset();
    }
    server.signal(Signal::TERM);
    assert_eq!(alice.close_code(), 1001);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn closes_are_spread_and_in_no_order() {
    const CLIENTS: usize = 60;
    const DRAIN: Duration = Duration::from_secs(2);
    let mut server = TestServer::start(&["--drain", "2"]);
    let crowd: Vec<_> = (0..CLIENTS).map(|_| entered(&server)).collect();
    let mut closed: Vec<(Instant, usize)> = thread::scope(|scope| {
        let threads: Vec<_> = crowd
            .into_iter()
            .enumerate()
            .map(|(number, mut client)| {
                scope.spawn(move || {
                    assert_eq!(client.close_code(), 1001);
                    (Instant::now(), number)
                })
            })
            .collect();
        server.signal(Signal::TERM);
        let closed = threads.into_iter().map(|t| t.join().expect("a client"));
        closed.collect()
    });
    assert_eq!(server.wait_for_exit().code(), Some(0));

    closed.sort_unstable();
    let (first, last) = (closed[0].0, closed[CLIENTS - 1].0);
    assert!(
        last - first > DRAIN / 10,
        "all closed within {:?}",
        last - first
    );

    // Pairs that were closed in the order in which they came: about half of them.
    let pairs = CLIENTS * (CLIENTS - 1) / 2;
    let in_order = (0..CLIENTS)
        .flat_map(|later| (0..later).map(move |earlier| (earlier, later)))
        .filter(|&(earlier, later)| closed[earlier].1 < closed[later].1)
        .count();
    assert!(
        (pairs / 5..pairs * 4 / 5).contains(&in_order),
        "{in_order} of {pairs} pairs in the order in which they connected"
    );
}
