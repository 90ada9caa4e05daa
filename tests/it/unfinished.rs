//! What never comes to an end: messages in fragments without end, and readers who talk. Time, rates and
//! operators end it.

use std::io::Write;
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::token::{SECRET, claims, now, signed};
use crate::support::{RawConnection, TestServer, eventually, frame, request};
use crate::tokens::server;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;

/// Begins a message that never ends, and goes on with it until it is cut off; gives the code it is closed
/// with, and when that was.
fn go_on(client: &mut RawConnection, meanwhile: impl FnOnce()) -> (u16, i64) {
    client.send_frame(false, TEXT, b"{");
    let mut sender = client.socket.try_clone().expect("a second handle");
    thread::scope(|scope| {
        scope.spawn(move || {
            let nothing = frame(false, CONTINUATION, b"");
            eventually("it is cut off", || {
                sender.write_all(&nothing).is_err().then_some(())
            });
        });
        meanwhile();
        loop {
            let frame = client.frame().expect("closed without a Close frame");
            if frame.opcode == CLOSE {
                return (frame.close_code(), now());
            }
        }
    })
}

fn enter(server: &TestServer, changes: Value) -> RawConnection {
    let token = signed(SECRET, &claims(changes));
    let mut client = server.raw();
    client.enter(&format!("/ws?room=ops&token={token}"));
    client
}

#[test]
fn a_token_ends_in_the_middle_of_a_message() {
    let server = server(&[]);
    let end = now() + 3;
    let mut client = enter(&server, json!({"exp": end}));
    let (code, closed_at) = go_on(&mut client, || ());
    assert_eq!(code, 4001);
    assert!(closed_at <= end, "closed after the end");
}

#[test]
fn an_operator_closes_in_the_middle_of_a_message() {
    let server = server(&[]);
    let admin = signed(SECRET, &claims(json!({"sub": "root", "admin": true})));
    let bearer = format!("Authorization: Bearer {admin}");
    let mut client = enter(&server, json!({}));
    let (code, _) = go_on(&mut client, || {
        let closed = server
            .raw()
            .request("DELETE", "/users/alice/clients", &[&bearer]);
        assert_eq!(closed.json(), json!({"closed": 1}));
    });
    assert_eq!(code, 4003);
    eventually("its place is free", || {
        let stats = server.raw().request("GET", "/stats", &[&bearer]).json();
        (stats["connected_clients"] == 0).then_some(())
    });
}

#[test]
fn an_operator_closes_a_reader_of_events_who_stays() {
    let server = server(&["--ping-interval=1"]);
    let admin = signed(SECRET, &claims(json!({"sub": "root", "admin": true})));
    let bearer = format!("Authorization: Bearer {admin}");
    let token = signed(SECRET, &claims(json!({})));
    let mut reader = server.raw();
    let target = format!("/rooms/ops/events?token={token}");
    reader.send(request("GET", &target, &[]));
    assert_eq!(reader.response_to("HEAD").status, 200);
    eventually("it is closed", || {
        let closed = server
            .raw()
            .request("DELETE", "/users/alice/clients", &[&bearer]);
        (closed.json() == json!({"closed": 1})).then_some(())
    });
    eventually("its place is free", || {
        let stats = server.raw().request("GET", "/stats", &[&bearer]).json();
        (stats["connected_clients"] == 0).then_some(())
    });
    drop(reader);
}

#[test]
fn shutdown_does_not_wait_for_the_end_of_a_message() {
    let mut server = TestServer::start(&["--drain=0"]);
    let mut client = server.raw();
    client.enter("/ws");
    let (code, _) = go_on(&mut client, || server.signal(Signal::TERM));
    assert_eq!(code, 1001);
    assert!(server.wait_for_exit().success());
    assert!(!server.log().contains("did not close"), "{}", server.log());
}

/// However little they say, reading them is work.
#[test]
fn fragments_that_say_nothing_are_bounded_too() {
    let server = TestServer::start(&["--max-message-bytes=1000", "--outbox-bytes=4KiB"]);
    let mut client = server.raw();
    client.enter("/ws");
    client.send_frame(false, TEXT, b"{");
    client.send(frame(false, CONTINUATION, b"").repeat(1000));
    client.send_frame(true, CONTINUATION, br#""type":"ping"}"#);
    assert_eq!(client.next()["type"], "pong", "within the bound");
    client.send_frame(false, TEXT, b"{");
    client.send(frame(false, CONTINUATION, b"").repeat(4000));
    assert_eq!(client.next()["payload"]["code"], "message_too_large");
    assert_eq!(client.close_code(), 1009);
}

#[test]
fn fragments_that_say_nothing_count_as_bytes() {
    let server = TestServer::start(&["--max-byte-rate=1KiB", "--max-message-bytes=10KiB"]);
    let mut client = server.raw();
    client.enter("/ws");
    let nothing = frame(false, CONTINUATION, b"").repeat(10_000);
    let mut answers = (0..10).map(|_| {
        client.send_frame(false, TEXT, b"{");
        client.send(&nothing);
        client.send_frame(true, CONTINUATION, br#""type":"ping"}"#);
        client.next()
    });
    let refused = answers.find(|answer| answer["type"] == "error");
    let refused = refused.expect("one is too much");
    assert_eq!(refused["payload"]["code"], "rate_limited", "{refused}");
}

#[test]
fn a_reader_of_events_who_goes_on_talking_is_left() {
    let server = TestServer::start(&[]);
    let mut reader = server.raw();
    reader.send(request("GET", "/rooms/lobby/events", &[]));
    assert_eq!(reader.response_to("HEAD").status, 200);
    eventually("it is left", || {
        (!reader.try_send([b'x'; 1000])).then_some(())
    });
    eventually("its place is free", || {
        (server.connected_clients() == 0).then_some(())
    });
}
