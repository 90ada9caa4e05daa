//! Shutdown: all clients get a close, none delays it, and the port is free afterwards.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    CLOSE, RawConnection, Socket, TIMEOUT, TestClient, TestServer, allow_many_sockets,
    message_frame,
};

/// A drain in which the first client is closed at once and the next one after about an hour.
const LONG_DRAIN: [&str; 4] = ["--drain", "10000", "--shutdown-timeout", "10000"];

fn assert_port_is_free(address: SocketAddr) {
    TcpListener::bind(address).expect("the port can be bound again");
}

/// Returns the index of the first socket that has input.
fn first_with_input(sockets: &[&Socket]) -> usize {
    let mut waiting: Vec<_> = sockets
        .iter()
        .map(|socket| PollFd::new(socket, PollFlags::IN))
        .collect();
    let timeout = TIMEOUT.try_into().expect("a time-out");
    poll(&mut waiting, Some(&timeout)).expect("poll");
    let first = waiting.iter().position(|fd| !fd.revents().is_empty());
    first.expect("no socket has input")
}

/// Starts a drain of two clients; one of them has been closed, the other will not be for a long time.
fn server_in_a_drain() -> (TestServer, RawConnection, [TestClient; 2]) {
    let server = TestServer::start(&LONG_DRAIN);
    let mut clients = [server.passive_client("/ws"), server.passive_client("/ws")];
    let mut http = server.raw();
    assert_eq!(http.get("/health").status, 200);
    server.signal(Signal::TERM);
    let first = first_with_input(&clients.each_ref().map(|client| &client.socket));
    assert_eq!(clients[first].close_code(), 1001);
    (server, http, clients)
}

/// Publishes to a crowd and sends the signal. Asserts that all get the message and a close, and that the exit code is 0.
fn assert_shuts_down(clients: usize, signal: Signal) {
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
fn sigterm_delivers_pending_messages_and_closes_everyone() {
    allow_many_sockets();
    assert_shuts_down(500, Signal::TERM);
}

#[test]
fn sigint_delivers_pending_messages_and_closes_everyone() {
    assert_shuts_down(5, Signal::INT);
}

#[test]
fn server_without_clients_shuts_down() {
    let mut server = TestServer::start(&[]);
    let mut idle = server.raw();
    assert_eq!(idle.get("/health").status, 200);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert_port_is_free(server.address());
}

#[test]
fn another_server_can_start_on_the_same_port() {
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
fn draining_server_reports_it_and_accepts_no_connections() {
    let (server, mut http, _clients) = server_in_a_drain();
    let health = http.get("/health");
    assert_eq!(health.status, 503);
    assert_eq!(health.json()["status"], "draining");
    assert_eq!(health.header("Connection"), Some("close"));
    http.assert_closed();

    let refused = TcpStream::connect(server.address()).expect_err("no new connection");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn draining_server_serves_the_remaining_clients() {
    let server = TestServer::start(&LONG_DRAIN);
    let mut clients: Vec<_> = (0..3).map(|_| server.passive_client("/ws")).collect();
    server.signal(Signal::TERM);
    let sockets: Vec<_> = clients.iter().map(|client| &client.socket).collect();
    let first = first_with_input(&sockets);
    assert_eq!(clients.remove(first).close_code(), 1001);
    clients[0].say("still here");
    for client in &mut clients {
        assert_eq!(client.next()["payload"], "still here");
    }
}

#[test]
fn second_signal_ends_the_server_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut server, _http, _clients) = server_in_a_drain();
        server.signal(signal);
        let status = server.wait_for_exit();
        assert_eq!(status.code(), Some(128 + signal.as_raw()));
        assert_port_is_free(server.address());
    }
}

#[test]
fn client_that_never_answers_the_close_delays_nothing() {
    let flags = ["--drain", "0", "--ping-interval", "3600"];
    let mut server = TestServer::start(&[&flags[..], &["--shutdown-timeout", "0.5"]].concat());
    let mut mute = server.passive_client("/ws");
    server.signal(Signal::TERM);
    let close = mute.frame().expect("a close");
    assert_eq!(close.close_code(), 1001);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert_port_is_free(server.address());
}

#[test]
fn client_that_never_reads_the_close_delays_nothing() {
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
    let mut alice = server.passive_client("/ws");
    let _stalled = server.passive_client("/ws");
    let message = message_frame(&"x".repeat(32 * 1024));
    while server.lagging_clients() == 0 {
        alice.send(&message);
        alice.next_offset();
    }
    server.signal(Signal::TERM);
    assert_eq!(alice.close_code(), 1001);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn closes_are_spread_over_the_drain_in_random_order() {
    const CLIENTS: usize = 60;
    const DRAIN: Duration = Duration::from_secs(2);
    let mut server = TestServer::start(&["--drain", "2"]);
    let crowd: Vec<_> = (0..CLIENTS).map(|_| server.passive_client("/ws")).collect();
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

    // About half of all pairs are closed in the order in which they connected.
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

// Actors: 20 publishers, each of which waits for every acknowledgement; the signal comes meanwhile.
// Invariants: acknowledgements come in order until the Close frame, each client gets one, and the exit code is 0.
#[test]
fn publishers_that_wait_for_acknowledgements_are_closed_at_shutdown() {
    let mut server = TestServer::start(&[]);
    let mut publishers: Vec<_> = (0..20)
        .map(|n| server.passive_client(&format!("/ws?room=room-{n}")))
        .collect();
    let (started, publishing) = mpsc::channel();
    thread::scope(|scope| {
        let threads: Vec<_> = publishers
            .iter_mut()
            .map(|publisher| {
                let started = started.clone();
                scope.spawn(move || publish_until_closed(publisher, &started))
            })
            .collect();
        for _ in &threads {
            publishing
                .recv_timeout(TIMEOUT)
                .expect("an acknowledgement");
        }
        server.signal(Signal::TERM);
        for thread in threads {
            assert_eq!(thread.join().expect("a publisher failed"), 1001);
        }
    });
    drop(publishers);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

/// Publishes one message after the other and returns the code of the Close frame. Reports each acknowledgement.
fn publish_until_closed(publisher: &mut TestClient, acknowledged: &mpsc::Sender<()>) -> u16 {
    for id in 1.. {
        let request = json!({"type": "message", "payload": id, "id": id.to_string()});
        publisher.try_send_json(&request);
        loop {
            let frame = publisher.frame().expect("closed without a Close frame");
            if frame.opcode == CLOSE {
                return frame.close_code();
            }
            let reply: Value = serde_json::from_slice(&frame.payload).expect("JSON");
            if reply["type"] == "ack" {
                assert_eq!(reply["id"], id.to_string(), "{reply}");
                assert_eq!(reply["payload"]["offset"], id, "{reply}");
                break;
            }
        }
        // The test no longer waits after the first ones.
        acknowledged.send(()).ok();
    }
    unreachable!("the ids do not end")
}
