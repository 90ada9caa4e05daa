//! Tokens in cookies: believed from pages of listed origins and from this server's own pages, and from no others.

use serde_json::{Value, json};

use crate::support::token::{OTHER_SECRET, SECRET, claims, signed};
use crate::support::{TestServer, handshake_with, program, request};

const LISTED: &str = "Origin: https://app.example";
const OTHER: &str = "Origin: https://evil.example";

fn server(args: &[&str]) -> TestServer {
    let cookie = [
        "--token-cookie=__Host-token",
        "--allow-origin=https://app.example,https://*.partner.example,null",
    ];
    TestServer::with_tokens(&[&cookie[..], args].concat())
}

fn token(changes: Value) -> String {
    signed(SECRET, &claims(changes))
}

fn cookie(token: &str) -> String {
    format!("Cookie: theme=dark; __Host-token={token}; lang=de")
}

/// The status of a request with these header lines.
fn status(server: &TestServer, method: &str, target: &str, lines: &[&str]) -> u16 {
    let body = r#"{"type":"message","payload":"hi"}"#;
    let length = format!("Content-Length: {}", body.len());
    let mut lines = lines.to_vec();
    if method == "POST" {
        lines.extend(["Content-Type: application/json", &length]);
    }
    let mut raw = server.raw();
    raw.send(request(method, target, &lines));
    if method == "POST" {
        raw.send(body);
    }
    raw.response_to(if target.ends_with("/events") {
        "HEAD"
    } else {
        method
    })
    .status
}

#[test]
fn cookie_of_a_listed_page_admits_its_client_everywhere() {
    let cookie = cookie(&token(json!({})));
    for origin in [LISTED, "Origin: https://a.partner.example"] {
        let server = server(&[]);
        let lines = [&*cookie, origin];
        assert_eq!(status(&server, "GET", "/rooms/ops/messages", &lines), 404);
        assert_eq!(status(&server, "POST", "/rooms/ops/messages", &lines), 201);
        assert_eq!(status(&server, "GET", "/rooms/ops/messages", &lines), 200);
        assert_eq!(status(&server, "GET", "/rooms/ops/events", &lines), 200);
        let mut page = server.raw();
        page.send(handshake_with("/ws?room=ops", &lines));
        assert_eq!(page.response().status, 101);
        let welcome = page.next_json();
        assert_eq!(welcome["rooms"][0]["room"], "ops", "{welcome}");
        page.send_frame(true, 1, br#"{"type":"message","payload":"hello"}"#);
        assert_eq!(page.next_json()["from"], "alice");
    }
}

// Attack: pages of other sites make a visitor's browser send requests, to which it adds the cookie.
// Invariant: such a request is one without a token.
#[test]
fn cookie_of_a_page_of_another_site_is_ignored() {
    let server = server(&[]);
    let cookie = cookie(&token(json!({"admin": true})));
    let requests = [
        ("GET", vec![OTHER]),
        ("POST", vec![OTHER]),
        // A form, or a page whose referrer policy hides it.
        ("POST", vec!["Origin: null"]),
        ("GET", vec!["Origin: null"]),
        ("POST", vec![]),
        ("POST", vec!["Sec-Fetch-Site: cross-site"]),
        ("POST", vec!["Sec-Fetch-Site: same-origin"]),
        // An image, a script, a link.
        (
            "GET",
            vec!["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"],
        ),
        ("GET", vec!["Sec-Fetch-Site: same-site"]),
        ("GET", vec!["Sec-Fetch-Site: same-origin", OTHER]),
        ("GET", vec!["Origin: https://app.example.evil.example"]),
        ("GET", vec!["Origin: http://app.example"]),
        ("GET", vec![LISTED, OTHER]),
        // The server's name, which another site's name may resolve to as well.
        ("GET", vec!["Origin: https://partner.example"]),
    ];
    for (method, mut lines) in requests {
        let what = format!("{method} {lines:?}");
        lines.push(&cookie);
        assert_eq!(
            status(&server, method, "/rooms/ops/messages", &lines),
            401,
            "{what}"
        );
        if method == "GET" {
            assert_eq!(
                status(&server, method, "/rooms/ops/events", &lines),
                401,
                "{what}"
            );
            assert_eq!(
                status(&server, "DELETE", "/users/alice/clients", &lines),
                401,
                "{what}"
            );
        }
    }
    for origin in [OTHER, "Origin: null"] {
        let mut page = server.raw();
        page.send(handshake_with("/ws?room=ops", &[origin, &cookie]));
        assert_eq!(page.response().status, 101);
        if origin == OTHER {
            assert_eq!(page.close_code(), 4003);
            continue;
        }
        // The list allows the origin, but not with a cookie: the page needs a token of its own.
        page.send_frame(true, 1, br#"{"type":"presence","room":"ops","id":"x"}"#);
        assert_eq!(page.next_json()["payload"]["code"], "unauthorized");
    }
    let metrics = token(json!({}));
    let metrics = server
        .raw()
        .get(&format!("/metrics?token={metrics}"))
        .text();
    let ignored = metrics
        .lines()
        .find(|l| l.starts_with("wscast_cookies_ignored_total "));
    let ignored = ignored
        .expect("a counter")
        .split(' ')
        .nth(1)
        .expect("a value");
    assert!(ignored.parse::<u32>().expect("a number") > 15, "{ignored}");
    assert!(
        server.log().contains("ignored the cookie"),
        "{}",
        server.log()
    );
}

#[test]
fn cookie_counts_on_the_server_s_own_pages_and_without_a_browser() {
    let server = server(&[]);
    let cookie = cookie(&token(json!({})));
    let own = format!("Origin: http://{}", server.address());
    let other_port = "Origin: http://127.0.0.1:1";
    let host = format!("Host: {}", server.address());
    let at_own_host = |text: String| text.replace("Host: test", &host);
    for (method, lines, expected) in [
        ("GET", vec!["Sec-Fetch-Site: same-origin"], 200),
        ("GET", vec!["Sec-Fetch-Site: none"], 200),
        ("GET", vec![], 200),
        ("HEAD", vec![], 200),
        ("GET", vec![&*own], 200),
        ("GET", vec![other_port], 401),
    ] {
        let lines: Vec<&str> = lines.into_iter().chain([&*cookie]).collect();
        let mut raw = server.raw();
        raw.send(at_own_host(request(method, "/stats", &lines)));
        assert_eq!(raw.response_to(method).status, expected, "{lines:?}");
    }
    let mut page = server.raw();
    page.send(at_own_host(handshake_with(
        "/ws?room=ops",
        &[&own, &cookie],
    )));
    assert_eq!(page.response().status, 101);
    assert_eq!(page.next_json()["from"], "server");
    // A program without a browser.
    let mut program = server.raw();
    program.send(handshake_with("/ws?room=ops", &[&cookie]));
    assert_eq!(program.response().status, 101);
    assert_eq!(program.next_json()["from"], "server");
}

#[test]
fn token_of_the_client_s_own_goes_before_the_cookie() {
    let server = server(&[]);
    let bob = token(json!({"sub": "bob"}));
    let cookie = cookie(&token(json!({"subscribe": []})));
    let bearer = format!("Authorization: Bearer {bob}");
    let lines = [LISTED, &cookie, &bearer];
    assert_ne!(status(&server, "GET", "/rooms/ops/messages", &lines), 403);
    let target = format!("/rooms/ops/messages?token={bob}");
    assert_ne!(status(&server, "GET", &target, &[LISTED, &cookie]), 403);
    assert_eq!(
        status(&server, "GET", "/rooms/ops/messages", &[LISTED, &cookie]),
        403
    );
    // A bad token is not replaced by the cookie.
    let bad = format!(
        "Authorization: Bearer {}",
        signed(OTHER_SECRET, &claims(json!({})))
    );
    assert_eq!(
        status(&server, "GET", "/stats", &[LISTED, &cookie, &bad]),
        401
    );
}

#[test]
fn ambiguous_and_broken_cookies_are_no_token() {
    let server = server(&[]);
    let (good, other) = (token(json!({})), token(json!({"sub": "mallory"})));
    for (lines, expected) in [
        (vec![format!("Cookie: __Host-token={good}")], 200),
        (vec![format!("Cookie: __Host-token=\"{good}\"")], 200),
        (vec![format!("Cookie: a=b; __Host-token={good};")], 200),
        (
            vec![
                "Cookie: a=b".to_owned(),
                format!("Cookie: __Host-token={good}"),
            ],
            200,
        ),
        // A neighbouring domain adds its own cookie of that name.
        (
            vec![format!("Cookie: __Host-token={good}; __Host-token={other}")],
            401,
        ),
        (
            vec![
                format!("Cookie: __Host-token={good}"),
                format!("Cookie: __Host-token={other}"),
            ],
            401,
        ),
        (vec![format!("Cookie: __host-token={good}")], 401),
        (vec![format!("Cookie: x__Host-token={good}")], 401),
        (vec!["Cookie: __Host-token=".to_owned()], 401),
        (vec!["Cookie: __Host-token".to_owned()], 401),
        (vec!["Cookie: __Host-token=garbage".to_owned()], 401),
        (
            vec![format!("Cookie: __Host-token={}", "x".repeat(9000))],
            401,
        ),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).chain([LISTED]).collect();
        let shown = lines[0].chars().take(40).collect::<String>();
        assert_eq!(
            status(&server, "GET", "/stats", &lines),
            expected,
            "{shown}"
        );
    }
    // Without the setting no cookie counts.
    let server = TestServer::with_tokens(&["--allow-origin=https://app.example"]);
    assert_eq!(
        status(&server, "GET", "/stats", &[LISTED, &cookie(&good)]),
        401
    );
}

#[test]
fn setting_needs_a_list_of_origins_and_the_name_of_a_cookie() {
    for (args, parts) in [
        (
            vec!["--token-cookie=sid"],
            ["--token-cookie", "--allow-origin"],
        ),
        (
            vec!["--token-cookie=a b", "--allow-origin=https://a.example"],
            ["--token-cookie", "__Host-token"],
        ),
        (
            vec!["--token-cookie=", "--allow-origin=https://a.example"],
            ["--token-cookie", "needs a value"],
        ),
    ] {
        let output = program()
            .arg("--check-config")
            .args(&args)
            .output()
            .expect("run");
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?}");
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
}
