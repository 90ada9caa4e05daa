//! A thread whose client has gone serves the next one, which must notice nothing of it.

use std::collections::HashSet;
use std::fs;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{TestServer, wait_until};

/// Most threads that wait for a client of one endpoint.
const WAITING_THREADS_MAX: usize = 32;

/// Connects a client and ends it.
type OddEnd = fn(&TestServer);

/// The threads that serve clients or wait for one.
fn connection_threads(server: &TestServer) -> HashSet<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("threads");
    let names = tasks.filter_map(|task| {
        let task = task.ok()?;
        // A thread may end while it is looked at.
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        (name.trim() == "connection").then(|| task.file_name().to_string_lossy().into_owned())
    });
    names.collect()
}

// Actors: 1000 clients that connect and close, 50 at a time.
// Invariants: at most 32 threads wait afterwards, and all but one of them end soon.
#[test]
fn quick_connections_leave_few_waiting_threads_that_end() {
    let server = TestServer::start(&[]);
    for _ in 0..20 {
        let clients: Vec<_> = (0..50).map(|_| server.client()).collect();
        for client in clients {
            client.close();
        }
    }
    wait_until("at most 32 threads wait", || {
        connection_threads(&server).len() <= WAITING_THREADS_MAX
    });
    wait_until("one thread waits", || {
        connection_threads(&server).len() == 1
    });
    server.client().close();
}

#[test]
fn threads_serve_clients_in_turn() {
    const CLIENTS: usize = 200;
    let server = TestServer::start(&[]);
    let mut threads = HashSet::new();
    for _ in 0..CLIENTS {
        let client = server.client();
        threads.extend(connection_threads(&server));
        client.close();
    }
    // A thread that is still closing when the next client comes cannot serve it, so that some more are started.
    assert!(threads.len() < CLIENTS / 2, "{} threads", threads.len());
}

// Actors: a client with a user, rooms, presence and half a message; a client that breaks the protocol; a client that
// resets the connection in its request; a client that is reset while it is sent to. After each, a plain client.
// Invariants: the plain client has an id of its own, the lobby only, and gets exactly what it publishes.
#[test]
fn clients_that_end_oddly_leave_nothing_to_the_next() {
    let server = TestServer::start(&["--log-level=debug"]);
    let mut ids = HashSet::new();
    let odd_ends: [(&str, OddEnd); 5] = [
        ("half a message", |server| {
            let mut odd = server.client_at("/ws?room=secret&session=0123456789abcdef");
            odd.join("other");
            odd.send_frame(false, 0x1, br#"{"type":"message","payload":"#);
            odd.reset();
        }),
        ("an unknown opcode", |server| {
            let mut odd = server.passive_client("/ws?room=secret");
            odd.send_frame(true, 0x7, b"");
            assert_eq!(odd.close_code(), 1002);
        }),
        ("half a request", |server| {
            let mut odd = server.raw();
            odd.send(b"GET /ws?room=secret HTTP/1.1\r\nHost: a\r\nCookie: secret");
        }),
        ("a request that is not HTTP", |server| {
            let mut odd = server.raw();
            odd.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03secret\r\n\r\n");
        }),
        ("a response", |server| {
            server.get_json("/stats");
        }),
    ];
    for (what, end) in odd_ends {
        for _ in 0..5 {
            end(&server);
            let mut next = server.client();
            assert!(ids.insert(next.id()), "{what}: an id was used twice");
            let rooms = next.welcome().rooms();
            assert_eq!(rooms.len(), 1, "{what}: {rooms:?}");
            next.send_json(json!({"type": "message", "payload": what}));
            next.expect(what);
            next.close();
        }
    }
    for id in ids {
        wait_until(
            "start and end of each client are logged with its own id",
            || {
                let log = server.log();
                let id = format!("{id} ");
                let lines: Vec<_> = log.lines().filter(|line| line.contains(&id)).collect();
                let ends = |end| lines.iter().filter(|line| line.ends_with(end)).count();
                ends(" connected") == 1 && ends(" disconnected: closed by the client") == 1
            },
        );
    }
}

#[test]
fn waiting_threads_do_not_delay_shutdown() {
    let mut server = TestServer::start(&[]);
    let clients: Vec<_> = (0..20).map(|_| server.client()).collect();
    for client in clients {
        client.close();
    }
    server.wait_for_clients(0);
    server.signal(Signal::TERM);
    assert!(server.wait_for_exit().success());
    let log = server.log();
    assert!(!log.contains("did not close in time"), "{log}");
}
