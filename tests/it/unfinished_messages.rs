//! Messages in fragments that never end, and event-stream readers that keep sending: token expiry, limits,
//! administrators and shutdown end them.

use std::io::Write;
use std::thread;

use rustix::process::Signal;
use serde_json::json;

use crate::support::token::{SECRET, admin_bearer, claims, now, ops_with_claims, signed};
use crate::support::{
    CLOSE, CONTINUATION, RawConnection, TEXT, TestServer, frame, request, wait_until,
};

/// Sends fragments of one message without end and returns the close code, with the time of the Close in Unix seconds.
fn send_fragments_until_closed(client: &mut RawConnection, meanwhile: impl FnOnce()) -> (u16, i64) {
    client.send_frame(false, TEXT, b"{");
    let mut socket = client.socket.try_clone().expect("a second handle");
    thread::scope(|scope| {
        scope.spawn(move || {
            let fragment = frame(false, CONTINUATION, b"");
            wait_until("the client is disconnected", || {
                socket.write_all(&fragment).is_err()
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

#[test]
fn token_expiry_closes_a_client_in_the_middle_of_a_message() {
    let server = TestServer::with_tokens(&[]);
    let end = now() + 3;
    let mut client = server.passive_client(&ops_with_claims(json!({"exp": end})));
    let (code, closed_at) = send_fragments_until_closed(&mut client, || ());
    assert_eq!(code, 4001);
    assert!(closed_at <= end, "closed after the end");
}

#[test]
fn administrator_closes_a_client_in_the_middle_of_a_message() {
    let server = TestServer::with_tokens(&[]);
    let bearer = admin_bearer();
    let mut client = server.passive_client(&ops_with_claims(json!({})));
    let (code, _) = send_fragments_until_closed(&mut client, || {
        let closed = server
            .raw()
            .request("DELETE", "/users/alice/clients", &[&bearer]);
        assert_eq!(closed.json(), json!({"closed": 1}));
    });
    assert_eq!(code, 4003);
    wait_until("the client has left", || {
        let stats = server.raw().request("GET", "/stats", &[&bearer]).json();
        stats["connected_clients"] == 0
    });
}

#[test]
fn administrator_closes_an_event_stream() {
    let server = TestServer::with_tokens(&["--ping-interval=1"]);
    let bearer = admin_bearer();
    let token = signed(SECRET, &claims(json!({})));
    let mut reader = server.raw();
    let target = format!("/rooms/ops/events?token={token}");
    reader.send(request("GET", &target, &[]));
    assert_eq!(reader.response_to("HEAD").status, 200);
    wait_until("the stream is closed", || {
        let closed = server
            .raw()
            .request("DELETE", "/users/alice/clients", &[&bearer]);
        closed.json() == json!({"closed": 1})
    });
    wait_until("the client has left", || {
        let stats = server.raw().request("GET", "/stats", &[&bearer]).json();
        stats["connected_clients"] == 0
    });
    drop(reader);
}

#[test]
fn shutdown_does_not_wait_for_the_end_of_a_message() {
    let mut server = TestServer::start(&["--drain=0"]);
    let mut client = server.passive_client("/ws");
    let (code, _) = send_fragments_until_closed(&mut client, || server.signal(Signal::TERM));
    assert_eq!(code, 1001);
    assert!(server.wait_for_exit().success());
    assert!(!server.log().contains("did not close"), "{}", server.log());
}

/// Empty fragments carry no data, but reading them is work.
#[test]
fn empty_fragments_count_towards_the_message_limit() {
    let server = TestServer::start(&["--max-message-bytes=1000", "--outbox-bytes=4KiB"]);
    let mut client = server.passive_client("/ws");
    client.send_frame(false, TEXT, b"{");
    client.send(frame(false, CONTINUATION, b"").repeat(1000));
    client.send_frame(true, CONTINUATION, br#""type":"ping"}"#);
    assert_eq!(client.next()["type"], "pong", "within the limit");
    client.send_frame(false, TEXT, b"{");
    client.send(frame(false, CONTINUATION, b"").repeat(4000));
    assert_eq!(client.next()["payload"]["code"], "message_too_large");
    assert_eq!(client.close_code(), 1009);
}

#[test]
fn empty_fragments_count_towards_the_byte_rate() {
    let server = TestServer::start(&["--max-byte-rate=1KiB", "--max-message-bytes=10KiB"]);
    let mut client = server.passive_client("/ws");
    let fragment = frame(false, CONTINUATION, b"").repeat(10_000);
    let mut answers = (0..10).map(|_| {
        client.send_frame(false, TEXT, b"{");
        client.send(&fragment);
        client.send_frame(true, CONTINUATION, br#""type":"ping"}"#);
        client.next()
    });
    let refused = answers.find(|reply| reply["type"] == "error");
    let refused = refused.expect("a refusal");
    assert_eq!(refused["payload"]["code"], "rate_limited", "{refused}");
}

#[test]
fn event_stream_reader_that_keeps_sending_is_disconnected() {
    let server = TestServer::start(&[]);
    let mut reader = server.raw();
    reader.send(request("GET", "/rooms/lobby/events", &[]));
    assert_eq!(reader.response_to("HEAD").status, 200);
    wait_until("the reader is disconnected", || {
        !reader.try_send([b'x'; 1000])
    });
    server.wait_for_clients(0);
}
