//! Spellings of paths: a slash at the end changes nothing, and no other spelling bypasses a proxy's rule for a path.

use serde_json::json;

use crate::support::token::{SECRET, claims, signed};
use crate::support::{TestServer, handshake, request, wait_until};

#[test]
fn slash_at_the_end_is_the_same_path() {
    let server = TestServer::start(&[]);
    let mut member = server.client_at("/ws/?room=ops");
    let posted = server.post(
        "/rooms/ops/messages/",
        &json!({"type": "message", "payload": 1}),
    );
    assert_eq!(posted.status, 201, "{}", posted.text());
    assert_eq!(member.next_of("message")["payload"], 1);
    let mut browser = server.raw();
    for path in [
        "/health",
        "/rooms/ops",
        "/rooms/ops/messages",
        "/assets/client.js",
        "/assets/page/page.js",
        "/ws",
    ] {
        let plain = browser.get(path);
        for slash in ["/", "/?limit=10"] {
            let other = browser.get(&format!("{path}{slash}"));
            assert_eq!(other.status, plain.status, "{path}{slash}");
            if path != "/health" {
                assert_eq!(other.text(), plain.text(), "{path}{slash}");
            }
        }
    }
    for (method, path) in [
        ("POST", "/health"),
        ("DELETE", "/rooms/ops"),
        ("OPTIONS", "/stats"),
    ] {
        let plain = browser.request(method, path, &[]);
        let other = browser.request(method, &format!("{path}/"), &[]);
        assert_eq!(other.status, plain.status, "{method} {path}");
        assert_eq!(
            other.header("Allow"),
            plain.header("Allow"),
            "{method} {path}"
        );
    }
    browser.send(request("GET", "/rooms/ops/events/", &[]));
    browser.read_until("event: joined");
}

/// A program that leaves out a name must not reach another resource.
#[test]
fn missing_name_stays_an_error() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    for (method, path, status) in [
        ("GET", "/rooms/", 400),
        ("GET", "/rooms//messages", 400),
        ("GET", "/rooms//messages/", 400),
        ("GET", "/rooms//", 404),
        ("GET", "/assets/", 404),
        ("GET", "/assets//", 404),
    ] {
        assert_eq!(
            client.request(method, path, &[]).status,
            status,
            "{method} {path}"
        );
    }
    let posted = server.post(
        "/rooms//messages",
        &json!({"type": "message", "payload": 1}),
    );
    assert_eq!(posted.error_code(), "invalid_room");
}

/// A proxy's rule for `/health` need not cover another spelling.
#[test]
fn no_other_spelling_is_the_same_path() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    for path in [
        "//",
        "//health",
        "/health//",
        "/./health",
        "/health/.",
        "/stats/../health",
        "/health/..",
        "/%2Fhealth",
        "/health%2F",
        "/health%2f",
        "/health%5C",
        "/health;a=b",
        "/health/;a=b",
        "/health%3F",
        "/health%00",
        "/health%20",
        "/HEALTH",
        "/Health/",
        "/health.json",
        "/rooms%2Fops%2Fmessages",
        "/ws//",
    ] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
    // The name of a room is decoded once, and is then no path.
    for path in [
        "/rooms/..%2Fclients",
        "/rooms/a%2F..%2Fb/messages",
        "/rooms/%252e%252e",
    ] {
        assert_eq!(client.get(path).status, 400, "{path}");
    }
    for path in ["/WS", "//ws", "/ws/.", "/ws;a"] {
        client.send(handshake(path));
        assert_eq!(client.response().status, 404, "{path}");
    }
}

/// Rules belong to routes, whatever the spelling of the path.
#[test]
fn rules_apply_to_every_spelling() {
    let server = TestServer::with_tokens(&["--max-message-bytes=1KiB"]);
    let reader = signed(
        SECRET,
        &claims(json!({"subscribe": ["ops"], "publish": null})),
    );
    let bearer = format!("Authorization: Bearer {reader}");
    let mut client = server.raw();
    // `%73` is an `s`: the same path by RFC 3986 §6.2.2.2.
    for (plain, others) in [
        ("/stats", ["/stats/", "/%73tats"]),
        ("/clients", ["/clients/", "/client%73/"]),
        ("/rooms/dev", ["/rooms/dev/", "/rooms/%64ev/"]),
        (
            "/rooms/dev/messages",
            ["/rooms/dev/messages/", "/room%73/dev/messages"],
        ),
        (
            "/rooms/dev/events",
            ["/rooms/dev/events/", "/rooms/dev/event%73/"],
        ),
    ] {
        for headers in [&[][..], &[bearer.as_str()]] {
            let expected = client.request("GET", plain, headers).status;
            assert!(expected == 401 || expected == 403 || (plain == "/stats" && expected == 200));
            for other in others {
                let status = client.request("GET", other, headers).status;
                assert_eq!(status, expected, "{other} {headers:?}");
            }
        }
    }
    for path in ["/rooms/ops/messages", "/rooms/ops/messages/"] {
        let mut client = server.raw();
        let lines = [bearer.as_str(), "Content-Length: 9", "Expect: 100-continue"];
        assert_eq!(client.request("POST", path, &lines).status, 403, "{path}");
    }
    let public = TestServer::start(&["--max-message-bytes=1KiB"]);
    for path in ["/rooms/ops/messages", "/rooms/ops/messages/"] {
        let lines = ["Content-Type: application/json", "Content-Length: 1025"];
        assert_eq!(
            public.raw().request("POST", path, &lines).status,
            413,
            "{path}"
        );
    }
}

#[test]
fn every_spelling_counts_against_the_same_rate() {
    const ALICE: &str = "203.0.113.7";
    let server = TestServer::behind_proxy(&["--max-http-rate=1"]);
    for path in ["/health/", "/rooms/ops/messages/", "//", "/%68ealth"] {
        wait_until("the rate is used up", || {
            server.raw().get_as(ALICE, path).status == 429
        });
        assert_eq!(server.raw().get_as(ALICE, "/health").status, 429, "{path}");
    }
}
