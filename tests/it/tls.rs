//! https and wss: sessions over TLS, and a certificate that changes while clients are connected.

use std::fs;
use std::io::ErrorKind;

use rustix::process::Signal;
use rustls::version::{TLS12, TLS13};

use crate::support::{
    Certificate, ClientOptions, RawConnection, Socket, TestClient, TestServer, allow_many_sockets,
    message_frame, wait_until,
};

#[test]
fn https_wss_and_event_streams_share_the_port() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let mut events = server.raw();
    events.send("GET /rooms/lobby/events HTTP/1.1\r\nHost: test\r\n\r\n");
    events.read_until("event: joined");
    let mut alice = server.client();
    alice.say("encrypted");
    alice.expect("encrypted");
    assert_eq!(server.get_json("/health")["status"], "healthy");
    events.read_until("\"encrypted\"");
    alice.close();
}

#[test]
fn clients_of_tls_1_2_and_1_3_trust_the_certificate_and_talk() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let mut clients = [&TLS12, &TLS13].map(|version| {
        let trust = certificate.trust(&[version]);
        let mut socket = Socket::tcp(server.address()).with_tls(&trust);
        socket.try_handshake().expect("handshake");
        assert_eq!(socket.tls().protocol_version(), Some(version.version));
        ClientOptions::new().open(socket, "/ws")
    });
    clients[0].say("from 1.2");
    clients[1].expect("from 1.2");
    clients[1].say("from 1.3");
    clients[0].expect("from 1.2");
    clients[0].expect("from 1.3");
}

#[test]
fn returning_client_resumes_its_tls_session() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let trust = certificate.trust(&[&TLS13]);
    let kinds = [(), ()].map(|()| {
        let socket = Socket::tcp(server.address()).with_tls(&trust);
        let mut raw = RawConnection::from(socket);
        // The session ticket comes with the response.
        assert_eq!(raw.get("/health").status, 200);
        raw.socket.tls().handshake_kind().expect("done")
    });
    assert_eq!(kinds[0], rustls::HandshakeKind::Full);
    assert_eq!(kinds[1], rustls::HandshakeKind::Resumed);
}

/// Each message takes several TLS records, and the client's socket is full for a while. Order is kept among encrypted,
/// queued and later messages.
#[test]
fn lagging_tls_client_catches_up_in_order() {
    const MESSAGES: u64 = 300;
    let certificate = Certificate::new();
    let server = certificate.serve(&["--outbox-bytes=64MiB", "--history-bytes=1KiB"]);
    let mut reader = server.passive_client("/ws");
    let mut publisher = server.client_at("/ws?room=other&room=lobby");
    let text = "x".repeat(50_000);
    for _ in 0..MESSAGES {
        publisher.say_in("lobby", text.as_str());
        publisher.next_of("message");
    }
    wait_until("the reader lags", || server.lagging_clients() == 1);
    for offset in 1..=MESSAGES {
        assert_eq!(reader.next_offset(), offset);
    }
    wait_until("the reader has caught up", || server.lagging_clients() == 0);
    publisher.say_in("lobby", "afterwards");
    assert_eq!(reader.next()["payload"], "afterwards");
    // The client's own large message arrives whole, too.
    reader.say(text.as_str());
    assert_eq!(reader.next()["payload"], text.as_str());
}

#[test]
fn shutdown_sends_a_close_frame_and_a_close_notify() {
    let certificate = Certificate::new();
    let mut server = certificate.serve(&["--drain=0"]);
    let mut raw = server.passive_client("/ws");
    server.signal(Signal::TERM);
    // `close_code` asserts a clean end, which over TLS is a close_notify: without one, reading fails.
    assert_eq!(raw.close_code(), 1001);
    drop(raw);
    assert!(server.wait_for_exit().success());
}

#[test]
fn response_that_closes_ends_with_a_close_notify() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let mut raw = server.raw();
    raw.send("GET /health HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!(raw.response().status, 200);
    raw.assert_closed();
}

#[test]
fn client_that_sends_close_notify_is_disconnected() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let mut raw = server.passive_client("/ws");
    assert_eq!(server.connected_clients(), 1);
    raw.socket.tls().send_close_notify();
    let _sent = std::io::Write::flush(&mut raw.socket);
    server.wait_for_clients(0);
}

#[test]
fn slow_tls_consumer_is_evicted_and_no_one_else_waits() {
    let certificate = Certificate::new();
    let server = certificate.serve(&["--outbox-bytes=256KiB", "--slow-timeout=60"]);
    let _slow = server.passive_client("/ws");
    let mut alice = server.client();
    let text = "x".repeat(30_000);
    wait_until("the slow consumer is evicted", || {
        alice.say(text.as_str());
        alice.expect(text.as_str());
        server.total("slow_consumers_evicted") == 1
    });
    alice.say("goes on");
    alice.expect("goes on");
}

/// The certificate changes under 500 open connections: all stay open, and new clients see the new certificate, even with
/// a session ticket from before.
#[test]
fn new_certificate_disconnects_no_one() {
    const CLIENTS: usize = 500;
    allow_many_sockets();
    let mut certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let before = certificate.trust(&[&TLS13, &TLS12]);
    let connect = |trust: &_| Socket::tcp(server.address()).with_tls(trust);
    let old = certificate.der().to_vec();
    let options = ClientOptions::new().passive();
    let mut crowd: Vec<TestClient> = (0..CLIENTS)
        .map(|_| options.open(connect(&before), "/ws"))
        .collect();

    certificate.renew();
    server.signal(Signal::HUP);
    wait_until("new clients see the new certificate", || {
        server.connect().peer_certificate() == certificate.der()
    });
    assert_ne!(old, certificate.der());
    let untrusted = connect(&before).try_handshake();
    assert!(untrusted.is_err(), "a ticket has outlived its certificate");
    let mut newcomer = ClientOptions::new().open(connect(&certificate.trust(&[&TLS13])), "/ws");

    newcomer.say("renewed");
    for raw in &mut crowd {
        assert_eq!(raw.next()["payload"], "renewed");
    }
    crowd[CLIENTS / 2].send(message_frame("all connected"));
    for raw in &mut crowd {
        assert_eq!(raw.next()["payload"], "all connected");
    }
    assert_eq!(server.connected_clients(), CLIENTS as u64 + 1);
    assert_eq!(
        server.total("tls_refused"),
        1,
        "only the client that trusts the old certificate"
    );
}

#[test]
fn invalid_key_is_not_loaded_and_the_certificate_stays() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[]);
    let key = certificate.dir.path("key.pem");
    for bad in ["", "no PEM at all", Certificate::other_key().as_str()] {
        fs::write(&key, bad).expect("key");
        let count = || server.log().matches("not reloaded: --tls-key").count();
        let before = count();
        server.signal(Signal::HUP);
        wait_until("the refusal is logged", || count() == before + 1);
        assert_eq!(server.connect().peer_certificate(), certificate.der());
    }
}

#[test]
fn unusable_certificate_or_key_fails_with_one_line() {
    let certificate = Certificate::new();
    let file = |name: &str, text: &str| {
        let path = certificate.dir.path(name);
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
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(setting) && stderr.contains(why), "{stderr}");
    }
}

#[test]
fn sighup_without_files_to_reload_shuts_down() {
    let mut server = TestServer::start(&["--drain=0"]);
    let mut alice = server.client();
    server.signal(Signal::HUP);
    assert_eq!(alice.close_code(), 1001);
    drop(alice);
    assert!(server.wait_for_exit().success(), "{}", server.log());
}

#[test]
fn plain_http_on_a_tls_port_gets_400_tls_required() {
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
fn tls_on_a_plain_port_gets_400_in_plain_http() {
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
fn full_server_answers_a_hello_with_an_alert() {
    let certificate = Certificate::new();
    let server = certificate.serve(&["--max-connections=1"]);
    let _only = server.client();
    let error = server.connect().try_handshake().expect_err("full");
    assert!(error.to_string().contains("InternalError"), "{error}");
}
