//! Client addresses from forwarding headers and the PROXY protocol, which only trusted proxies may send.

use std::io::Write;

use serde_json::Value;

use crate::support::{
    Certificate, ClientOptions, RawConnection, Socket, TempDir, TestServer, handshake,
    handshake_with, message_frame, proxy_header, proxy_header_for, request, wait_for, wait_until,
};

const CLIENT: &str = "203.0.113.7";

/// Connects with these header lines and returns the address that the log gives the client.
fn logged_address(server: &TestServer, lines: &[&str]) -> String {
    let mut raw = server.raw();
    raw.send(handshake_with("/ws", lines));
    assert_eq!(raw.response().status, 101, "{lines:?}");
    let welcome = raw.next_json();
    let local = raw.socket.local_addr().expect("an address").to_string();
    let address = address_in_log(server, &welcome);
    // The port of the connection itself differs each time.
    if address == local {
        "the peer".to_owned()
    } else {
        address
    }
}

fn address_in_log(server: &TestServer, welcome: &Value) -> String {
    let id = welcome["client"].as_str().expect("an id");
    wait_for("the connect is logged", || {
        let log = server.log();
        log.lines().find_map(|line| {
            let (_, rest) = line.split_once(&format!("{id} "))?;
            rest.strip_suffix(" connected").map(str::to_owned)
        })
    })
}

#[test]
fn log_has_the_client_address_that_a_trusted_proxy_names() {
    let server = TestServer::start(&["--trusted-proxies=127.0.0.1,10.0.0.0/8,2001:db8::/32"]);
    for (lines, name) in [
        (&["X-Forwarded-For: 203.0.113.7"][..], CLIENT),
        (&["x-forwarded-for: 1.1.1.1, 203.0.113.7, 10.1.1.1"], CLIENT),
        (
            &["X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 10.1.1.1"],
            CLIENT,
        ),
        (
            &["Forwarded: for=1.1.1.1, for=203.0.113.7;proto=https"],
            CLIENT,
        ),
        (
            &["Forwarded: for=203.0.113.7, for=\"[2001:db8::1]:80\""],
            CLIENT,
        ),
        // The client chooses the text that a proxy quotes, such as its Host.
        (
            &["Forwarded: for=203.0.113.7;host=\"a,for=1.1.1.1;b\""],
            CLIENT,
        ),
        (
            &["Forwarded: host=\"a;for=1.1.1.1\";for=203.0.113.7"],
            CLIENT,
        ),
        // Most proxies write only X-Forwarded-For; a Forwarded header then comes from the client.
        (
            &["Forwarded: for=1.1.1.1", "X-Forwarded-For: 203.0.113.7"],
            CLIENT,
        ),
        (&["X-Forwarded-For: 10.2.2.2, 10.1.1.1"], "10.2.2.2"),
        (&[], "the peer"),
    ] {
        assert_eq!(logged_address(&server, lines), name, "{lines:?}");
    }
}

#[test]
fn invalid_forwarded_addresses_are_ignored() {
    let server = TestServer::start(&["--trusted-proxies=127.0.0.1,10.0.0.0/8"]);
    for (line, name) in [
        ("X-Forwarded-For:", "the peer"),
        ("X-Forwarded-For: unknown", "the peer"),
        ("X-Forwarded-For: 203.0.113.7, x, 10.1.1.1", "10.1.1.1"),
        ("X-Forwarded-For: 203.0.113.7,", "the peer"),
        ("X-Forwarded-For: 203.0.113.7;10.1.1.1", "the peer"),
        ("X-Forwarded-For: 203.0.113.7\u{a0}", "the peer"),
        ("X-Forwarded-For: %0d%0aHost: 203.0.113.7", "the peer"),
        ("X-Forwarded-For: \u{fffd}房间", "the peer"),
        ("Forwarded: for=\"203.0.113.7", "the peer"),
        ("Forwarded: 203.0.113.7", "the peer"),
        ("Forwarded: for=1.1.1.1, proto=http", "the peer"),
    ] {
        assert_eq!(logged_address(&server, &[line]), name, "{line:?}");
    }
    let long = format!("X-Forwarded-For: {}203.0.113.7", "1.1.1.1, ".repeat(1500));
    assert_eq!(logged_address(&server, &[&long]), CLIENT);
    // A line break can forge neither a header nor a line of the log.
    for bad in [
        "X-Forwarded-For: 203.0.113.7\rX: y",
        "X-Forwarded-For: 203.0.113.7\nX: y",
        "X-Forwarded-For: 203.0.113.7\0",
        "X-Forwarded-For: 203.0.113.7\r\n folded",
    ] {
        let response = server.raw().request("GET", "/health", &[bad]);
        assert_eq!(response.status, 400, "{bad:?}");
    }
    assert!(!server.log().contains("X: y"), "{}", server.log());
}

#[test]
fn forwarding_headers_of_untrusted_peers_are_ignored() {
    let limits = ["--max-connections-per-address=1", "--max-http-rate=1"];
    let open = TestServer::start(&limits);
    let others = TestServer::start(&[&["--trusted-proxies=10.0.0.0/8,unix"], &limits[..]].concat());
    for server in [open, others] {
        let forwarded = "X-Forwarded-For: 203.0.113.7";
        assert_eq!(logged_address(&server, &[forwarded]), "the peer");
        assert_eq!(
            logged_address(&server, &["Forwarded: for=203.0.113.7"]),
            "the peer"
        );
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(server.client_as(CLIENT, "/ws"));
            let response = server.raw().request("GET", "/health", &[forwarded]);
            assert_eq!(response.status, 200);
        }
        assert_eq!(server.total("connections_over_address_limit"), 0);
    }
}

#[test]
fn proxy_on_a_unix_socket_is_trusted_if_listed() {
    let scratch = TempDir::new();
    let path = scratch.path("wscast.sock");
    let listen = format!("--listen=unix:{}", path.display());
    let limit = "--max-connections-per-address=1";
    let enter = |server: &TestServer| {
        let mut raw = RawConnection::from(Socket::unix(&path));
        let line = "X-Forwarded-For: 203.0.113.7";
        raw.send(handshake_with("/ws", &[line]));
        let status = raw.response().status;
        let name = (status == 101).then(|| address_in_log(server, &raw.next_json()));
        (raw, status, name)
    };
    let server = TestServer::start(&[&listen, limit, "--trusted-proxies=unix"]);
    let (_first, _, name) = enter(&server);
    assert_eq!(name.as_deref(), Some(CLIENT));
    assert_eq!(enter(&server).1, 503);
    drop(server);
    let server = TestServer::start(&[&listen, limit, "--trusted-proxies=127.0.0.1"]);
    let (_first, _, name) = enter(&server);
    assert_eq!(name.as_deref(), Some("unix"));
    assert_eq!(enter(&server).1, 101);
}

#[test]
fn untrusted_proxy_is_logged_once() {
    let hints = |server: &TestServer| {
        let log = server.log();
        let hint = |line: &&str| line.contains("--trusted-proxies");
        log.lines()
            .filter(hint)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let server = TestServer::start(&["--log-level=info"]);
    assert_eq!(server.raw().get("/health").status, 200);
    assert!(hints(&server).is_empty());
    for line in ["X-Forwarded-For: 1.1.1.1", "Forwarded: for=1.1.1.1"] {
        for _ in 0..5 {
            assert_eq!(server.raw().request("GET", "/health", &[line]).status, 200);
        }
    }
    let found = wait_for("the hint is logged", || {
        let found = hints(&server);
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("--trusted-proxies 127.0.0.1"),
        "{found:?}"
    );
    let server = TestServer::start(&["--log-level=info", "--trusted-proxies=10.0.0.1"]);
    server
        .raw()
        .request("GET", "/health", &["X-Forwarded-For: 1.1.1.1"]);
    assert_eq!(server.raw().get("/health").status, 200);
    assert!(hints(&server).is_empty(), "{}", server.log());
}

const PROXY: &[&str] = &["--trusted-proxies=127.0.0.1", "--proxy-protocol"];

fn behind_proxy_protocol(args: &[&str]) -> TestServer {
    // Requests of the helpers on `TestServer` lack the header, so none of them is used here.
    TestServer::start(&[PROXY, args].concat())
}

/// Sends a PROXY header and one `GET`; returns the status and body.
fn get_behind(server: &TestServer, header: &[u8], target: &str) -> (u16, Value) {
    let mut raw = RawConnection::connect(server.address());
    raw.send(header);
    let response = raw.get(target);
    (response.status, response.json())
}

fn refused_headers(server: &TestServer) -> u64 {
    let (_, stats) = get_behind(server, &proxy_header(0x20, 0, &[]), "/stats");
    let refused = stats["totals"]["proxy_headers_refused"].as_u64();
    refused.expect("the counter")
}

fn connect_behind(server: &TestServer, header: &[u8], lines: &[&str]) -> (RawConnection, String) {
    let mut raw = RawConnection::connect(server.address());
    raw.send(header);
    raw.send(handshake_with("/ws", lines));
    assert_eq!(raw.response().status, 101);
    let welcome = raw.next_json();
    let name = address_in_log(server, &welcome);
    (raw, name)
}

#[test]
fn proxy_protocol_names_the_client_of_a_connection() {
    let server = behind_proxy_protocol(&[]);
    assert_eq!(
        connect_behind(&server, &proxy_header_for(CLIENT), &[]).1,
        "203.0.113.7:4711"
    );
    assert_eq!(
        connect_behind(&server, &proxy_header_for("2001:db8::7"), &[]).1,
        "[2001:db8::7]:4711"
    );
    // Extensions (TLVs) are skipped, and a forwarding header of the client itself is ignored.
    let extensions = [4, 0, 3, 1, 2, 3];
    let mut header = proxy_header_for(CLIENT);
    header.extend(extensions);
    header[15] += extensions.len() as u8;
    let spoofed = ["X-Forwarded-For: 198.51.100.9"];
    assert_eq!(
        connect_behind(&server, &header, &spoofed).1,
        "203.0.113.7:4711"
    );
    // A forwarding header of a second trusted proxy is used.
    let chain = connect_behind(&server, &proxy_header_for("127.0.0.1"), &spoofed).1;
    assert_eq!(chain, "198.51.100.9");
    // A proxy may connect for itself (LOCAL), or for a client whose address is of another family.
    for header in [
        proxy_header(0x20, 0, &[]),
        proxy_header(0x20, 0x11, &[1; 12]),
        proxy_header(0x21, 0, &[1; 5]),
        proxy_header(0x21, 0x31, &[b'/'; 216]),
    ] {
        let (_, name) = connect_behind(&server, &header, &[]);
        assert!(name.starts_with("127.0.0.1:"), "{name}");
    }
    assert_eq!(refused_headers(&server), 0);
}

#[test]
fn proxy_header_may_come_in_pieces_or_with_the_request() {
    let server = behind_proxy_protocol(&[]);
    let mut raw = RawConnection::connect(server.address());
    for byte in proxy_header_for(CLIENT) {
        raw.send([byte]);
    }
    assert_eq!(raw.get("/health").status, 200);
    let mut raw = RawConnection::connect(server.address());
    let frames = [message_frame("at once"), proxy_header_for("1.1.1.1")];
    raw.send(
        [
            proxy_header_for(CLIENT),
            handshake("/ws").into(),
            frames[0].clone(),
        ]
        .concat(),
    );
    assert_eq!(raw.response().status, 101);
    raw.next_json();
    assert_eq!(raw.next_json()["payload"], "at once");
}

#[test]
fn connection_without_a_valid_proxy_header_is_closed() {
    let server = behind_proxy_protocol(&[]);
    let bad = [
        request("GET", "/health", &[]).into_bytes(),
        b"PROXY TCP4 203.0.113.7 127.0.0.1 4711\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 127.0.0.1 04711 80\r\n".to_vec(),
        b"PROXY TCP5 203.0.113.7 127.0.0.1 4711 80\r\n".to_vec(),
        [&b"PROXY UNKNOWN "[..], &[b'f'; 200]].concat(),
        Certificate::client_hello(),
        b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
        proxy_header(0x11, 0x11, &[1; 12]),
        proxy_header(0x22, 0x11, &[1; 12]),
        proxy_header(0x21, 0x12, &[1; 12]),
        proxy_header(0x21, 0x11, &[1; 11]),
        proxy_header(0x21, 0x21, &[1; 35]),
        // Longer than allowed.
        proxy_header(0x20, 0, &vec![1; 65_535])[..16].to_vec(),
        vec![0; 10_000],
    ];
    for (n, bytes) in bad.iter().enumerate() {
        let mut raw = RawConnection::connect(server.address());
        let _may_be_closed_already = raw.socket.write_all(bytes);
        raw.assert_closed();
        let refused = refused_headers(&server);
        assert_eq!(refused, n as u64 + 1, "{:?}", &bytes[..bytes.len().min(20)]);
    }
}

#[test]
fn incomplete_proxy_header_is_closed_at_the_deadline() {
    let server = behind_proxy_protocol(&["--head-timeout=0.5"]);
    for bytes in [&b""[..], b"\r\n\r\n", &proxy_header_for(CLIENT)[..20]] {
        let mut raw = RawConnection::connect(server.address());
        raw.send(bytes);
        raw.assert_closed();
    }
    // A header that never ends is closed, too.
    let mut raw = RawConnection::connect(server.address());
    for byte in proxy_header_for(CLIENT)
        .into_iter()
        .chain(std::iter::repeat(0))
    {
        if !raw.try_send([byte]) || raw.has_input_within(std::time::Duration::from_millis(30)) {
            break;
        }
    }
    raw.assert_closed();
    assert_eq!(refused_headers(&server), 4);
}

#[test]
fn proxy_header_of_an_untrusted_peer_gets_400() {
    let server = TestServer::start(&["--trusted-proxies=10.0.0.1", "--proxy-protocol"]);
    let mut raw = server.raw();
    raw.send(proxy_header_for(CLIENT));
    assert_eq!(raw.response().status, 400);
    assert_eq!(server.raw().get("/health").status, 200);
}

#[test]
fn connection_limit_counts_the_address_in_the_proxy_header() {
    let server = behind_proxy_protocol(&["--max-connections-per-address=1"]);
    let first = connect_behind(&server, &proxy_header_for(CLIENT), &[]);
    let mut second = RawConnection::connect(server.address());
    second.send(proxy_header_for(CLIENT));
    let refused = second.response();
    assert_eq!(refused.status, 503);
    assert_eq!(refused.error_code(), "too_many_connections");
    assert_eq!(refused.header("Retry-After"), Some("1"));
    assert_eq!(
        get_behind(&server, &proxy_header_for("203.0.113.8"), "/health").0,
        200
    );
    drop(first);
    wait_until("a permit is free again", || {
        get_behind(&server, &proxy_header_for(CLIENT), "/health").0 == 200
    });
}

#[test]
fn proxy_header_comes_before_tls() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[PROXY, &["--max-connections-per-address=1"]].concat());
    let trust = certificate.trust(rustls::ALL_VERSIONS);
    let mut socket = Socket::tcp(server.address());
    (&*socket)
        .write_all(&proxy_header_for(CLIENT))
        .expect("header");
    socket = socket.with_tls(&trust);
    let client = ClientOptions::new().open(socket, "/ws");
    let address = address_in_log(&server, client.welcome());
    assert_eq!(address, "203.0.113.7:4711");
    let mut second = RawConnection::connect(server.address());
    second.send(proxy_header_for(CLIENT));
    let mut alert = Vec::new();
    std::io::Read::read_to_end(&mut second.socket, &mut alert).expect("an alert");
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 80]);
}
