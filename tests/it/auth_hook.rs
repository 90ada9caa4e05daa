//! The connect hook: a backend decides who a client without a token is. Without an answer nobody is let in.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::token::{SECRET, admin_bearer, claims, signed};
use crate::support::{
    ClientOptions, HookBehaviour, HookRequest, HookServer, RawConnection, Response, TestClient,
    TestServer, handshake_with, hook_response, request, wait_until,
};

/// The backend of these scenarios: knows sessions by the cookie `sid`, and services by an opaque token.
fn backend() -> HookServer {
    HookServer::start(HookBehaviour::decide(answer))
}

fn answer(request: &HookRequest) -> String {
    let json = "Content-Type: application/json\r\n";
    let cookie = request.header("Cookie").unwrap_or_default();
    let authorization = request.header("Authorization").unwrap_or_default();
    match (cookie, authorization) {
        ("sid=alice", _) | (_, "Bearer opaque-alice") => {
            let claims = json!({"sub": "alice", "subscribe": ["*"], "publish": ["ops"]});
            hook_response(200, json, &claims.to_string())
        }
        ("sid=root", _) => hook_response(200, json, &json!({"admin": true}).to_string()),
        ("sid=anyone", _) => hook_response(204, "", ""),
        ("sid=banned", _) => hook_response(403, "", ""),
        _ => hook_response(401, "", ""),
    }
}

fn server_asking(hook: &HookServer, args: &[&str]) -> TestServer {
    let flags = ["--auth-url", &hook.url(), "--auth-timeout", "700ms"];
    TestServer::start(&[&flags, args].concat())
}

/// Completes a handshake with these header lines.
fn upgraded(server: &TestServer, target: &str, headers: &[&str]) -> RawConnection {
    let mut raw = server.raw();
    raw.send(handshake_with(target, headers));
    let response = raw.response();
    assert_eq!(response.status, 101, "{}", response.head);
    raw
}

/// Opens a client with these header lines.
fn client_with(server: &TestServer, target: &str, headers: &[&str]) -> TestClient {
    ClientOptions::new().after_handshake(upgraded(server, target, headers))
}

/// Sends a handshake with these header lines and returns the response to one that is refused.
fn refused_handshake(server: &TestServer, headers: &[&str]) -> Response {
    let mut raw = server.raw();
    raw.send(handshake_with("/ws?room=ops", headers));
    raw.response()
}

/// Opens a WebSocket as a page of the server's own host does, and returns code and reason of the close.
fn close_of_page(server: &TestServer, headers: &[&str]) -> (u16, String) {
    let origin = "Origin: http://test";
    let headers = [&[origin], headers].concat();
    let frame = upgraded(server, "/ws?room=ops", &headers)
        .frame()
        .expect("a close");
    let reason = String::from_utf8_lossy(&frame.payload[2..]).into_owned();
    (frame.close_code(), reason)
}

/// Returns one of the totals in `/stats`, which the backend must let Alice read.
fn total(server: &TestServer, name: &str) -> u64 {
    let stats = get_with(server, "/stats", &["Cookie: sid=alice"]).json();
    stats["totals"][name].as_u64().expect("a number")
}

fn get_with(server: &TestServer, path: &str, headers: &[&str]) -> Response {
    server.raw().request("GET", path, headers)
}

#[test]
fn answer_decides_for_each_kind_of_connection_who_the_client_is_and_what_it_may_do() {
    let hook = backend();
    let server = server_asking(&hook, &[]);
    let cookie = "Cookie: sid=alice";
    let mut alice = client_with(&server, "/ws?room=ops&room=dev", &[cookie]);
    alice.say("hello");
    assert_eq!(alice.next_of("message")["from"], "alice");
    alice.send_json(json!({"type": "message", "room": "dev", "payload": 1}));
    assert_eq!(alice.next_of("error")["payload"]["code"], "forbidden");

    let asked = hook.requests()[0].clone();
    assert!(
        asked.head.starts_with("GET /hook HTTP/1.1\r\n"),
        "{}",
        asked.head
    );
    for (name, value) in [
        ("Cookie", "sid=alice"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Original-Method", "GET"),
        ("X-Original-URI", "/ws"),
        ("X-Wscast-Rooms", "ops,dev"),
    ] {
        assert_eq!(asked.header(name), Some(value), "{}", asked.head);
    }

    let rooms = get_with(&server, "/rooms", &[cookie]);
    assert_eq!(rooms.status, 200);
    let mut stream = server.raw();
    stream.send(request("GET", "/rooms/ops/events", &[cookie]));
    assert!(
        stream
            .read_until("event: joined")
            .starts_with("HTTP/1.1 200 ")
    );
    // The opaque token of a service, in the header or in the address.
    for (path, headers) in [
        ("/rooms/ops", &["Authorization: Bearer opaque-alice"][..]),
        ("/rooms/ops?token=opaque-alice", &[]),
    ] {
        assert_eq!(get_with(&server, path, headers).status, 200, "{path}");
    }
    // An empty answer grants what everyone may do on a server without keys.
    let mut anyone = client_with(&server, "/ws?room=dev", &["Cookie: sid=anyone"]);
    anyone.say("hi");
    anyone.next_of("message");
    assert_eq!(
        get_with(&server, "/clients", &["Cookie: sid=anyone"]).status,
        403
    );
    assert!(
        !hook
            .requests()
            .iter()
            .any(|asked| asked.head.contains("token="))
    );
}

#[test]
fn refusals_have_the_documented_codes() {
    let hook = backend();
    let server = server_asking(&hook, &[]);
    let unknown = &["Cookie: sid=mallory"][..];
    let banned = &["Cookie: sid=banned"][..];
    assert_eq!(close_of_page(&server, unknown).0, 4001);
    assert_eq!(close_of_page(&server, banned).0, 4003);
    assert_eq!(refused_handshake(&server, unknown).status, 401);
    assert_eq!(refused_handshake(&server, banned).status, 403);
    for path in ["/rooms", "/rooms/ops/events", "/rooms/ops/messages"] {
        assert_eq!(get_with(&server, path, unknown).status, 401, "{path}");
        assert_eq!(get_with(&server, path, banned).status, 403, "{path}");
        assert_eq!(get_with(&server, path, &[]).status, 401, "{path}");
    }
    assert_eq!(get_with(&server, "/health", &[]).status, 200);
    assert!(total(&server, "auth_calls_refused") > 0);
    assert!(!server.log().contains("every client"), "{}", server.log());
}

#[test]
fn token_may_follow_in_a_message_and_tokens_of_the_server_need_no_backend() {
    let hook = backend();
    let flags = ["--auth-url", &hook.url(), "--auth-cache", "0"];
    let server = TestServer::with_tokens(&flags);
    // A client without credentials is asked about, and may then send an opaque token, or one of the server.
    let mut client = server.client_without_welcome("/ws?room=ops");
    client.send_json(json!({"type": "auth", "token": "opaque-alice"}));
    assert_eq!(client.next_of("authenticated")["payload"]["user"], "alice");
    let mut client = server.client_without_welcome("/ws?room=ops");
    client.send_json(json!({"type": "auth", "token": "opaque-mallory"}));
    assert_eq!(client.next_of("error")["payload"]["code"], "unauthorized");
    assert_eq!(client.close_code(), 4001);

    let asked = hook.requests().len();
    let token = signed(SECRET, &claims(json!({})));
    let _alice = server.client_at(&format!("/ws?room=ops&token={token}"));
    let forged = signed("0123456789abcdef0123456789abcdef", &claims(json!({})));
    let refused = get_with(&server, &format!("/rooms?token={forged}"), &[]);
    assert_eq!(refused.status, 401);
    assert_eq!(
        get_with(&server, "/clients", &[&admin_bearer()]).status,
        200
    );
    assert_eq!(hook.requests().len(), asked, "the backend was not asked");
}

// A page of another site opens a connection in the browser of a user, which adds the user's cookies.
#[test]
fn cookies_are_passed_on_only_for_pages_of_this_host_and_of_listed_origins() {
    let hook = backend();
    for (allowed, origin, is_passed_on) in [
        ("*", "http://evil.example", false),
        ("*", "null", false),
        ("https://app.example", "https://app.example", true),
        ("https://*.example.com", "https://a.example.com", true),
    ] {
        let server = server_asking(&hook, &["--allow-origin", allowed]);
        let origin = format!("Origin: {origin}");
        let headers = ["Cookie: sid=alice", &origin, "Authorization: Basic YTpi"];
        let response = get_with(&server, "/rooms", &headers);
        let expected = if is_passed_on { 200 } else { 401 };
        assert_eq!(response.status, expected, "{allowed} {origin}");
        let asked = hook.requests().pop().expect("a question");
        assert_eq!(asked.header("Cookie").is_some(), is_passed_on);
        assert_eq!(asked.header("Authorization").is_some(), is_passed_on);
        let is_logged = server.log().contains("ignored the cookie");
        assert_eq!(is_logged, !is_passed_on, "{allowed} {origin}");
    }
    let server = server_asking(&hook, &[]);
    let (host, own) = (
        "Host: chat.example:5000",
        "Origin: http://chat.example:5000",
    );
    let bytes = format!("GET /rooms HTTP/1.1\r\n{host}\r\n{own}\r\nCookie: sid=alice\r\n\r\n");
    let mut raw = server.raw();
    raw.send(bytes);
    assert_eq!(raw.response().status, 200);
}

// Faults: each way in which a backend can fail to answer.
// Invariants: nobody is let in, within the time-out and with a code that says to try again; memory stays bounded.
#[test]
fn without_an_answer_nobody_is_let_in() {
    let login = hook_response(200, "Content-Type: text/html\r\n", "<html>Log in</html>");
    let redirect = hook_response(302, "Location: /login\r\n", "");
    let endless = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"sub\":\"".to_owned();
    let claimed = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n".to_owned();
    let wrong = hook_response(200, "", "{\"subscribe\":[\"a b\"]}");
    let cut_off = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n".to_owned();
    for (logged, fault) in [
        ("no response in time", HookBehaviour::Hang),
        ("connection closed", HookBehaviour::Close),
        ("responds with 500", HookBehaviour::status(500)),
        ("responds with 302", HookBehaviour::Respond(redirect)),
        ("text/html", HookBehaviour::Respond(login)),
        ("not HTTP", HookBehaviour::Respond("\0\0garbage".to_owned())),
        ("longer than", HookBehaviour::Endless(endless)),
        ("longer than", HookBehaviour::Endless(claimed)),
        ("wrong claim", HookBehaviour::Respond(wrong)),
        ("ends without a body", HookBehaviour::Respond(cut_off)),
    ] {
        let hook = HookServer::start(fault);
        let server = server_asking(&hook, &[]);
        let before_kib = server.rss_kib();
        let cookie = &["Cookie: sid=alice"][..];
        let (code, reason) = close_of_page(&server, cookie);
        assert_eq!(code, 1013, "{logged}");
        assert!(reason.contains("gives no usable answer"), "{reason}");
        let response = refused_handshake(&server, cookie);
        assert_eq!(response.status, 503, "{logged}");
        assert_eq!(response.json()["error"]["code"], "auth_unavailable");
        assert!(response.header("Retry-After").is_some());
        assert_eq!(get_with(&server, "/rooms", cookie).status, 503);
        assert!(server.rss_kib() < before_kib + 8 * 1024, "{logged}");
        server.wait_for_log(logged);
        // It works as soon as the backend does: failures are not kept.
        hook.set(HookBehaviour::decide(answer));
        client_with(&server, "/ws?room=ops", cookie);
    }
}

#[test]
fn event_stream_and_message_with_a_token_say_that_the_backend_is_unavailable() {
    let hook = HookServer::start(HookBehaviour::status(401));
    let server = server_asking(&hook, &[]);
    let mut waiting = server.client_without_welcome("/ws?room=ops");
    hook.set(HookBehaviour::status(500));
    waiting.send_json(json!({"type": "auth", "token": "opaque-alice"}));
    let refusal = waiting.next_of("error")["payload"].clone();
    assert_eq!(refusal["code"], "auth_unavailable");
    assert!(refusal["retry_after_ms"].as_u64() > Some(0), "{refusal}");
    assert_eq!(waiting.close_code(), 1013);
    // An `EventSource` reconnects only after a stream.
    let accept = ["Accept: text/event-stream", "Cookie: sid=alice"];
    let stream = get_with(&server, "/rooms/ops/events", &accept);
    assert_eq!(stream.status, 200);
    assert!(
        stream.text().contains("auth_unavailable"),
        "{}",
        stream.text()
    );
}

#[test]
fn answers_are_kept_for_as_long_as_the_backend_or_the_setting_says() {
    let lifetime = |control: &'static str| {
        HookBehaviour::decide(move |_| {
            let headers = format!("Cache-Control: {control}\r\n");
            hook_response(200, &headers, "{\"subscribe\":\"*\"}")
        })
    };
    let hook = HookServer::start(HookBehaviour::decide(answer));
    let server = server_asking(&hook, &[]);
    let ask = |sid: &str| {
        let before = hook.requests().len();
        for _ in 0..3 {
            let cookie = format!("Cookie: sid={sid}");
            get_with(&server, "/rooms", &[&cookie]);
        }
        hook.requests().len() - before
    };
    assert_eq!([ask("alice"), ask("alice"), ask("banned")], [1, 0, 1]);
    hook.set(lifetime("private, max-age=60"));
    assert_eq!(ask("long"), 1);
    hook.set(lifetime("max-age=60\r\nCache-Control: no-store"));
    assert_eq!(ask("two lines"), 3);
    hook.set(lifetime("no-store"));
    assert_eq!(ask("never"), 3);
    hook.set(lifetime("max-age=0"));
    assert_eq!(ask("zero"), 3);
    assert!(server.total("auth_cache_hits") >= 5 + 2 + 2);
    // Another room, another address or another credential is another question.
    hook.set(HookBehaviour::decide(answer));
    for path in ["/rooms/a", "/rooms/b"] {
        let before = hook.requests().len();
        get_with(&server, path, &["Cookie: sid=alice"]);
        assert_eq!(hook.requests().len(), before + 1, "{path}");
    }
}

#[test]
fn client_is_closed_when_the_rights_of_the_answer_end() {
    let expiring = |_: &HookRequest| {
        let exp = crate::support::token::now() + 2;
        hook_response(
            200,
            "",
            &json!({"sub": "alice", "subscribe": "*", "exp": exp}).to_string(),
        )
    };
    let hook = HookServer::start(HookBehaviour::decide(expiring));
    let server = server_asking(&hook, &["--auth-cache", "1h"]);
    let mut alice = client_with(&server, "/ws?room=ops", &["Cookie: sid=alice"]);
    assert_eq!(alice.close_code(), 4001);
    // The answer was not kept for longer than its rights.
    let asked = hook.requests().len();
    client_with(&server, "/ws?room=ops", &["Cookie: sid=alice"]);
    assert_eq!(hook.requests().len(), asked + 1);
}

#[test]
fn answer_from_before_a_revocation_is_not_used_again() {
    let hook = backend();
    let server = server_asking(&hook, &["--auth-cache", "1h"]);
    let alice = &["Cookie: sid=alice"][..];
    let mut connected = client_with(&server, "/ws?room=ops", alice);
    let asked_by_alice = || {
        assert_eq!(get_with(&server, "/rooms", alice).status, 200);
        let of_alice = |asked: &HookRequest| asked.header("Cookie") == Some("sid=alice");
        hook.requests()
            .iter()
            .filter(|asked| of_alice(asked))
            .count()
    };
    assert_eq!([asked_by_alice(), asked_by_alice()], [2, 2]);
    let root = &["Cookie: sid=root", "Content-Length: 0"][..];
    let revoked = server.raw().request("POST", "/users/alice/revoke", root);
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    assert_eq!(connected.close_code(), 4001);
    // The time of a revocation is rounded up to the next millisecond, and an answer from before is not used again.
    let until = Duration::from_secs_f64(revoked.json()["revoked"].as_f64().expect("a time"));
    wait_until("the revocation has passed", || {
        UNIX_EPOCH.elapsed().expect("a time after 1970") > until
    });
    // The backend knows her still, or again.
    assert_eq!([asked_by_alice(), asked_by_alice()], [3, 3]);
}

// Actors: many clients with different cookies, and a backend that hangs.
// Invariants: the backend has at most `--auth-calls` questions at once; all clients are refused in time; those who are
// connected notice nothing.
#[test]
fn questions_at_once_are_bounded_while_the_backend_hangs() {
    let hook = backend();
    let server = server_asking(&hook, &["--auth-calls", "4"]);
    let mut alice = client_with(&server, "/ws?room=ops", &["Cookie: sid=alice"]);
    let asked = hook.requests().len();
    hook.set(HookBehaviour::Hang);
    let mut waiting: Vec<RawConnection> = (0..40).map(|_| server.raw()).collect();
    for (n, raw) in waiting.iter_mut().enumerate() {
        let cookie = format!("Cookie: sid={n}");
        raw.send(request("GET", "/rooms", &[&cookie]));
    }
    for n in 0..20 {
        alice.say(n);
        assert_eq!(alice.next_of("message")["payload"], n);
    }
    for raw in &mut waiting {
        assert_eq!(raw.response().status, 503);
    }
    let questions = hook.requests().len() - asked;
    // Each of the four slots is taken for the whole time-out. More rounds start only if the clients arrive late.
    assert!((4..=20).contains(&questions), "{questions}");
    hook.set(HookBehaviour::decide(answer));
    assert!(total(&server, "auth_calls_dropped") >= 20);
}

#[test]
fn wrong_settings_are_reported_and_shown() {
    for (flags, parts) in [
        (
            &["--auth-url", "app"][..],
            &["--auth-url", "write http"][..],
        ),
        (
            &["--auth-url", "http://a/", "--anonymous", "both"],
            &["--anonymous", "--auth-url"],
        ),
        (
            &["--auth-url", "http://a/", "--auth-calls", "0"],
            &["--auth-calls"],
        ),
    ] {
        let command = TestServer::command(flags);
        let Err((_, log)) = TestServer::try_start_command(command) else {
            panic!("{flags:?} is accepted");
        };
        assert!(
            parts.iter().all(|part| log.contains(part)),
            "{flags:?}: {log}"
        );
    }
    let hook = backend();
    let url = format!("{}?key=hunter2", hook.url());
    let server = TestServer::start(&["--auth-url", &url, "--log-level", "trace"]);
    get_with(&server, "/rooms", &["Cookie: sid=secret-cookie"]);
    hook.set(HookBehaviour::status(500));
    get_with(&server, "/rooms", &["Cookie: sid=another-secret-cookie"]);
    wait_until("the failure is logged", || {
        server.log().contains("responds with 500")
    });
    for secret in ["hunter2", "secret-cookie"] {
        assert!(!server.log().contains(secret), "{}", server.log());
    }
    let asked: Value = json!(hook.requests().len());
    assert_eq!(asked, 2);
}
