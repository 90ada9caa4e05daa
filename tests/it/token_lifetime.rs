//! Tokens over time: expiry, renewal, late tokens, administrators who close clients, and secrecy.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::token::{
    OTHER_SECRET, SECRET, admin_bearer, claims, now, ops_with_claims, signed,
};
use crate::support::{TestServer, request, wait_until, with_fake_clock};

#[test]
fn session_is_warned_and_closed_before_its_token_expires() {
    let server = TestServer::with_tokens(&[]);
    let end = now() + 3;
    let mut client = server.client_at(&ops_with_claims(json!({"exp": end})));
    let warning = client.next_of("token_expiring");
    let left = warning["payload"]["expires_in_ms"].as_u64().expect("ms");
    assert!((1..=3000).contains(&left), "{warning}");
    assert_eq!(client.close_code(), 4001);
    assert!(now() <= end, "closed after the expiry");
}

#[test]
fn event_stream_ends_with_its_token() {
    let server = TestServer::with_tokens(&[]);
    let end = now() + 2;
    let token = signed(SECRET, &claims(json!({"exp": end})));
    let mut raw = server.raw();
    let bearer = format!("Authorization: Bearer {token}");
    raw.send(request("GET", "/rooms/ops/events", &[&bearer]));
    let all = raw.read_to_end();
    assert!(all.contains("event: joined"), "{all}");
    assert!(
        (end - 1..=end + 1).contains(&now()),
        "ended at {} for {end}",
        now()
    );
}

// Actors: a client and an event stream with tokens for ten minutes, a client with one for a day, and an anonymous one.
// Faults: the clock of the server is set back an hour, then forward, beyond the end of the first tokens.
// Invariants: the clients whose tokens have ended are closed with 4001; the others stay.
#[test]
fn clients_are_closed_when_the_clock_is_set_beyond_the_end_of_their_tokens() {
    with_fake_clock(|clock| {
        for jump in [11 * 60, 9 * 3600] {
            let flags = [
                "--audience=wscast",
                "--anonymous=subscribe",
                "--ping-interval=1",
            ];
            let mut command = TestServer::command(&flags);
            command.env("SECRET_KEY", SECRET);
            clock.set(0);
            clock.give_to(&mut command);
            let server = TestServer::start_command(command);
            let mut short = server.client_at(&ops_with_claims(json!({})));
            let mut long = server.client_at(&ops_with_claims(json!({"exp": now() + 86_400})));
            let mut anonymous = server.client_at("/ws?room=ops");
            let mut stream = server.raw();
            let token = signed(SECRET, &claims(json!({})));
            let target = format!("/rooms/ops/events?token={token}");
            stream.send(request("GET", &target, &[]));
            stream.read_until("event: joined");

            clock.set(-3600);
            short.say("still here");
            for client in [&mut short, &mut long, &mut anonymous] {
                client.expect("still here");
            }
            stream.read_until("still here");

            clock.set(jump);
            assert_eq!(short.close_code(), 4001);
            stream.read_to_end();
            long.say("and here");
            long.expect("and here");
            anonymous.expect("and here");
        }
    });
}

#[test]
fn renewed_token_keeps_the_session_and_an_invalid_one_changes_nothing() {
    let server = TestServer::with_tokens(&[]);
    let mut client = server.client_at(&ops_with_claims(
        json!({"exp": now() + 4, "subscribe": ["ops", "extra"]}),
    ));
    client.join("extra");
    let mut renew = |changes: Value| {
        let token = signed(SECRET, &claims(changes));
        client.send_json(json!({"type": "auth", "token": token, "id": "renew"}));
        client.next()
    };
    assert_eq!(
        renew(json!({"exp": now() - 1}))["payload"]["code"],
        "unauthorized"
    );
    assert_eq!(
        renew(json!({"sub": "mallory"}))["payload"]["code"],
        "forbidden"
    );
    let renewed = renew(json!({"exp": now() + 500}));
    assert_eq!(renewed["type"], "authenticated", "{renewed}");
    assert_eq!(renewed["payload"]["user"], "alice");
    // The new token does not grant `extra`.
    assert_eq!(client.next_of("left")["room"], "extra");
    client.say("still here");
    client.expect("still here");
    // Until after the expiry of the first token.
    let past = Instant::now() + Duration::from_secs(5);
    wait_until("the first token has expired", || {
        client.expect_nothing();
        Instant::now() > past
    });
}

#[test]
fn client_without_a_token_is_closed_in_time_and_at_shutdown() {
    let mut server = TestServer::with_tokens(&[]);
    let mut late = server.client_without_welcome("/ws");
    assert_eq!(late.close_code(), 4001);
    let mut waiting = server.client_without_welcome("/ws");
    waiting.send_json(json!({"type": "ping"}));
    waiting.next_of("pong");
    server.signal(Signal::TERM);
    assert_eq!(waiting.close_code(), 1001);
    assert!(server.wait_for_exit().success());
}

// Actors: two clients of Alice, one of Bob, and an administrator over HTTP.
// The list comes in pages in order of connection. Closing works by client and by user; unknown ones are 404.
#[test]
fn administrator_lists_and_closes_clients() {
    let server = TestServer::with_tokens(&[]);
    let bearer = admin_bearer();
    let send = |method: &str, target: &str| server.raw().request(method, target, &[&bearer]);
    let mut phone = server.client_at(&ops_with_claims(json!({})));
    let mut laptop = server.client_at(&ops_with_claims(json!({})));
    let mut bob = server.client_at(&ops_with_claims(json!({"sub": "bob"})));
    let mut listed = Vec::new();
    let mut target = "/clients?limit=2".to_owned();
    loop {
        let page = send("GET", &target).json();
        listed.extend(page["clients"].as_array().expect("clients").clone());
        match page["after"].as_str() {
            Some(after) => target = format!("/clients?limit=2&after={after}"),
            None => break,
        }
    }
    let names: Vec<_> = listed
        .iter()
        .map(|c| c["client"].as_str().expect("name"))
        .collect();
    assert_eq!(names, [phone.id(), laptop.id(), bob.id()]);
    assert_eq!(listed[2]["user"], "bob");
    assert_eq!(listed[2]["rooms"], json!(["ops"]));

    assert_eq!(
        send("DELETE", &format!("/clients/{}", bob.id())).status,
        204
    );
    assert_eq!(bob.close_code(), 4003);
    wait_until("the client has left", || {
        let again = send("DELETE", &format!("/clients/{}", bob.id()));
        again.status == 404
    });
    let closed = send("DELETE", "/users/alice/clients").json();
    assert_eq!(closed, json!({"closed": 2}));
    assert_eq!((phone.close_code(), laptop.close_code()), (4003, 4003));
    for target in ["/clients/nonsense", "/clients/c1-1"] {
        assert_eq!(send("DELETE", target).status, 404, "{target}");
    }
    for target in ["/clients?limit=0", "/clients?after=nonsense"] {
        assert_eq!(send("GET", target).status, 400, "{target}");
    }
}

// Valid, invalid and expired tokens are sent in every way, accepted and refused, at the level `trace`.
// Invariant: no token's signature and no secret is in the log.
#[test]
fn tokens_and_keys_are_never_logged() {
    let mut server = TestServer::with_tokens(&[
        "--log-level=trace",
        "--trusted-proxies=127.0.0.1",
        "--max-auth-failures=1",
        "--allow-origin=https://a.example",
    ]);
    let good = signed(SECRET, &claims(json!({})));
    let bad = signed(OTHER_SECRET, &claims(json!({})));
    let expired = signed(SECRET, &claims(json!({"exp": now() - 9})));
    for token in [&good, &bad, &expired, &good] {
        let bearer = format!("Authorization: Bearer {token}");
        let query = format!("token={token}");
        for address in ["127.0.0.1", "203.0.113.7"] {
            let forwarded = format!("X-Forwarded-For: {address}");
            server
                .raw()
                .request("GET", "/stats", &[&bearer, &forwarded]);
            server.raw().get_as(address, &format!("/stats?{query}"));
            server.raw().get_as(address, &format!("/nothing?{query}"));
            for origin in ["https://a.example", "https://b.example"] {
                let origin = format!("Origin: {origin}");
                server.handshake_as(address, &format!("/ws?room=ops&{query}"), &[&origin]);
            }
            let (mut raw, _) = server.handshake_as(address, "/ws?room=ops", &[]);
            let auth = json!({"type": "auth", "token": token}).to_string();
            raw.send_frame(true, 1, auth.as_bytes());
            raw.frame().expect("a reply");
        }
    }
    server.signal(Signal::HUP);
    server.signal(Signal::TERM);
    assert!(server.wait_for_exit().success());
    let log = server.log();
    for secret in [&good, &bad, &expired, SECRET] {
        let signature = secret.rsplit('.').next().expect("a part");
        assert!(!log.contains(signature), "{log}");
    }
    assert!(
        log.contains("disconnected") && log.contains("refused origin"),
        "{log}"
    );
}
