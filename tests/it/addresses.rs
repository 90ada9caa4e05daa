//! What one address may ask, and what happens to it and to others when it asks for more.
//!
//! This machine's own address has no bounds, so scenarios play the proxy and name other clients.

use serde_json::json;

use crate::support::token::{OTHER_SECRET, SECRET, claims, signed};
use crate::support::{
    Certificate, RawConnection, RemoteMembers, Socket, TestServer, eventually, frame, handshake,
    request,
};

const ALICE: &str = "203.0.113.7";
const BOB: &str = "198.51.100.9";

fn retry_after(response: &crate::support::Response) -> u64 {
    let seconds = response.header("Retry-After").expect("Retry-After");
    seconds.parse().expect("seconds")
}

#[test]
fn connections_at_once_are_bounded_and_a_place_comes_back() {
    let server = TestServer::behind_proxy(&["--max-connections-per-address=3"]);
    let mut alices: Vec<_> = (0..2).map(|_| server.enter_as(ALICE, "/ws")).collect();
    let mut events = server.raw();
    let forwarded = format!("X-Forwarded-For: {ALICE}");
    events.send(request("GET", "/rooms/lobby/events", &[&forwarded]));
    assert_eq!(events.response_to("HEAD").status, 200);

    // The same address in another dress is the same.
    for address in [ALICE, "::ffff:203.0.113.7", "203.0.113.7:99"] {
        let (_, fourth) = server.knock(address, "/ws", &[]);
        assert_eq!(fourth.status, 503, "{address}");
        assert_eq!(fourth.error_code(), "too_many_connections");
        assert_eq!(retry_after(&fourth), 1);
        assert_eq!(server.page_closed_as(address, "/ws"), 4102);
        let refused = server.raw().get_as(address, "/rooms/lobby/events");
        assert_eq!(refused.status, 503, "{address}");
    }
    assert_eq!(server.total("connections_over_address_limit"), 9);
    // Requests are no connections; others, and this machine, have places of their own.
    assert_eq!(server.raw().get_as(ALICE, "/health").status, 200);
    let mut bob = server.enter_as(BOB, "/ws");
    let local: Vec<_> = (0..5).map(|_| server.client()).collect();
    bob.say("all are well");
    for alice in &mut alices {
        assert_eq!(alice.next()["payload"], "all are well");
    }
    drop((local, alices.pop()));
    eventually("a place is free again", || {
        (server.knock(ALICE, "/ws", &[]).1.status == 101).then_some(())
    });
}

/// Who has an IPv6 network can choose among 2^64 addresses.
#[test]
fn an_ipv6_network_is_one_client() {
    let server = TestServer::behind_proxy(&["--max-connections-per-address=2"]);
    let _one = server.enter_as("2001:db8:0:1::1", "/ws");
    let _two = server.enter_as("[2001:db8:0:1:ffff::2]:4711", "/ws");
    assert_eq!(server.knock("2001:db8:0:1::3", "/ws", &[]).1.status, 503);
    server.enter_as("2001:db8:0:2::1", "/ws");
}

#[test]
fn new_connections_are_bounded_in_time() {
    let server = TestServer::behind_proxy(&["--max-connection-rate=1"]);
    let mut made = 0;
    let refused = loop {
        let (_, response) = server.knock(ALICE, "/ws", &[]);
        if response.status != 101 {
            break response;
        }
        made += 1;
    };
    assert!(made >= 10, "ten seconds' worth at once, not {made}");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.error_code(), "rate_limited");
    assert_eq!(retry_after(&refused), 1);
    assert_eq!(server.knock(BOB, "/ws", &[]).1.status, 101);
    eventually("a page is not let in to be told", || {
        let page = server.knock(ALICE, "/ws", &["Origin: https://a.example"]);
        (page.1.status == 429).then_some(())
    });
    assert!(server.total("connections_over_address_rate") >= 2);
    eventually("it may come again", || {
        (server.knock(ALICE, "/ws", &[]).1.status == 101).then_some(())
    });
}

#[test]
fn http_requests_are_bounded_in_time() {
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
    assert_eq!(retry_after(&refused), 1);
    // The proxy's connection goes on, and so do others on it, and its own requests.
    for _ in 0..20 {
        assert_eq!(proxy.get("/health").status, 200);
    }
    assert_eq!(proxy.get_as(BOB, "/health").status, 200);
    eventually("it may ask again", || {
        (proxy.get_as(ALICE, "/health").status == 200).then_some(())
    });
    assert!(server.total("http_requests_rate_limited") >= 1);
}

/// To say "too many" is work too.
#[test]
fn who_goes_on_asking_too_much_is_cut_off() {
    let Some(elsewhere) = RemoteMembers::serve(&["--max-http-rate=1"]) else {
        return;
    };
    let mut flood = RawConnection::over(Socket::tcp(elsewhere.address(0)));
    let ask = request("GET", "/health", &[]).repeat(100);
    eventually("it is cut off", || (!flood.try_send(&ask)).then_some(()));
    let refused = elsewhere.server.total("http_requests_rate_limited");
    assert!((1..100).contains(&refused), "{refused}");
}

#[test]
fn the_body_of_one_request_too_many_is_not_read() {
    let server = TestServer::behind_proxy(&["--max-http-rate=1"]);
    let forwarded = format!("X-Forwarded-For: {ALICE}");
    let lines = [forwarded.as_str(), "Content-Length: 1000000"];
    while server.raw().get_as(ALICE, "/health").status == 200 {}
    // It is answered though the body never comes.
    let mut raw = server.raw();
    raw.send(request("POST", "/rooms/a/messages", &lines));
    let response = raw.response();
    assert_eq!(response.status, 429);
    assert_eq!(response.header("Connection"), Some("close"));
}

/// What a client had sent before it heard of its end is read off, and no more.
#[test]
fn a_flood_that_was_refused_is_not_read_to_its_end() {
    const MEBIBYTE: usize = 1024 * 1024;
    let server = TestServer::start(&[]);
    let mut refused = server.raw();
    refused.send("NONSENSE\r\n\r\n");
    let mut closed = server.raw();
    closed.enter("/ws");
    closed.send(frame(true, 1, b"\xFF"));
    for client in [&mut refused, &mut closed] {
        let chunk = vec![b'x'; MEBIBYTE];
        let taken = (0..64).take_while(|_| client.try_send(&chunk)).count();
        assert!(taken < 64, "all of it was read");
    }
}

fn guarded(args: &[&str]) -> TestServer {
    let all = [&["--trusted-proxies=127.0.0.1"], args].concat();
    let mut command = TestServer::command(&all);
    command.env("SECRET_KEY", SECRET);
    TestServer::start_command(command)
}

#[test]
fn who_guesses_tokens_is_shut_out_and_nobody_else_is() {
    let server = guarded(&["--max-auth-failures=60"]);
    let good = signed(SECRET, &claims(json!({})));
    let bad = signed(OTHER_SECRET, &claims(json!({})));
    let stats = |address: &str, token: &str| {
        let target = format!("/stats?token={token}");
        server.raw().get_as(address, &target)
    };
    let mut member = server.enter_as(ALICE, &format!("/ws?room=ops&token={good}"));
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
    assert_eq!(retry_after(&refused), 1);

    // A guess a second comes back, which keeps being used up; then not even a good one is looked at.
    let shut_out = |what: &str, attempt: &dyn Fn() -> bool| {
        eventually(what, || {
            stats(ALICE, &bad);
            attempt().then_some(())
        });
    };
    let target = format!("/ws?room=ops&token={good}");
    shut_out("over HTTP", &|| stats(ALICE, &good).status == 429);
    shut_out("a program's handshake", &|| {
        server.knock(ALICE, &target, &[]).1.status == 429
    });
    shut_out("a page's handshake", &|| {
        let (mut page, _) = server.knock(ALICE, &target, &["Origin: https://a.example"]);
        let frame = page.frame().expect("a frame");
        frame.opcode == 8 && frame.close_code() == 4101
    });
    shut_out("a stream of events", &|| {
        let target = format!("/rooms/ops/events?token={good}");
        let mut raw = server.raw();
        raw.send(request(
            "GET",
            &target,
            &[&format!("X-Forwarded-For: {ALICE}")],
        ));
        raw.response_to("HEAD").status == 429
    });
    let auth = json!({"type": "auth", "token": good, "id": "a"}).to_string();
    shut_out("a first message", &|| {
        let (mut raw, response) = server.knock(ALICE, "/ws?room=ops", &[]);
        assert_eq!(response.status, 101);
        raw.send_frame(true, 1, auth.as_bytes());
        let answer = raw.next();
        if answer["payload"]["code"] != "rate_limited" {
            return false;
        }
        let wait = answer["payload"]["retry_after_ms"].as_u64();
        assert!((1..=1000).contains(&wait.expect("ms")), "{answer}");
        assert_eq!(raw.close_code(), 4101);
        true
    });
    // Who is in stays in, whatever becomes of its new token.
    eventually("a renewal is not looked at", || {
        stats(ALICE, &bad);
        member.send_frame(true, 1, auth.as_bytes());
        let answer = member.next();
        (answer["payload"]["code"] == "rate_limited").then_some(())
    });
    member.say("still here");
    assert_eq!(member.next()["payload"], "still here");

    assert_eq!(stats(BOB, &good).status, 200);
    assert_eq!(stats(BOB, &bad).status, 401);
    let untold = server.raw().get_as(ALICE, "/stats");
    assert_eq!(untold.status, 401, "no token is no guess");
    eventually("it may try again", || {
        (stats(ALICE, &good).status == 200).then_some(())
    });
    let stats = stats(BOB, &good).json();
    let total = |name: &str| stats["totals"][name].as_u64().expect("a number");
    assert!(total("auth_attempts_refused") >= 6, "{stats}");
    assert!(total("auth_failures") >= 61, "{stats}");
}

#[test]
fn a_room_has_so_many_members() {
    let server = TestServer::start(&["--max-members-per-room=2"]);
    let mut one = server.client_at("/ws?room=ops");
    let two = server.client_at("/ws?room=ops");
    let mut three = server.client();
    three.send(json!({"type": "join", "room": "ops", "id": "j"}));
    assert_eq!(three.expect_error(), "room_full");
    three.send(json!({"type": "message", "room": "ops", "payload": "not in"}));
    assert_eq!(three.expect_error(), "not_in_room");
    // Who is in may say so again.
    one.join("ops");

    let mut knock = server.raw();
    knock.send(handshake("/ws?room=b&room=ops"));
    let refused = knock.response();
    assert_eq!((refused.status, retry_after(&refused)), (503, 1));
    assert_eq!(refused.error_code(), "room_full");
    let page =
        handshake("/ws?room=ops").replace("\r\n\r\n", "\r\nOrigin: https://a.example\r\n\r\n");
    let mut knock = server.raw();
    knock.send(page);
    assert_eq!(knock.response().status, 101);
    assert_eq!(knock.close_code(), 4103);
    let events = server.raw().get("/rooms/ops/events");
    assert_eq!(
        (events.status, events.error_code().as_str()),
        (503, "room_full")
    );
    assert_eq!(server.total("rooms_full"), 4);
    assert_eq!(server.members("ops"), 2);

    one.leave("ops");
    three.join("ops");
    one.send(json!({"type": "join", "room": "ops"}));
    assert_eq!(one.expect_error(), "room_full");
    drop(two);
    eventually("a seat is free", || {
        one.send(json!({"type": "join", "room": "ops"}));
        (one.next()["type"] == "joined").then_some(())
    });
    assert_eq!(server.members("ops"), 2);
}

/// A seat is free once its member has left, not before: nobody ever sees two.
#[test]
fn a_seat_changes_hands_without_being_shared() {
    let server = TestServer::start(&["--max-members-per-room=1"]);
    let mut pair = ["a", "b"].map(|room| server.client_at(&format!("/ws?room={room}")));
    pair[0].join("chair");
    for round in 0..100 {
        let [sits, waits] = &mut pair;
        sits.send(json!({"type": "leave", "room": "chair"}));
        let joined = eventually("the seat is free", || {
            waits.send(json!({"type": "join", "room": "chair"}));
            let answer = waits.next();
            (answer["type"] == "joined").then_some(answer)
        });
        assert_eq!(joined["payload"]["members"], 1, "round {round}");
        sits.next_of("left");
        pair.swap(0, 1);
    }
}

/// Who enters by a first message finds no seat either.
#[test]
fn a_room_is_full_for_those_who_send_their_token_later() {
    let server = guarded(&["--max-members-per-room=1"]);
    let good = signed(SECRET, &claims(json!({})));
    let _one = server.client_at(&format!("/ws?room=ops&token={good}"));
    let mut two = server.raw();
    two.upgrade("/ws?room=ops");
    let auth = json!({"type": "auth", "token": good}).to_string();
    two.send_frame(true, 1, auth.as_bytes());
    assert_eq!(two.next()["payload"]["code"], "room_full");
    assert_eq!(two.close_code(), 4103);
}

#[test]
fn rooms_that_are_too_many_are_counted() {
    let server = TestServer::start(&["--max-rooms=2", "--max-rooms-per-connection=1"]);
    let mut alice = server.client();
    alice.send(json!({"type": "join", "room": "b"}));
    assert_eq!(alice.expect_error(), "too_many_rooms");
    let _bob = server.client_at("/ws?room=b");
    for target in ["/ws?room=c", "/ws?room=b&room=lobby"] {
        let mut raw = server.raw();
        raw.send(handshake(target));
        assert_eq!(raw.response().error_code(), "too_many_rooms", "{target}");
    }
    let said = server.post(
        "/rooms/c/messages",
        &json!({"type": "message", "payload": 1}),
    );
    assert_eq!(said.error_code(), "too_many_rooms");
    assert_eq!(server.total("rooms_refused"), 4);
}

/// As many addresses as an attacker likes, each new.
#[test]
fn a_crowd_of_addresses_takes_no_more_memory_than_there_is_for_it() {
    const AT_ONCE: u32 = 100;
    let server = TestServer::behind_proxy(&["--max-connections-per-address=1", "--log-level=info"]);
    let mut member = server.enter_as(ALICE, "/ws");
    let mut proxy = server.raw();
    let mut come = |from: u32, to: u32| {
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
    come(0, 20_000);
    assert_eq!(remembered(), 16 * 1024 + 1, "and the member");
    let full = server.rss_kib();
    come(20_000, 60_000);
    assert_eq!(remembered(), 16 * 1024 + 1);
    let now = server.rss_kib();
    assert!(now < full + 2048, "{full} KiB, then {now} KiB");
    // Who is connected is not forgotten over it, and everyone is served.
    assert_eq!(server.knock(ALICE, "/ws", &[]).1.status, 503);
    member.say("still here");
    assert_eq!(member.next()["payload"], "still here");
    server.enter_as(BOB, "/ws");
}

#[test]
fn zero_is_no_bound_and_this_machine_has_none() {
    let none = [
        "--max-connections-per-address=0",
        "--max-connection-rate=0",
        "--max-http-rate=0",
    ];
    let bounds = [
        "--max-connections-per-address=1",
        "--max-connection-rate=1",
        "--max-http-rate=1",
    ];
    for (args, address) in [(none, ALICE), (bounds, "127.0.0.9"), (bounds, "::1")] {
        let server = TestServer::behind_proxy(&args);
        let clients: Vec<_> = (0..30).map(|_| server.enter_as(address, "/ws")).collect();
        for _ in 0..30 {
            assert_eq!(server.raw().get_as(address, "/health").status, 200);
        }
        assert_eq!(server.connected_clients(), clients.len() as u64);
    }
}

#[test]
fn the_log_names_the_address_and_the_setting_about_once_a_second() {
    let begun = std::time::Instant::now();
    let server = TestServer::behind_proxy(&["--max-connections-per-address=1", "--log-level=info"]);
    let _alice = server.enter_as(ALICE, "/ws");
    for _ in 0..300 {
        assert_eq!(server.knock(ALICE, "/ws", &[]).1.status, 503);
    }
    let told = || {
        let log = server.log();
        let names =
            |line: &&str| line.contains(ALICE) && line.contains("--max-connections-per-address");
        log.lines().filter(names).count() as u64
    };
    eventually("it is logged", || (told() > 0).then_some(()));
    assert!(told() <= begun.elapsed().as_secs() + 2, "{}", server.log());
}

/// Whoever is turned away before its request is read costs no thread.
#[test]
fn who_comes_without_a_proxy_is_turned_away_on_arrival() {
    let args = ["--max-connections-per-address=2", "--max-connection-rate=1"];
    let Some(elsewhere) = RemoteMembers::serve(&args) else {
        return;
    };
    let server = &elsewhere.server;
    let come = |nth| RawConnection::over(Socket::tcp(elsewhere.address(nth)));
    let mut both: Vec<_> = (0..2).map(|_| come(0)).collect();
    for one in &mut both {
        assert_eq!(one.get("/health").status, 200);
    }
    let refused = come(0).response();
    assert_eq!((refused.status, retry_after(&refused)), (503, 1));
    assert_eq!(refused.error_code(), "too_many_connections");
    assert_eq!(come(1).get("/health").status, 200, "another address");
    assert_eq!(server.raw().get("/health").status, 200, "this machine");
    drop(both);
    eventually("there is a place again", || {
        let mut next = come(0);
        next.try_send(request("GET", "/health", &[]));
        (next.response().status == 200).then_some(())
    });
    let refused = eventually("it comes too fast", || {
        let mut next = come(0);
        next.try_send(request("GET", "/health", &[]));
        let response = next.response();
        (response.status == 429).then_some(response)
    });
    assert_eq!(refused.error_code(), "rate_limited");
    assert!(server.total("connections_over_address_limit") >= 1);
    assert!(server.total("connections_over_address_rate") >= 1);
    assert!(server.total("connections_refused") >= 2);
}

/// It could read an answer only after a handshake, which is what it is not to have.
#[test]
fn over_tls_it_is_an_alert() {
    let certificate = Certificate::new();
    let flags = certificate.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let args = [&flags[..], &["--max-connections-per-address=1"]].concat();
    let Some(elsewhere) = RemoteMembers::serve(&args) else {
        return;
    };
    let _first = RawConnection::over(Socket::tcp(elsewhere.address(0)));
    let mut second = RawConnection::over(Socket::tcp(elsewhere.address(0)));
    let mut alert = Vec::new();
    std::io::Read::read_to_end(&mut second.socket, &mut alert).expect("an alert");
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 80]);
}
