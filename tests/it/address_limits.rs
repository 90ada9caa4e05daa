//! Limits per client address: connections, handshakes, HTTP requests, and attempts to authorize.
//!
//! The loopback address has no limits, so scenarios act as a proxy and name other addresses.

use serde_json::json;

use crate::support::token::{OTHER_SECRET, SECRET, claims, signed};
use crate::support::{
    CLOSE, Certificate, RawConnection, Socket, TestServer, forwarded_for, frame, request, wait_for,
    wait_until, with_remote_network,
};

const ALICE: &str = "203.0.113.7";
const BOB: &str = "198.51.100.9";

#[test]
fn concurrent_connections_are_limited_until_one_ends() {
    let server = TestServer::behind_proxy(&["--max-connections-per-address=3"]);
    let mut alices: Vec<_> = (0..2).map(|_| server.client_as(ALICE, "/ws")).collect();
    let mut events = server.raw();
    let forwarded = forwarded_for(ALICE);
    events.send(request("GET", "/rooms/lobby/events", &[&forwarded]));
    assert_eq!(events.response_to("HEAD").status, 200);

    // Other spellings of the same address count as the same.
    for address in [ALICE, "::ffff:203.0.113.7", "203.0.113.7:99"] {
        let (_, fourth) = server.handshake_as(address, "/ws", &[]);
        assert_eq!(fourth.status, 503, "{address}");
        assert_eq!(fourth.error_code(), "too_many_connections");
        assert_eq!(fourth.retry_after(), 1);
        assert_eq!(server.page_close_code_as(address, "/ws"), 4102);
        let refused = server.raw().get_as(address, "/rooms/lobby/events");
        let code = &refused.refused_stream()["code"];
        assert_eq!(code, "too_many_connections", "{address}");
    }
    assert_eq!(server.total("connections_over_address_limit"), 9);
    // Requests do not count as connections. Other addresses and this machine have permits of their own.
    assert_eq!(server.raw().get_as(ALICE, "/health").status, 200);
    let mut bob = server.client_as(BOB, "/ws");
    let local: Vec<_> = (0..5).map(|_| server.client()).collect();
    bob.say("hello");
    for alice in &mut alices {
        assert_eq!(alice.next()["payload"], "hello");
    }
    drop((local, alices.pop()));
    wait_until("a permit is free again", || {
        server.handshake_as(ALICE, "/ws", &[]).1.status == 101
    });
}

/// Each holder of an IPv6 network can use 2^64 addresses.
#[test]
fn ipv6_network_counts_as_one_client() {
    let server = TestServer::behind_proxy(&["--max-connections-per-address=2"]);
    let _one = server.client_as("2001:db8:0:1::1", "/ws");
    let _two = server.client_as("[2001:db8:0:1:ffff::2]:4711", "/ws");
    assert_eq!(
        server.handshake_as("2001:db8:0:1::3", "/ws", &[]).1.status,
        503
    );
    server.client_as("2001:db8:0:2::1", "/ws");
}

#[test]
fn rate_of_new_connections_is_limited() {
    let server = TestServer::behind_proxy(&["--max-connection-rate=1"]);
    let mut accepted = 0;
    let refused = loop {
        let (_, response) = server.handshake_as(ALICE, "/ws", &[]);
        if response.status != 101 {
            break response;
        }
        accepted += 1;
    };
    assert!(accepted >= 10, "ten seconds' worth at once, not {accepted}");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.error_code(), "rate_limited");
    assert_eq!(refused.retry_after(), 1);
    assert_eq!(server.handshake_as(BOB, "/ws", &[]).1.status, 101);
    wait_until("a page's handshake is refused too", || {
        let page = server.handshake_as(ALICE, "/ws", &["Origin: https://a.example"]);
        page.1.status == 429
    });
    assert!(server.total("connections_over_address_rate") >= 2);
    wait_until("the address may connect again", || {
        server.handshake_as(ALICE, "/ws", &[]).1.status == 101
    });
}

#[test]
fn rate_of_http_requests_is_limited() {
    let server = TestServer::behind_proxy(&["--max-http-rate=1"]);
    let mut proxy = server.raw();
    let mut answered = 0;
    let refused = loop {
        let response = proxy.get_as(ALICE, "/health");
        if response.status != 200 {
            break response;
        }
        answered += 1;
    };
    assert!(answered >= 10, "ten seconds' worth at once, not {answered}");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.error_code(), "rate_limited");
    assert_eq!(refused.retry_after(), 1);
    // The proxy's connection stays, for its own requests and for those of other clients.
    for _ in 0..20 {
        assert_eq!(proxy.get("/health").status, 200);
    }
    assert_eq!(proxy.get_as(BOB, "/health").status, 200);
    wait_until("the address may send requests again", || {
        proxy.get_as(ALICE, "/health").status == 200
    });
    assert!(server.total("http_requests_rate_limited") >= 1);
}

/// A response of 429 costs work too, so the server disconnects a client that ignores it.
#[test]
fn client_that_ignores_429_is_disconnected() {
    with_remote_network(&["--max-http-rate=1"], |network| {
        let mut flood = RawConnection::from(Socket::tcp(network.address(0)));
        let ask = request("GET", "/health", &[]).repeat(100);
        wait_until("the client is disconnected", || !flood.try_send(&ask));
        let refused = network.server.total("http_requests_rate_limited");
        assert!((1..100).contains(&refused), "{refused}");
    });
}

#[test]
fn body_of_a_rate_limited_request_is_not_read() {
    let server = TestServer::behind_proxy(&["--max-http-rate=1"]);
    let forwarded = forwarded_for(ALICE);
    let lines = [forwarded.as_str(), "Content-Length: 1000000"];
    while server.raw().get_as(ALICE, "/health").status == 200 {}
    // The response does not wait for the body, which never comes.
    let mut raw = server.raw();
    raw.send(request("POST", "/rooms/a/messages", &lines));
    let response = raw.response();
    assert_eq!(response.status, 429);
    assert_eq!(response.header("Connection"), Some("close"));
}

/// After a refusal the server drains the bytes in flight, and no more.
#[test]
fn refused_flood_is_not_drained_to_its_end() {
    const MEBIBYTE: usize = 1024 * 1024;
    let server = TestServer::start(&[]);
    let mut refused = server.raw();
    refused.send("NONSENSE\r\n\r\n");
    let mut closed = server.passive_client("/ws");
    closed.send(frame(true, 1, b"\xFF"));
    for client in [&mut refused, &mut closed] {
        let chunk = vec![b'x'; MEBIBYTE];
        let accepted = (0..64).take_while(|_| client.try_send(&chunk)).count();
        assert!(accepted < 64, "the server read all of it");
    }
}

// Actors: Alice, a member who keeps a session open; an attacker at the same address with wrong tokens; Bob at another address.
// Invariants: after a minute's worth of wrong tokens every route refuses the address, with a valid token too; the open
// session stays; Bob is not limited; after a while the address may try again.
#[test]
fn client_that_guesses_tokens_is_limited_and_no_one_else() {
    let server =
        TestServer::with_tokens(&["--trusted-proxies=127.0.0.1", "--max-auth-failures=60"]);
    let good = signed(SECRET, &claims(json!({})));
    let bad = signed(OTHER_SECRET, &claims(json!({})));
    let stats = |address: &str, token: &str| {
        let target = format!("/stats?token={token}");
        server.raw().get_as(address, &target)
    };
    let mut member = server.client_as(ALICE, &format!("/ws?room=ops&token={good}"));
    let mut guesses = 0;
    let refused = loop {
        let response = stats(ALICE, &bad);
        if response.status != 401 {
            break response;
        }
        guesses += 1;
    };
    assert!(guesses >= 60, "a minute's worth at once, not {guesses}");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.error_code(), "rate_limited");
    assert_eq!(refused.retry_after(), 1);

    // An attempt a second is regained and used up by a wrong token. Then even a valid token is refused.
    let refused_over = |what: &str, attempt: &dyn Fn() -> bool| {
        wait_until(what, || {
            stats(ALICE, &bad);
            attempt()
        });
    };
    let target = format!("/ws?room=ops&token={good}");
    refused_over("over HTTP", &|| stats(ALICE, &good).status == 429);
    refused_over("a program's handshake", &|| {
        server.handshake_as(ALICE, &target, &[]).1.status == 429
    });
    refused_over("a page's handshake", &|| {
        let (mut page, _) = server.handshake_as(ALICE, &target, &["Origin: https://a.example"]);
        let frame = page.frame().expect("a frame");
        frame.opcode == CLOSE && frame.close_code() == 4101
    });
    refused_over("a stream of events", &|| {
        let target = format!("/rooms/ops/events?token={good}");
        let mut raw = server.raw();
        raw.send(request("GET", &target, &[&forwarded_for(ALICE)]));
        raw.response().text().contains("rate_limited")
    });
    let auth = json!({"type": "auth", "token": good, "id": "a"}).to_string();
    refused_over("a first message", &|| {
        let (mut raw, response) = server.handshake_as(ALICE, "/ws?room=ops", &[]);
        assert_eq!(response.status, 101);
        raw.send_frame(true, 1, auth.as_bytes());
        let reply = raw.next_json();
        if reply["payload"]["code"] != "rate_limited" {
            return false;
        }
        let wait = reply["payload"]["retry_after_ms"].as_u64();
        assert!((1..=1000).contains(&wait.expect("ms")), "{reply}");
        assert_eq!(raw.close_code(), 4101);
        true
    });
    // A session that is open stays open, also when its new token is refused.
    wait_until("a renewal is refused", || {
        stats(ALICE, &bad);
        member.send_frame(true, 1, auth.as_bytes());
        let reply = member.next();
        reply["payload"]["code"] == "rate_limited"
    });
    member.say("still here");
    assert_eq!(member.next()["payload"], "still here");

    assert_eq!(stats(BOB, &good).status, 200);
    assert_eq!(stats(BOB, &bad).status, 401);
    let without_token = server.raw().get_as(ALICE, "/stats");
    assert_eq!(without_token.status, 401, "no token is no wrong token");
    wait_until("the address may try again", || {
        stats(ALICE, &good).status == 200
    });
    let stats = stats(BOB, &good).json();
    let total = |name: &str| stats["totals"][name].as_u64().expect("a number");
    assert!(total("auth_attempts_refused") >= 6, "{stats}");
    assert!(total("auth_failures") >= 61, "{stats}");
}

// Actors: a proxy that names 60 000 addresses once each, and Alice, who stays connected.
// Invariants: the table of addresses and the memory of the process stop growing; Alice is not forgotten.
#[test]
fn memory_for_addresses_is_bounded() {
    const AT_ONCE: u32 = 100;
    let server = TestServer::behind_proxy(&["--max-connections-per-address=1", "--log-level=info"]);
    let mut member = server.client_as(ALICE, "/ws");
    let mut proxy = server.raw();
    let mut send_from = |from: u32, to: u32| {
        for first in (from..to).step_by(AT_ONCE as usize) {
            let heads = (first..first + AT_ONCE).map(|n| {
                let line = format!(
                    "X-Forwarded-For: {}",
                    std::net::Ipv4Addr::from(0x0b00_0000 + n)
                );
                request("GET", "/health", &[&line])
            });
            proxy.send(heads.collect::<String>());
            for n in 0..AT_ONCE {
                assert_eq!(proxy.response().status, 200, "{n} after {first}");
            }
        }
    };
    let remembered = || {
        let text = server.raw().get("/metrics").text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("wscast_addresses "));
        line.expect("the gauge").parse::<u64>().expect("a number")
    };
    send_from(0, 20_000);
    assert_eq!(
        remembered(),
        16 * 1024 + 1,
        "the table's capacity, and the member"
    );
    let full = server.rss_kib();
    send_from(20_000, 60_000);
    assert_eq!(remembered(), 16 * 1024 + 1);
    let now = server.rss_kib();
    assert!(now < full + 2048, "{full} KiB, then {now} KiB");
    // Connected addresses are not evicted from the table, and all clients are served.
    assert_eq!(server.handshake_as(ALICE, "/ws", &[]).1.status, 503);
    member.say("still here");
    assert_eq!(member.next()["payload"], "still here");
    server.client_as(BOB, "/ws");
}

#[test]
fn zero_means_no_limit_and_loopback_has_none() {
    let none = [
        "--max-connections-per-address=0",
        "--max-connection-rate=0",
        "--max-http-rate=0",
    ];
    let limits = [
        "--max-connections-per-address=1",
        "--max-connection-rate=1",
        "--max-http-rate=1",
    ];
    for (args, address) in [(none, ALICE), (limits, "127.0.0.9"), (limits, "::1")] {
        let server = TestServer::behind_proxy(&args);
        let clients: Vec<_> = (0..30).map(|_| server.client_as(address, "/ws")).collect();
        for _ in 0..30 {
            assert_eq!(server.raw().get_as(address, "/health").status, 200);
        }
        assert_eq!(server.connected_clients(), clients.len() as u64);
    }
}

#[test]
fn log_names_the_address_and_the_setting_about_once_a_second() {
    let start = std::time::Instant::now();
    let server = TestServer::behind_proxy(&["--max-connections-per-address=1", "--log-level=info"]);
    let _alice = server.client_as(ALICE, "/ws");
    for _ in 0..300 {
        assert_eq!(server.handshake_as(ALICE, "/ws", &[]).1.status, 503);
    }
    let count = || {
        let log = server.log();
        let names =
            |line: &&str| line.contains(ALICE) && line.contains("--max-connections-per-address");
        log.lines().filter(names).count() as u64
    };
    wait_until("the refusal is logged", || count() > 0);
    assert!(count() <= start.elapsed().as_secs() + 2, "{}", server.log());
}

/// A connection that is refused before its request is read costs no thread.
#[test]
fn direct_connection_over_the_limit_is_refused_on_accept() {
    let args = ["--max-connections-per-address=2", "--max-connection-rate=1"];
    with_remote_network(&args, |network| {
        let server = &network.server;
        let connect = |nth| RawConnection::from(Socket::tcp(network.address(nth)));
        let mut both: Vec<_> = (0..2).map(|_| connect(0)).collect();
        for one in &mut both {
            assert_eq!(one.get("/health").status, 200);
        }
        let refused = connect(0).response();
        assert_eq!((refused.status, refused.retry_after()), (503, 1));
        assert_eq!(refused.error_code(), "too_many_connections");
        assert_eq!(connect(1).get("/health").status, 200, "another address");
        assert_eq!(server.raw().get("/health").status, 200, "this machine");
        drop(both);
        wait_until("a permit is free again", || {
            let mut next = connect(0);
            next.try_send(request("GET", "/health", &[]));
            next.response().status == 200
        });
        let refused = wait_for("the address connects too fast", || {
            let mut next = connect(0);
            next.try_send(request("GET", "/health", &[]));
            let response = next.response();
            (response.status == 429).then_some(response)
        });
        assert_eq!(refused.error_code(), "rate_limited");
        assert!(server.total("connections_over_address_limit") >= 1);
        assert!(server.total("connections_over_address_rate") >= 1);
        assert!(server.total("connections_refused") >= 2);
    });
}

/// An HTTP response would need a TLS handshake, which is the work to be avoided.
#[test]
fn tls_connection_over_the_limit_gets_an_alert() {
    let certificate = Certificate::new();
    let flags = certificate.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let args = [&flags[..], &["--max-connections-per-address=1"]].concat();
    with_remote_network(&args, |network| {
        let _first = RawConnection::from(Socket::tcp(network.address(0)));
        let mut second = RawConnection::from(Socket::tcp(network.address(0)));
        let mut alert = Vec::new();
        std::io::Read::read_to_end(&mut second.socket, &mut alert).expect("an alert");
        assert_eq!(alert, [21, 3, 3, 0, 2, 2, 80]);
    });
}
