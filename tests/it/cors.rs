//! Which pages may read what is answered, and what they are told before they ask.

use crate::http::READING;
use crate::support::TestServer;

#[test]
fn options_tells_what_a_path_answers() {
    let server = TestServer::start(&[]);
    let mut browser = server.raw();
    let plain = browser.request("OPTIONS", "/health", &[]);
    assert_eq!((plain.status, plain.header("Allow")), (204, Some(READING)));
    assert_eq!(plain.header("Access-Control-Allow-Methods"), None);
    // RFC 9110 §8.6
    assert_eq!(plain.header("Content-Length"), None);
    assert_eq!(browser.request("OPTIONS", "*", &[]).status, 204);
    assert_eq!(browser.request("OPTIONS", "/nothing", &[]).status, 404);
}

#[test]
fn a_preflight_tells_a_page_what_it_may_send() {
    let server = TestServer::start(&[]);
    let answer = server.raw().request(
        "OPTIONS",
        "/stats",
        &[
            "Origin: https://page.example",
            "Access-Control-Request-Method: GET",
            "Access-Control-Request-Headers: authorization, content-type",
        ],
    );
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header_lines("Access-Control-Allow-Origin"), ["*"]);
    let methods = answer
        .header("Access-Control-Allow-Methods")
        .expect("methods");
    assert!(methods.contains("GET"), "{methods}");
    let headers = answer
        .header("Access-Control-Allow-Headers")
        .expect("headers");
    let headers = headers.to_ascii_lowercase();
    assert!(
        headers.contains("authorization") && headers.contains("content-type"),
        "{headers}"
    );
    let max_age = answer.header("Access-Control-Max-Age").expect("max age");
    assert!(
        max_age.parse::<u32>().is_ok_and(|seconds| seconds > 0),
        "{max_age}"
    );
}

#[test]
fn with_a_list_of_origins_only_those_may_read() {
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
        for answer in [
            browser.request("GET", "/health", &[&line]),
            browser.request("GET", "/nothing", &[&line]),
            browser.request("GET", "/", &[&line]),
            browser.request("OPTIONS", "/health", &[&line, preflight]),
        ] {
            let told = answer.header_lines("Access-Control-Allow-Origin");
            let expected: &[&str] = if allowed { &[origin] } else { &[] };
            assert_eq!(told, expected, "{origin}: {}", answer.head);
            assert_eq!(answer.header_lines("Vary"), ["Origin"], "{}", answer.head);
        }
    }
    let unasked = browser.get("/health");
    assert_eq!(unasked.header("Access-Control-Allow-Origin"), None);
    assert_eq!(unasked.header("Vary"), Some("Origin"));
}

#[test]
fn an_answer_to_what_was_not_understood_can_be_read_by_a_page() {
    let server = TestServer::start(&[]);
    for bytes in ["GET / HTTP/1.1\r\n\r\n", "BAD\r\n\r\n"] {
        let mut page = server.raw();
        page.send(bytes);
        let answer = page.response();
        assert_eq!(answer.status, 400, "{bytes:?}");
        assert_eq!(
            answer.header("Access-Control-Allow-Origin"),
            Some("*"),
            "{bytes:?}"
        );
    }
}

#[test]
fn a_page_on_the_list_can_read_that_its_body_was_refused() {
    let server = TestServer::start(&["--allow-origin=https://a.example"]);
    let origin = "Origin: https://a.example";
    for (framing, status) in [
        ("Content-Length: 2000000", 413),
        ("Transfer-Encoding: chunked", 411),
    ] {
        let answer = server.raw().request("GET", "/health", &[origin, framing]);
        assert_eq!(answer.status, status, "{framing}");
        let told = answer.header("Access-Control-Allow-Origin");
        assert_eq!(told, Some("https://a.example"), "{framing}");
    }
}
