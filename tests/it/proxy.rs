//! Whom a proxy names is believed of those who are trusted, and of nobody else.

use std::io::Write;

use serde_json::Value;

use crate::support::{
    Certificate, RawConnection, Scratch, Socket, TestServer, eventually, frame, handshake, proxied,
    proxy_header, request,
};

const CLIENT: &str = "203.0.113.7";

/// Enters with these header lines; gives how the log calls the client that did.
fn called(server: &TestServer, lines: &[&str]) -> String {
    let mut raw = server.raw();
    let head = handshake("/ws");
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    raw.send(head.replace("\r\n\r\n", &format!("\r\n{lines}\r\n")));
    assert_eq!(raw.response().status, 101, "{lines:?}");
    let welcome = raw.next();
    let local = raw.socket.local_addr().expect("an address").to_string();
    let logged = logged(server, &welcome);
    // The port of the connection itself is another each time.
    if logged == local {
        "the peer".to_owned()
    } else {
        logged
    }
}

fn logged(server: &TestServer, welcome: &Value) -> String {
    let id = welcome["client"].as_str().expect("an id");
    eventually("it is logged", || {
        let log = server.log();
        log.lines().find_map(|line| {
            let (_, rest) = line.split_once(&format!("{id} "))?;
            rest.strip_suffix(" connected").map(str::to_owned)
        })
    })
}

#[test]
fn the_log_calls_a_client_by_the_address_that_its_proxy_names() {
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
        // What a proxy quotes is the client's to choose, such as its Host.
        (
            &["Forwarded: for=203.0.113.7;host=\"a,for=1.1.1.1;b\""],
            CLIENT,
        ),
        (
            &["Forwarded: host=\"a;for=1.1.1.1\";for=203.0.113.7"],
            CLIENT,
        ),
        // Clients write what their proxy does not: most write only this one.
        (
            &["Forwarded: for=1.1.1.1", "X-Forwarded-For: 203.0.113.7"],
            CLIENT,
        ),
        (&["X-Forwarded-For: 10.2.2.2, 10.1.1.1"], "10.2.2.2"),
        (&[], "the peer"),
    ] {
        assert_eq!(called(&server, lines), name, "{lines:?}");
    }
}

#[test]
fn what_is_no_address_is_not_taken_for_one() {
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
        assert_eq!(called(&server, &[line]), name, "{line:?}");
    }
    let long = format!("X-Forwarded-For: {}203.0.113.7", "1.1.1.1, ".repeat(1500));
    assert_eq!(called(&server, &[&long]), CLIENT);
    // Nor can a line break make a header of its own, or a line of the log.
    for bad in [
        "X-Forwarded-For: 203.0.113.7\rX: y",
        "X-Forwarded-For: 203.0.113.7\nX: y",
        "X-Forwarded-For: 203.0.113.7\0",
        "X-Forwarded-For: 203.0.113.7\r\n folded",
    ] {
        let answer = server.raw().request("GET", "/health", &[bad]);
        assert_eq!(answer.status, 400, "{bad:?}");
    }
    assert!(!server.log().contains("X: y"), "{}", server.log());
}

/// Anyone can write a header.
#[test]
fn those_who_are_not_trusted_name_nobody() {
    let bounds = ["--max-connections-per-address=1", "--max-http-rate=1"];
    let open = TestServer::start(&bounds);
    let others = TestServer::start(&[&["--trusted-proxies=10.0.0.0/8,unix"], &bounds[..]].concat());
    for server in [open, others] {
        let forwarded = "X-Forwarded-For: 203.0.113.7";
        assert_eq!(called(&server, &[forwarded]), "the peer");
        assert_eq!(called(&server, &["Forwarded: for=203.0.113.7"]), "the peer");
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(server.enter_as(CLIENT, "/ws"));
            let answer = server.raw().request("GET", "/health", &[forwarded]);
            assert_eq!(answer.status, 200);
        }
        assert_eq!(server.total("connections_over_address_limit"), 0);
    }
}

#[test]
fn a_proxy_may_come_by_a_unix_socket() {
    let scratch = Scratch::new();
    let path = scratch.path("wscast.sock");
    let listen = format!("--listen=unix:{}", path.display());
    let bound = "--max-connections-per-address=1";
    let enter = |server: &TestServer| {
        let mut raw = RawConnection::over(Socket::unix(&path));
        let line = "X-Forwarded-For: 203.0.113.7";
        raw.send(handshake("/ws").replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n")));
        let status = raw.response().status;
        let name = (status == 101).then(|| logged(server, &raw.next()));
        (raw, status, name)
    };
    let server = TestServer::start(&[&listen, bound, "--trusted-proxies=unix"]);
    let (_first, _, name) = enter(&server);
    assert_eq!(name.as_deref(), Some(CLIENT));
    assert_eq!(enter(&server).1, 503);
    drop(server);
    let server = TestServer::start(&[&listen, bound, "--trusted-proxies=127.0.0.1"]);
    let (_first, _, name) = enter(&server);
    assert_eq!(name.as_deref(), Some("unix"));
    assert_eq!(enter(&server).1, 101);
}

#[test]
fn a_proxy_that_nobody_trusts_is_noticed_once() {
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
    let found = eventually("it is said", || {
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

fn behind(args: &[&str]) -> TestServer {
    // Its own questions to the server need the header as well, so none are asked.
    TestServer::start(&[PROXY, args].concat())
}

/// One `GET` behind a header, and its status.
fn asks(server: &TestServer, header: &[u8], target: &str) -> (u16, Value) {
    let mut raw = RawConnection::connect(server.address());
    raw.send(header);
    let response = raw.get(target);
    (response.status, response.json())
}

fn refused_headers(server: &TestServer) -> u64 {
    let (_, stats) = asks(server, &proxy_header(0x20, 0, &[]), "/stats");
    let refused = stats["totals"]["proxy_headers_refused"].as_u64();
    refused.expect("the counter")
}

fn enters(server: &TestServer, header: &[u8], lines: &str) -> (RawConnection, String) {
    let mut raw = RawConnection::connect(server.address());
    raw.send(header);
    raw.send(handshake("/ws").replace("\r\n\r\n", &format!("\r\n{lines}\r\n")));
    assert_eq!(raw.response().status, 101);
    let welcome = raw.next();
    let name = logged(server, &welcome);
    (raw, name)
}

#[test]
fn the_proxy_protocol_names_the_client_of_a_connection() {
    let server = behind(&[]);
    assert_eq!(enters(&server, &proxied(CLIENT), "").1, "203.0.113.7:4711");
    assert_eq!(
        enters(&server, &proxied("2001:db8::7"), "").1,
        "[2001:db8::7]:4711"
    );
    // Details are passed over; a client's own header is not believed.
    let details = [4, 0, 3, 1, 2, 3];
    let mut header = proxied(CLIENT);
    header.extend(details);
    header[15] += details.len() as u8;
    let spoofed = "X-Forwarded-For: 198.51.100.9\r\n";
    assert_eq!(enters(&server, &header, spoofed).1, "203.0.113.7:4711");
    // One that a proxy behind the proxy writes is.
    let chain = enters(&server, &proxied("127.0.0.1"), spoofed).1;
    assert_eq!(chain, "198.51.100.9");
    // A proxy may speak for itself, or for somebody it cannot name.
    for header in [
        proxy_header(0x20, 0, &[]),
        proxy_header(0x20, 0x11, &[1; 12]),
        proxy_header(0x21, 0, &[1; 5]),
        proxy_header(0x21, 0x31, &[b'/'; 216]),
    ] {
        let (_, name) = enters(&server, &header, "");
        assert!(name.starts_with("127.0.0.1:"), "{name}");
    }
    assert_eq!(refused_headers(&server), 0);
}

#[test]
fn a_header_may_come_in_pieces_and_with_what_follows() {
    let server = behind(&[]);
    let mut raw = RawConnection::connect(server.address());
    for byte in proxied(CLIENT) {
        raw.send([byte]);
    }
    assert_eq!(raw.get("/health").status, 200);
    let mut raw = RawConnection::connect(server.address());
    let frames = [said("at once"), proxied("1.1.1.1")];
    raw.send([proxied(CLIENT), handshake("/ws").into(), frames[0].clone()].concat());
    assert_eq!(raw.response().status, 101);
    raw.next();
    assert_eq!(raw.next()["payload"], "at once");
}

fn said(text: &str) -> Vec<u8> {
    let message = serde_json::json!({"type": "message", "payload": text});
    frame(true, 1, message.to_string().as_bytes())
}

#[test]
fn who_should_speak_the_proxy_protocol_and_does_not_is_closed() {
    let server = behind(&[]);
    let bad = [
        request("GET", "/health", &[]).into_bytes(),
        b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 80\r\n".to_vec(),
        Certificate::client_hello(),
        b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
        proxy_header(0x11, 0x11, &[1; 12]),
        proxy_header(0x22, 0x11, &[1; 12]),
        proxy_header(0x21, 0x12, &[1; 12]),
        proxy_header(0x21, 0x11, &[1; 11]),
        proxy_header(0x21, 0x21, &[1; 35]),
        // Longer than is taken.
        proxy_header(0x20, 0, &vec![1; 65_535])[..16].to_vec(),
        vec![0; 10_000],
    ];
    for (n, bytes) in bad.iter().enumerate() {
        let mut raw = RawConnection::connect(server.address());
        let _closed_meanwhile = raw.socket.write_all(bytes);
        raw.assert_closed();
        let refused = refused_headers(&server);
        assert_eq!(refused, n as u64 + 1, "{:?}", &bytes[..bytes.len().min(20)]);
    }
}

#[test]
fn a_header_that_does_not_come_is_not_waited_for() {
    let server = behind(&["--head-timeout=0.5"]);
    for bytes in [&b""[..], b"\r\n\r\n", &proxied(CLIENT)[..20]] {
        let mut raw = RawConnection::connect(server.address());
        raw.send(bytes);
        raw.assert_closed();
    }
    // And one that goes on for ever comes to an end.
    let mut raw = RawConnection::connect(server.address());
    for byte in proxied(CLIENT).into_iter().chain(std::iter::repeat(0)) {
        if !raw.try_send([byte]) || raw.hears_within(std::time::Duration::from_millis(30)) {
            break;
        }
    }
    raw.assert_closed();
    assert_eq!(refused_headers(&server), 4);
}

#[test]
fn a_header_from_one_who_is_not_trusted_is_no_header() {
    let server = TestServer::start(&["--trusted-proxies=10.0.0.1", "--proxy-protocol"]);
    let mut raw = server.raw();
    raw.send(proxied(CLIENT));
    assert_eq!(raw.response().status, 400);
    assert_eq!(server.raw().get("/health").status, 200);
}

#[test]
fn a_connection_behind_the_protocol_has_its_clients_place() {
    let server = behind(&["--max-connections-per-address=1"]);
    let first = enters(&server, &proxied(CLIENT), "");
    let mut second = RawConnection::connect(server.address());
    second.send(proxied(CLIENT));
    let refused = second.response();
    assert_eq!(refused.status, 503);
    assert_eq!(refused.error_code(), "too_many_connections");
    assert_eq!(refused.header("Retry-After"), Some("1"));
    assert_eq!(asks(&server, &proxied("203.0.113.8"), "/health").0, 200);
    drop(first);
    eventually("there is a place again", || {
        (asks(&server, &proxied(CLIENT), "/health").0 == 200).then_some(())
    });
}

#[test]
fn the_header_comes_before_tls() {
    let certificate = Certificate::new();
    let server = certificate.serve(&[PROXY, &["--max-connections-per-address=1"]].concat());
    let trust = certificate.trust(rustls::ALL_VERSIONS);
    let mut socket = Socket::tcp(server.address());
    (&*socket).write_all(&proxied(CLIENT)).expect("header");
    socket = socket.with_tls(&trust);
    let mut raw = RawConnection::over(socket);
    let welcome = raw.enter("/ws");
    assert_eq!(logged(&server, &welcome), "203.0.113.7:4711");
    let mut second = RawConnection::connect(server.address());
    second.send(proxied(CLIENT));
    let mut alert = Vec::new();
    std::io::Read::read_to_end(&mut second.socket, &mut alert).expect("an alert");
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 80]);
}
