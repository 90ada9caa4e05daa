//! Cross-origin requests: preflights, and the origins whose pages may read responses.

use crate::support::{READ_METHODS, TestServer, request};

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
            let allowed_origin = response.header_lines("Access-Control-Allow-Origin");
            let expected: &[&str] = if allowed { &[origin] } else { &[] };
            assert_eq!(allowed_origin, expected, "{origin}: {}", response.head);
            assert_eq!(
                response.header_lines("Vary"),
                ["Origin"],
                "{}",
                response.head
            );
        }
    }
    let without_origin = browser.get("/health");
    assert_eq!(without_origin.header("Access-Control-Allow-Origin"), None);
    assert_eq!(without_origin.header("Vary"), Some("Origin"));
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
