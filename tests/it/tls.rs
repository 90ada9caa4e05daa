//! https and wss: the same server, sealed, and a certificate that changes under open connections.

use std::fs;
use std::io::{ErrorKind, Read};

use rustix::process::Signal;
use rustls::version::{TLS12, TLS13};

use crate::support::{
    Certificate, RawConnection, Socket, TestClient, TestServer, allow_many_sockets, eventually,
    said,
};

#[test]
fn https_wss_and_event_streams_share_the_port() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let mut events = server.raw();
    events.send("GET /rooms/lobby/events HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut streamed = String::new();
    let mut streams = |what: &str| {
        while !streamed.contains(what) {
            let mut chunk = [0; 4096];
            let read = events.socket.read(&mut chunk).expect("events");
            assert_ne!(read, 0, "ended after {streamed}");
            streamed.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
    };
    streams("event: joined");
    let mut alice = server.client();
    alice.say("sealed");
    alice.expect("sealed");
    assert_eq!(server.get_json("/health")["status"], "healthy");
    streams("\"sealed\"");
    alice.close();
}

#[test]
fn both_versions_talk_to_each_other_and_trust_the_certificate() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let mut clients = [&TLS12, &TLS13].map(|version| {
        let trust = certificate.trust(&[version]);
        let mut socket = Socket::tcp(server.address()).with_tls(&trust);
        socket.try_handshake().expect("handshake");
        assert_eq!(socket.tls().protocol_version(), Some(version.version));
        TestClient::enter(socket, "/ws")
    });
    clients[0].say("from 1.2");
    clients[1].expect("from 1.2");
    clients[1].say("from 1.3");
    clients[0].expect("from 1.2");
    clients[0].expect("from 1.3");
}

#[test]
fn who_comes_back_resumes_its_tls_session() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let trust = certificate.trust(&[&TLS13]);
    let kinds = [(), ()].map(|()| {
        let socket = Socket::tcp(server.address()).with_tls(&trust);
        let mut raw = RawConnection::over(socket);
        // The ticket comes with the answer.
        assert_eq!(raw.get("/health").status, 200);
        raw.socket.tls().handshake_kind().expect("done")
    });
    assert_eq!(kinds[0], rustls::HandshakeKind::Full);
    assert_eq!(kinds[1], rustls::HandshakeKind::Resumed);
}

/// Messages of several records, to a client whose socket is full for a while: order is kept over what was
/// sealed, what was queued and what follows.
#[test]
fn a_lagging_client_catches_up_in_order() {
    const MESSAGES: u64 = 300;
    let certificate = Certificate::new();
    let server = certificate.serve(&["--outbox-bytes=64MiB", "--history-bytes=1KiB"]);
    let mut reader = server.raw();
    reader.enter("/ws");
    let mut speaker = server.client_at("/ws?room=elsewhere&room=lobby");
    let text = "x".repeat(50_000);
    for _ in 0..MESSAGES {
        speaker.say_in("lobby", text.as_str());
        speaker.next_of("message");
    }
    eventually("the reader lags", || {
        (server.lagging_clients() == 1).then_some(())
    });
    for offset in 1..=MESSAGES {
        assert_eq!(reader.next_offset(), offset);
    }
    eventually("it has caught up", || {
        (server.lagging_clients() == 0).then_some(())
    });
    speaker.say_in("lobby", "afterwards");
    assert_eq!(reader.next()["payload"], "afterwards");
    // And what it says itself still comes in whole.
    reader.say(&text);
    assert_eq!(reader.next()["payload"], text.as_str());
}

#[test]
fn an_end_is_told_twice_once_in_each_protocol() {
    let certificate = Certificate::new();
    let mut server = certificate.serve(&["--drain=0"]);
    let mut raw = server.raw();
    raw.enter("/ws");
    server.signal(Signal::TERM);
    // `close_code` asserts a clean end after it, which over TLS is a close_notify: without one
    // reading fails.
    assert_eq!(raw.close_code(), 1001);
    drop(raw);
    assert!(server.wait_for_exit().success());
}

#[test]
fn an_answer_that_closes_ends_with_a_close_notify() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let mut raw = server.raw();
    raw.send("GET /health HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!(raw.response().status, 200);
    raw.assert_closed();
}

#[test]
fn a_client_that_says_close_notify_is_gone() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let mut raw = server.raw();
    raw.enter("/ws");
    assert_eq!(server.connected_clients(), 1);
    raw.socket.tls().send_close_notify();
    let _sent = std::io::Write::flush(&mut raw.socket);
    eventually("it is gone", || {
        (server.connected_clients() == 0).then_some(())
    });
}

#[test]
fn a_slow_consumer_is_evicted_and_nobody_else_waits() {
    let certificate = Certificate::new();
    let server = certificate.serve(&["--outbox-bytes=256KiB", "--slow-timeout=60"]);
    let mut slow = server.raw();
    slow.enter("/ws");
    let mut alice = server.client();
    let text = "x".repeat(30_000);
    eventually("the slow one is evicted", || {
        alice.say(text.as_str());
        alice.expect(text.as_str());
        (server.total("slow_consumers_evicted") == 1).then_some(())
    });
    alice.say("goes on");
    alice.expect("goes on");
}

/// The certificate changes under 500 open connections; none notices, and who comes next is shown the
/// new one, even with a ticket from before.
#[test]
fn a_new_certificate_drops_nobody() {
    const CLIENTS: usize = 500;
    allow_many_sockets();
    let mut certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let before = certificate.trust(&[&TLS13, &TLS12]);
    let connect = |trust: &_| Socket::tcp(server.address()).with_tls(trust);
    let old = certificate.der().to_vec();
    let mut crowd: Vec<RawConnection> = (0..CLIENTS)
        .map(|_| {
            let mut raw = RawConnection::over(connect(&before));
            raw.enter("/ws");
            raw
        })
        .collect();

    certificate.renew();
    server.signal(Signal::HUP);
    eventually("the new certificate is shown", || {
        (server.connect().shown() == certificate.der()).then_some(())
    });
    assert_ne!(old, certificate.der());
    let untrusted = connect(&before).try_handshake();
    assert!(untrusted.is_err(), "a ticket has outlived its certificate");
    let mut newcomer = TestClient::enter(connect(&certificate.trust(&[&TLS13])), "/ws");

    newcomer.say("renewed");
    for raw in &mut crowd {
        assert_eq!(raw.next()["payload"], "renewed");
    }
    crowd[CLIENTS / 2].send(said("all here"));
    for raw in &mut crowd {
        assert_eq!(raw.next()["payload"], "all here");
    }
    assert_eq!(server.connected_clients(), CLIENTS as u64 + 1);
    assert_eq!(server.total("tls_refused"), 1, "only the untrusting one");
}

#[test]
fn a_bad_certificate_is_not_loaded_and_the_old_one_stays() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let key = certificate.scratch.path("key.pem");
    for bad in ["", "no PEM at all", Certificate::other_key().as_str()] {
        fs::write(&key, bad).expect("key");
        let told = || server.log().matches("not reloaded: --tls-key").count();
        let before = told();
        server.signal(Signal::HUP);
        eventually("it is said", || (told() == before + 1).then_some(()));
        assert_eq!(server.connect().shown(), certificate.der());
    }
}

#[test]
fn what_cannot_be_used_ends_the_start_with_one_line() {
    let certificate = Certificate::new();
    let file = |name: &str, text: &str| {
        let path = certificate.scratch.path(name);
        fs::write(&path, text).expect("file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let [_, cert, _, key] = certificate.flags();
    let nonsense = file("nonsense.pem", "nonsense");
    let broken = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let broken = file("broken.pem", broken);
    let other = file("other.pem", &Certificate::other_key());
    for (cert, key, setting, why) in [
        ("/nowhere.pem", key.as_str(), "--tls-cert", "No such file"),
        (&cert, "/nowhere.pem", "--tls-key", "No such file"),
        (&nonsense, &key, "--tls-cert", "PEM"),
        (&cert, &nonsense, "--tls-key", "PEM"),
        (&cert, &cert, "--tls-key", "PEM"),
        (&broken, &key, "--tls-cert", "no usable certificate"),
        (&cert, &other, "--tls-key", "does not match"),
    ] {
        let mut command = TestServer::command(&["--tls-cert", cert, "--tls-key", key]);
        let output = command.output().expect("run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(setting) && said.contains(why), "{said}");
    }
}

#[test]
fn without_anything_to_read_again_a_hang_up_ends_the_server_in_order() {
    let mut server = TestServer::start(&["--drain=0"]);
    let mut alice = server.client();
    server.signal(Signal::HUP);
    assert_eq!(alice.close_code(), 1001);
    drop(alice);
    assert!(server.wait_for_exit().success(), "{}", server.log());
}

#[test]
fn who_speaks_plainly_where_tls_is_spoken_is_told() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    for request in [
        "GET /ws HTTP/1.1\r\nHost: test\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n",
        "nonsense",
    ] {
        let mut raw = RawConnection::connect(server.address());
        raw.send(request);
        let response = raw.response();
        assert_eq!(response.status, 400, "{request}");
        assert_eq!(response.error_code(), "tls_required");
        assert!(response.text().contains("https://"), "{}", response.text());
        raw.assert_closed();
    }
}

#[test]
fn who_speaks_tls_where_it_is_not_spoken_is_told_in_plain_http() {
    let server = TestServer::start(&[]);
    let mut raw = server.raw();
    raw.send(Certificate::client_hello());
    let response = raw.response();
    assert_eq!(response.status, 400);
    assert!(
        response.text().contains("does not speak TLS"),
        "{}",
        response.text()
    );
    raw.assert_closed();
    let mut socket = server
        .connect()
        .with_tls(&Certificate::new().trust(&[&TLS13]));
    let error = socket.try_handshake().expect_err("no TLS");
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
}

#[test]
fn a_full_server_answers_a_hello_with_an_alert() {
    let certificate = Certificate::new();
    let server = certificate.serve(&["--max-connections=1"]);
    let _only = server.client();
    let error = server.connect().try_handshake().expect_err("full");
    assert!(error.to_string().contains("InternalError"), "{error}");
}
