//! Version 1 of the PROXY protocol, probes without a header, and what the log says about a header that is missing.

use std::io::Write;

use crate::support::{
    Certificate, ClientOptions, RawConnection, Socket, TempDir, TestServer, handshake,
    message_frame, proxy_header_for, request, wait_until,
};

const PROXY: [&str; 2] = ["--trusted-proxies=127.0.0.1", "--proxy-protocol"];

/// Sends a header and a handshake, and waits until the log has the client's address.
fn assert_client_is(server: &TestServer, header: &str, name: &str) {
    let mut raw = RawConnection::connect(server.address());
    raw.send(header);
    raw.send(handshake("/ws"));
    assert_eq!(raw.response().status, 101, "{header:?}");
    raw.next_json();
    let line = format!(" {name} connected");
    wait_until(&format!("{header:?} is logged"), || {
        server.log().contains(&line)
    });
}

fn warnings(server: &TestServer) -> Vec<String> {
    let log = server.log();
    let of_proxies = |line: &&str| line.contains("WARN") && line.contains("PROXY header");
    log.lines().filter(of_proxies).map(str::to_owned).collect()
}

#[test]
fn text_header_names_the_client_of_a_connection() {
    let server = TestServer::start(&PROXY);
    for (header, name) in [
        (
            "PROXY TCP4 203.0.113.7 127.0.0.1 4711 5000\r\n",
            "203.0.113.7:4711",
        ),
        (
            "PROXY TCP6 2001:db8::7 ::1 4712 5000\r\n",
            "[2001:db8::7]:4712",
        ),
        (
            "PROXY TCP6 ::ffff:203.0.113.8 ::1 4713 5000\r\n",
            "203.0.113.8:4713",
        ),
    ] {
        assert_client_is(&server, header, name);
    }
    // A client of nginx on a Unix socket, and one with addresses that are to be ignored.
    for header in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"] {
        let mut raw = RawConnection::connect(server.address());
        raw.send(header);
        assert_eq!(raw.get("/health").status, 200, "{header:?}");
    }
}

#[test]
fn text_header_may_come_in_pieces_or_with_the_request() {
    let server = TestServer::start(&PROXY);
    let header = "PROXY TCP4 203.0.113.7 127.0.0.1 4711 5000\r\n";
    let mut slow = RawConnection::connect(server.address());
    for byte in header.bytes() {
        slow.send([byte]);
    }
    assert_eq!(slow.get("/health").status, 200);
    let mut fast = RawConnection::connect(server.address());
    let request = handshake("/ws");
    let message = message_frame("at once");
    fast.send([header.as_bytes(), request.as_bytes(), &message].concat());
    assert_eq!(fast.response().status, 101);
    fast.next_json();
    assert_eq!(fast.next_json()["payload"], "at once");
}

#[test]
fn text_header_comes_before_tls() {
    let certificate = Certificate::new();
    let server = certificate.serve(&PROXY);
    let mut socket = Socket::tcp(server.address());
    (&*socket)
        .write_all(b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 443\r\n")
        .expect("header");
    socket = socket.with_tls(&certificate.trust(rustls::ALL_VERSIONS));
    let _client = ClientOptions::new().open(socket, "/ws");
    wait_until("the client is logged", || {
        server.log().contains("203.0.113.7:4711 connected")
    });
}

#[test]
fn client_in_a_text_header_has_the_limits_of_its_address() {
    let server = TestServer::start(&[&PROXY[..], &["--max-connections-per-address=1"]].concat());
    let header = |ip: &str| format!("PROXY TCP4 {ip} 127.0.0.1 4711 5000\r\n");
    let mut first = RawConnection::connect(server.address());
    first.send(header("203.0.113.7"));
    assert_eq!(first.get("/health").status, 200);
    let mut second = RawConnection::connect(server.address());
    second.send(header("203.0.113.7"));
    assert_eq!(second.response().status, 503);
    let mut other = RawConnection::connect(server.address());
    other.send(header("203.0.113.8"));
    assert_eq!(other.get("/health").status, 200);
}

#[test]
fn trusted_proxy_without_a_header_is_logged_once_with_the_remedy() {
    let quick = [&PROXY[..], &["--head-timeout=0.3"]].concat();
    for bytes in [
        &b""[..],
        request("GET", "/health", &[]).as_bytes(),
        b"\x16\x03\x01",
    ] {
        let server = TestServer::start(&quick);
        for _ in 0..3 {
            let mut raw = RawConnection::connect(server.address());
            let _may_be_closed_already = raw.socket.write_all(bytes);
            raw.assert_closed();
        }
        wait_until("the warning is logged", || !warnings(&server).is_empty());
        let found = warnings(&server);
        assert_eq!(found.len(), 1, "{found:?}");
        for part in [
            "127.0.0.1",
            "send-proxy-v2",
            "proxy_protocol on",
            "--proxy-protocol",
        ] {
            assert!(found[0].contains(part), "no {part:?} in {found:?}");
        }
    }
}

#[test]
fn probe_that_connects_and_closes_is_no_warning() {
    let server = TestServer::start(&PROXY);
    drop(RawConnection::connect(server.address()));
    let mut raw = RawConnection::connect(server.address());
    raw.send(proxy_header_for("203.0.113.7"));
    assert_eq!(raw.get("/health").status, 200);
    wait_until("the probe is gone", || {
        server.log().contains("closed the connection")
    });
    assert!(warnings(&server).is_empty());
}

#[test]
fn health_probe_from_another_address_needs_no_header() {
    let dir = TempDir::new();
    let path = dir.path("health.sock");
    let listen = format!("--listen=unix:{}", path.display());
    let of_network =
        TestServer::start(&["--proxy-protocol", "--trusted-proxies=10.0.0.0/8", &listen]);
    assert_eq!(of_network.raw().get("/health").status, 200);
    let mut probe = RawConnection::from(Socket::unix(&path));
    assert_eq!(probe.get("/health").status, 200);
    drop(of_network);
    // Every address of this machine is a proxy's.
    let of_all = TestServer::start(&[
        "--proxy-protocol",
        "--trusted-proxies=0.0.0.0/0,::/0",
        &listen,
    ]);
    let mut probe = RawConnection::from(Socket::unix(&path));
    assert_eq!(probe.get("/health").status, 200);
    assert!(warnings(&of_all).is_empty());
}

#[test]
fn header_that_is_not_expected_is_logged_once() {
    for header in [
        b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 5000\r\n".to_vec(),
        proxy_header_for("203.0.113.7"),
    ] {
        let server = TestServer::start(&[]);
        for _ in 0..2 {
            let mut raw = RawConnection::connect(server.address());
            raw.send([&header[..], request("GET", "/health", &[]).as_bytes()].concat());
            assert_eq!(raw.response().status, 400);
        }
        wait_until("the warning is logged", || !warnings(&server).is_empty());
        let found = warnings(&server);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("--proxy-protocol"), "{found:?}");
        assert!(
            found[0].contains("--trusted-proxies 127.0.0.1"),
            "{found:?}"
        );
    }
}
