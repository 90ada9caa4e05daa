//! Cross-origin requests: preflights, and the origins whose pages may read responses.

use crate::support::{READ_METHODS, TestServer, handshake_with, request};

#[test]
fn options_lists_the_methods_of_a_path() {
    let server = TestServer::start(&[]);
    let mut browser = server.raw();
    let plain = browser.request("OPTIONS", "/health", &[]);
    assert_eq!(
        (plain.status, plain.header("Allow")),
        (204, Some(READ_METHODS))
    );
    assert_eq!(plain.header("Access-Control-Allow-Methods"), None);
    // RFC 9110 §8.6
    assert_eq!(plain.header("Content-Length"), None);
    assert_eq!(browser.request("OPTIONS", "*", &[]).status, 204);
    assert_eq!(browser.request("OPTIONS", "/nothing", &[]).status, 404);
}

#[test]
fn preflight_lists_the_methods_and_headers_a_page_may_send() {
    let server = TestServer::start(&[]);
    let response = server.raw().request(
        "OPTIONS",
        "/stats",
        &[
            "Origin: https://page.example",
            "Access-Control-Request-Method: GET",
            "Access-Control-Request-Headers: authorization, content-type",
        ],
    );
    assert_eq!(response.status, 204);
    assert_eq!(response.header_lines("Access-Control-Allow-Origin"), ["*"]);
    let methods = response
        .header("Access-Control-Allow-Methods")
        .expect("methods");
    assert!(methods.contains("GET"), "{methods}");
    let headers = response
        .header("Access-Control-Allow-Headers")
        .expect("headers");
    let headers = headers.to_ascii_lowercase();
    assert!(
        headers.contains("authorization") && headers.contains("content-type"),
        "{headers}"
    );
    let max_age = response.header("Access-Control-Max-Age").expect("max age");
    assert!(
        max_age.parse::<u32>().is_ok_and(|seconds| seconds > 0),
        "{max_age}"
    );
}

#[test]
fn allow_list_lets_only_its_origins_read() {
    let server = TestServer::start(&["--allow-origin=https://a.example,https://*.b.example"]);
    let mut browser = server.raw();
    for (origin, allowed) in [
        ("https://a.example", true),
        ("https://deep.b.example", true),
        ("https://b.example", false),
        ("http://a.example", false),
        ("https://a.example.evil", false),
        ("null", false),
    ] {
        let line = format!("Origin: {origin}");
        let preflight = "Access-Control-Request-Method: GET";
        for response in [
            browser.request("GET", "/health", &[&line]),
            browser.request("GET", "/nothing", &[&line]),
            browser.request("GET", "/", &[&line]),
            browser.request("OPTIONS", "/health", &[&line, preflight]),
        ] {
            let expected: &[&str] = if allowed { &[origin] } else { &[] };
            let allowed_origin = response.header_lines("Access-Control-Allow-Origin");
            assert_eq!(allowed_origin, expected, "{origin}: {}", response.head);
            let credentials = response.header("Access-Control-Allow-Credentials");
            assert_eq!(credentials, allowed.then_some("true"), "{origin}");
            assert_eq!(response.header_lines("Vary").last(), Some(&"Origin"));
            let names = response.header_names();
            let count = names
                .iter()
                .filter(|name| name.starts_with("access-control-"))
                .count();
            assert_eq!(count > 0, allowed, "{origin}: {}", response.head);
        }
    }
    let without_origin = browser.get("/health");
    assert_eq!(without_origin.header("Access-Control-Allow-Origin"), None);
    assert_eq!(without_origin.header("Vary"), Some("Origin"));
}

/// Tracing libraries add headers of their own to every request of a page.
#[test]
fn page_of_an_allowed_origin_may_send_any_header() {
    for (flags, origin) in [
        (&[][..], "https://page.example"),
        (
            &["--allow-origin=https://a.example,file://"],
            "https://a.example",
        ),
        (&["--allow-origin=https://a.example,file://"], "file://"),
    ] {
        let server = TestServer::start(flags);
        let mut browser = server.raw();
        let mut preflight = |requested: &str| {
            let lines = [
                &format!("Origin: {origin}"),
                "Access-Control-Request-Method: POST",
                requested,
            ];
            browser.request("OPTIONS", "/rooms/ops/messages", &lines)
        };
        for names in [
            "sentry-trace,baggage",
            "traceparent, tracestate",
            "x-datadog-trace-id, X-Requested-With, authorization",
            "content-type",
        ] {
            let response = preflight(&format!("Access-Control-Request-Headers: {names}"));
            assert_eq!(response.status, 204);
            let allowed = response
                .header("Access-Control-Allow-Headers")
                .expect(names);
            let allowed: Vec<String> = allowed.split(", ").map(str::to_ascii_lowercase).collect();
            for name in names.split(',').map(str::trim).chain(["last-event-id"]) {
                let count = allowed
                    .iter()
                    .filter(|a| a.eq_ignore_ascii_case(name))
                    .count();
                assert_eq!(count, 1, "{origin} {name}: {allowed:?}");
            }
            let vary = response.header_lines("Vary");
            assert!(vary.contains(&"Access-Control-Request-Headers"), "{vary:?}");
        }
        let known = "Authorization, Content-Type, Last-Event-ID";
        for bad in ["a b", "a, b(c)", "x:y", "a, é", &"a,".repeat(60)] {
            let response = preflight(&format!("Access-Control-Request-Headers: {bad}"));
            let allowed = response.header("Access-Control-Allow-Headers");
            assert_eq!(allowed, Some(known), "{bad}");
        }
    }
}

#[test]
fn page_can_read_the_exposed_headers() {
    let server = TestServer::with_tokens(&["--allow-origin=https://a.example"]);
    let mut page = server.raw();
    for (origin, readable) in [("https://a.example", true), ("https://b.example", false)] {
        let line = format!("Origin: {origin}");
        for (method, target, header) in [
            ("GET", "/stats", "WWW-Authenticate"),
            ("DELETE", "/stats", "Allow"),
            ("GET", "/", "ETag"),
        ] {
            let response = page.request(method, target, &[&line]);
            assert!(response.header(header).is_some(), "{header}");
            let exposed = response.header("Access-Control-Expose-Headers");
            let exposed = exposed.unwrap_or_default();
            let names: Vec<&str> = exposed.split(", ").collect();
            assert_eq!(names.contains(&header), readable, "{origin}: {exposed}");
            assert_eq!(
                names.contains(&"Retry-After"),
                readable,
                "{origin}: {exposed}"
            );
        }
    }
}

/// Chromium asks before a page of a public site reaches a private address.
#[test]
fn private_network_is_granted_to_allowed_origins() {
    let listed = ["--allow-origin=https://a.example"];
    for (flags, origin, granted) in [
        (&[][..], "https://b.example", Some("true")),
        (&listed, "https://a.example", Some("true")),
        (&listed, "https://b.example", None),
    ] {
        let server = TestServer::start(flags);
        let origin = format!("Origin: {origin}");
        let lines = [&origin, "Access-Control-Request-Method: GET"];
        let asks = [
            lines[0],
            lines[1],
            "Access-Control-Request-Private-Network: true",
        ];
        let name = "Access-Control-Allow-Private-Network";
        let response = server.raw().request("OPTIONS", "/stats", &asks);
        assert_eq!(response.header(name), granted, "{origin}");
        let response = server.raw().request("OPTIONS", "/stats", &lines);
        assert_eq!(response.header(name), None, "{origin}");
    }
}

/// Apps and extensions have origins of their own, some of them without a host.
#[test]
fn origins_of_apps_are_listed_like_others() {
    let origins = "file://,capacitor://localhost,tauri://localhost,chrome-extension://abcdefgh,\
                   app://obsidian.md,null";
    let server = TestServer::start(&["--allow-origin", origins]);
    let mut page = server.raw();
    for origin in origins.split(',') {
        let line = format!("Origin: {origin}");
        let response = page.request("GET", "/stats", &[&line]);
        let allowed = response.header("Access-Control-Allow-Origin");
        assert_eq!(allowed, Some(origin), "{}", response.head);
        let mut socket = server.raw();
        socket.send(handshake_with("/ws", &[&line]));
        assert_eq!(socket.response().status, 101, "{origin}");
    }
    for origin in [
        "https://localhost",
        "chrome-extension://other",
        "app://",
        "file://x",
    ] {
        let line = format!("Origin: {origin}");
        let response = page.request("GET", "/stats", &[&line]);
        assert_eq!(
            response.header("Access-Control-Allow-Origin"),
            None,
            "{origin}"
        );
    }
}

#[test]
fn response_to_a_malformed_request_can_be_read_by_a_page() {
    let server = TestServer::start(&[]);
    for bytes in ["GET / HTTP/1.1\r\n\r\n", "BAD\r\n\r\n"] {
        let mut page = server.raw();
        page.send(bytes);
        let response = page.response();
        assert_eq!(response.status, 400, "{bytes:?}");
        assert_eq!(
            response.header("Access-Control-Allow-Origin"),
            Some("*"),
            "{bytes:?}"
        );
    }
}

#[test]
fn page_on_the_allow_list_can_read_that_its_body_was_refused() {
    let server = TestServer::start(&["--allow-origin=https://a.example"]);
    let origin = "Origin: https://a.example";
    for (framing, body, status) in [
        ("Content-Length: 2000000", "", 413),
        ("Transfer-Encoding: chunked", "fffff\r\n", 413),
        ("Transfer-Encoding: chunked", "0x5\r\n", 400),
    ] {
        let mut page = server.raw();
        page.send(request("GET", "/health", &[origin, framing]) + body);
        let response = page.response();
        assert_eq!(response.status, status, "{framing}");
        let allowed_origin = response.header("Access-Control-Allow-Origin");
        assert_eq!(allowed_origin, Some("https://a.example"), "{framing}");
    }
}
