//! Revoking a user: its clients are closed and its earlier tokens refused, over restarts and on all nodes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::token::{SECRET, admin_bearer, claims, now, signed};
use crate::support::{Response, TempDir, TestClient, TestServer, request, wait_until, with_redis};

fn token(changes: Value) -> String {
    signed(SECRET, &claims(changes))
}

/// A token of Alice that was issued some seconds ago.
fn issued_ago(seconds: i64) -> String {
    token(json!({"iat": now() - seconds}))
}

/// A token that the issuer gave out after a revocation. Dates are in seconds, so that takes the next one.
fn issued_next() -> String {
    token(json!({"iat": now() + 2}))
}

fn ops(token: &str) -> String {
    format!("/ws?room=ops&token={token}")
}

fn revoke(server: &TestServer, user: &str) -> Response {
    let target = format!("/users/{user}/revoke");
    let headers = [&*admin_bearer(), "Content-Length: 0"];
    server.raw().request("POST", &target, &headers)
}

fn status(server: &TestServer, token: &str) -> u16 {
    server.raw().get(&format!("/stats?token={token}")).status
}

#[test]
fn revoked_user_is_closed_and_its_earlier_tokens_are_refused() {
    let server = TestServer::with_tokens(&[]);
    let (old, undated) = (issued_ago(60), token(json!({"iat": null})));
    let fraction = token(json!({"iat": now() as f64 - 0.5}));
    let bob = token(json!({"sub": "bob", "iat": null}));
    let mut phone = server.client_at(&ops(&old));
    let mut laptop = server.client_at(&ops(&undated));
    let mut others = server.client_at(&ops(&bob));
    let mut stream = server.raw();
    stream.send(request(
        "GET",
        &format!("/rooms/ops/events?token={old}"),
        &[],
    ));
    stream.read_until("event: joined");
    assert_eq!(status(&server, &old), 200);

    let reply = revoke(&server, "alice");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let reply = reply.json();
    assert_eq!(reply["closed"], 3, "{reply}");
    assert!(reply["revoked"].as_f64().expect("a time") >= now() as f64 - 5.0);
    assert_eq!((phone.close_code(), laptop.close_code()), (4001, 4001));
    stream.read_to_end();
    for token in [&old, &undated, &fraction, &token(json!({}))] {
        let refused = server.raw().get(&format!("/stats?token={token}"));
        assert_eq!(refused.status, 401);
        assert!(
            refused.error_message().contains("revoked"),
            "{}",
            refused.text()
        );
        assert_eq!(status(&server, token), 401);
        let mut late = server.client_without_welcome("/ws?room=ops");
        late.send_json(json!({"type": "auth", "token": token}));
        assert_eq!(late.expect_error(), "unauthorized");
        assert_eq!(late.close_code(), 4001);
    }
    // A new token works, and nobody else notices.
    let mut again = server.client_at(&ops(&issued_next()));
    again.say("back");
    again.expect("back");
    others.expect("back");
    // A session is not renewed with an old token.
    again.send_json(json!({"type": "auth", "token": old}));
    assert_eq!(again.expect_error(), "unauthorized");
    again.say("still here");
    again.expect("still here");
    others.expect("still here");
    let metrics = server.raw().get(&format!("/metrics?token={bob}")).text();
    assert!(metrics.contains("wscast_revoked_users 1\n"), "{metrics}");
}

#[test]
fn only_operators_revoke_and_only_users_are_revoked() {
    let server = TestServer::with_tokens(&[]);
    for (token, status) in [(None, 401), (Some(token(json!({}))), 403)] {
        let query = token.map_or_else(String::new, |token| format!("?token={token}"));
        let target = format!("/users/alice/revoke{query}");
        let headers = ["Content-Length: 0"];
        let response = server.raw().request("POST", &target, &headers);
        assert_eq!(response.status, status);
    }
    assert_eq!(revoke(&server, &"u".repeat(129)).status, 400);
    assert_eq!(revoke(&server, "").status, 400);
    assert_eq!(revoke(&server, "a%0Ab").status, 400);
    assert_eq!(revoke(&server, "nobody").json()["closed"], 0);
    // Names are compared as they are.
    for name in ["Alice", "alic", "cafe%CC%81"] {
        assert_eq!(revoke(&server, name).status, 200);
    }
    assert_eq!(status(&server, &issued_ago(9)), 200);
    assert_eq!(status(&server, &token(json!({"sub": "caf\u{e9}"}))), 200);
    assert_eq!(status(&server, &token(json!({"sub": "cafe\u{301}"}))), 401);
    // An operator can revoke the own token.
    assert_eq!(revoke(&server, "root").status, 200);
    assert_eq!(revoke(&server, "alice").status, 401);
}

#[test]
fn revocation_outlasts_restarts_and_crashes() {
    let disk = TempDir::new();
    let db = disk.arg("history.db");
    let serve = || TestServer::with_tokens(&["--db", &db]);
    let (old, undated) = (issued_ago(60), token(json!({"iat": null})));
    let mut server = serve();
    assert_eq!(revoke(&server, "alice").status, 200);
    // Twice, and of names that look like others' keys.
    for user in ["alice", "%", "a:b", "%C3%A9"] {
        assert_eq!(revoke(&server, user).status, 200);
    }
    for signal in [Signal::KILL, Signal::TERM] {
        server.end(signal);
        server = serve();
        for token in [
            &old,
            &undated,
            &token(json!({"sub": "é", "iat": now() - 9})),
        ] {
            assert_eq!(status(&server, token), 401, "{signal:?}");
        }
        assert_eq!(status(&server, &token(json!({"sub": "bob"}))), 200);
        assert_eq!(status(&server, &issued_next()), 200);
    }
}

// Actors: two nodes, a client of Alice on the second; later a third node.
// Invariants: the first node's revocation closes the client and refuses its token on all nodes, and on nodes that start
// later.
#[test]
fn revocation_reaches_all_nodes() {
    with_redis(|redis| {
        let url = redis.url();
        let node = || TestServer::with_tokens(&["--redis", &url]);
        let (one, two) = (node(), node());
        let old = issued_ago(60);
        let mut alice = two.client_at(&ops(&old));
        let mut bob = two.client_at(&ops(&token(json!({"sub": "bob"}))));
        wait_until("both nodes know each other", || {
            let stats = one.get_json(&format!("/stats?token={old}"));
            stats["cluster"]["nodes"] == 2
        });
        let reply = revoke(&one, "alice").json();
        assert_eq!(
            (&reply["closed"], &reply["nodes_notified"]),
            (&json!(0), &json!(1))
        );
        assert_eq!(alice.close_code(), 4001);
        wait_until("the token is refused", || status(&two, &old) == 401);
        assert_eq!(status(&one, &old), 401);
        bob.say("still here");
        bob.expect("still here");
        let three = node();
        assert_eq!(status(&three, &old), 401);
        assert_eq!(status(&three, &issued_next()), 200);
    });
}

#[test]
fn revocation_that_redis_does_not_keep_is_reported() {
    with_redis(|mut redis| {
        let server = TestServer::with_tokens(&["--redis", &redis.url()]);
        let old = issued_ago(60);
        let mut alice = server.client_at(&ops(&old));
        redis.kill();
        let reply = revoke(&server, "alice");
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert_eq!(reply.error_code(), "storage_unavailable");
        // This node refuses the token nevertheless.
        assert_eq!(alice.close_code(), 4001);
        assert_eq!(status(&server, &old), 401);
        redis.restart();
        wait_until("it is kept", || revoke(&server, "alice").status == 200);
    });
}

// Actors: threads that connect as Alice as fast as they can, and an operator who revokes her meanwhile.
// Invariant: once the revocation is answered and the handshakes of that moment are over, no client of Alice is left.
#[test]
fn no_client_slips_through_a_revocation_under_load() {
    let server = TestServer::with_tokens(&[
        "--max-connection-rate=0",
        "--max-http-rate=0",
        "--max-auth-failures=0",
    ]);
    let old = issued_ago(60);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut clients = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    match TestClient::try_connect(server.address(), &ops(&old)) {
                        Some(client) => clients.push(client),
                        None => clients.clear(),
                    }
                    if clients.len() > 50 {
                        clients.clear();
                    }
                }
                // Clients that were let in would stay.
                clients.into_iter().for_each(|mut client| {
                    assert_eq!(client.close_code(), 4001);
                });
            });
        }
        wait_until("clients are there", || {
            let clients = server.raw().request("GET", "/clients", &[&admin_bearer()]);
            clients.json()["clients"].as_array().expect("a list").len() > 20
        });
        assert_eq!(revoke(&server, "alice").status, 200);
        wait_until("all are gone", || {
            let clients = server.raw().request("GET", "/clients", &[&admin_bearer()]);
            clients.json()["clients"] == json!([])
        });
        is_over.store(true, Ordering::Relaxed);
    });
    let clients = server.raw().request("GET", "/clients", &[&admin_bearer()]);
    assert_eq!(clients.json()["clients"], json!([]));
}

#[test]
fn many_revocations_are_kept_and_cost_others_little() {
    let disk = TempDir::new();
    let db = disk.arg("history.db");
    let server = TestServer::with_tokens(&["--db", &db, "--max-http-rate=0"]);
    let mut bob = server.client_at(&ops(&token(json!({"sub": "bob"}))));
    for n in 0..200 {
        assert_eq!(revoke(&server, &format!("user-{n}")).status, 200);
        bob.say(n);
        bob.expect(n);
    }
    drop(server);
    let server = TestServer::with_tokens(&["--db", &db]);
    for n in [0, 199] {
        let user = token(json!({"sub": format!("user-{n}"), "iat": now() - 60}));
        assert_eq!(status(&server, &user), 401);
    }
    let mut bob = server.client_at(&ops(&token(json!({"sub": "bob"}))));
    bob.send_json(json!({"type": "ping"}));
    assert!(bob.has_input_within(Duration::from_secs(5)));
}
