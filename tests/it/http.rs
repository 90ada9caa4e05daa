//! The HTTP side: every route, who may read its answer, and connections that carry several requests.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{RawConnection, Response, TestServer, eventually, request};

const JSON: &str = "application/json";
const READING: &str = "GET, HEAD, OPTIONS";

/// Routes that answer `GET`, with the type of their answer.
const ROUTES: &[(&str, &str)] = &[
    ("/", "text/html; charset=utf-8"),
    ("/assets/page.css", "text/css; charset=utf-8"),
    ("/assets/page.js", "text/javascript; charset=utf-8"),
    ("/health", JSON),
    ("/stats", JSON),
    ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
    ("/rooms", JSON),
    ("/rooms/lobby", JSON),
];

#[test]
fn every_route_answers_with_its_type() {
    let server = TestServer::start(&[]);
    let _someone = server.client();
    let mut browser = server.raw();
    for (path, content_type) in ROUTES {
        let answer = browser.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(
            answer.header_lines("Content-Type"),
            [*content_type],
            "{path}"
        );
        assert_is_orderly(&answer, path);
        let caching = if path.starts_with("/assets") || *path == "/" {
            "no-cache"
        } else {
            "no-store"
        };
        assert_eq!(answer.header_lines("Cache-Control"), [caching], "{path}");
        assert!(!answer.body.is_empty(), "{path}");
    }
}

#[test]
fn what_is_not_there_is_a_json_error() {
    let server = TestServer::start(&[]);
    let mut browser = server.raw();
    for (target, status, code) in [
        ("/nothing", 404, "not_found"),
        ("/health/", 404, "not_found"),
        ("//health", 404, "not_found"),
        ("/assets/nothing.js", 404, "not_found"),
        ("/assets/..%2f..%2fCargo.toml", 404, "not_found"),
        ("/assets/../Cargo.toml", 404, "not_found"),
        ("/echo", 404, "not_found"),
        ("/rooms/empty", 404, "room_not_found"),
        ("/rooms/", 400, "invalid_room"),
        ("/rooms/a%2Fb", 400, "invalid_room"),
        ("/rooms?limit=0", 400, "invalid_field"),
        ("/rooms?limit=1001", 400, "invalid_field"),
        ("/rooms?limit=-1", 400, "invalid_field"),
        ("/rooms?limit=many", 400, "invalid_field"),
        ("/ws", 426, "upgrade_required"),
    ] {
        let answer = browser.get(target);
        assert_eq!(answer.status, status, "{target}: {}", answer.text());
        assert_is_json_error(&answer, code);
        assert_is_orderly(&answer, target);
    }
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let server = TestServer::start(&[]);
    let _someone = server.client();
    let mut browser = server.raw();
    for path in ROUTES
        .iter()
        .map(|(path, _)| *path)
        .chain(["/nothing", "/ws"])
    {
        let get = browser.get(path);
        // Had it a body, the body would be taken for the next answer.
        let head = browser.request("HEAD", path, &[]);
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.header_names(), get.header_names(), "{path}");
        assert_eq!(
            head.header("Content-Type"),
            get.header("Content-Type"),
            "{path}"
        );
        let figures = ["/health", "/stats", "/metrics"].contains(&path);
        if !figures {
            assert_eq!(
                head.header("Content-Length"),
                get.header("Content-Length"),
                "{path}"
            );
            assert_eq!(head.header("ETag"), get.header("ETag"), "{path}");
        }
    }
}

/// RFC 9110 §9.3.2: not even to say what is wrong with its body.
#[test]
fn head_is_refused_without_a_body_too() {
    let server = TestServer::start(&[]);
    for (framing, status) in [
        ("Content-Length: 2000000", 413),
        ("Transfer-Encoding: chunked", 411),
    ] {
        let mut client = server.raw();
        let answer = client.request("HEAD", "/health", &[framing]);
        assert_eq!(answer.status, status, "{framing}");
        client.assert_closed();
    }
}

#[test]
fn health_and_stats_tell_how_the_server_is() {
    let server = TestServer::start(&[]);
    let (_alice, _bob) = (server.client(), server.client_at("/ws?room=ops"));
    let health = server.get_json("/health");
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["connected_clients"], 2);
    assert!(health["message"].is_string(), "{health}");
    assert!(health["uptime_seconds"].as_f64() > Some(0.0), "{health}");
    assert!(health["version"].is_string(), "{health}");

    let stats = server.get_json("/stats");
    assert_eq!(stats["connected_clients"], 2);
    assert!(stats["server_time"].as_f64() > Some(1.7e9), "{stats}");
    assert!(stats["uptime_seconds"].as_f64() > Some(0.0), "{stats}");
    assert_eq!(
        (&stats["rooms"], &stats["lagging_clients"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(stats["totals"]["handshakes"], 2);
    for (group, field) in [
        ("totals", "connections"),
        ("totals", "connections_refused"),
        ("totals", "handshakes_refused"),
        ("totals", "http_requests"),
        ("totals", "requests"),
        ("totals", "requests_refused"),
        ("totals", "messages_published"),
        ("totals", "messages_delivered"),
        ("totals", "slow_consumers_evicted"),
        ("totals", "silent_clients_closed"),
        ("rates", "messages_published"),
        ("rates", "messages_delivered"),
        ("history", "messages"),
        ("history", "bytes"),
        ("queues", "broker"),
        ("queues", "broadcaster"),
    ] {
        assert!(
            stats[group][field].is_number(),
            "{group}.{field} in {stats}"
        );
    }
}

#[test]
fn a_room_tells_who_is_in_it_and_how_far_it_is() {
    let server = TestServer::start(&[]);
    let mut alice = server.client_at("/ws?room=ops");
    alice.say("hi");
    alice.expect("hi");
    let room = server.get_json("/rooms/ops");
    assert_eq!(
        (&room["room"], &room["members"]),
        (&json!("ops"), &json!(1))
    );
    assert_eq!(room["clients"], json!([{"client": alice.id()}]));
    assert_eq!(room["offset"], 1);
    assert_eq!(room["epoch"], alice.welcome()["rooms"][0]["epoch"]);

    alice.close();
    let left = eventually("alice has left", || {
        let room = server.get_json("/rooms/ops");
        (room["members"] == 0).then_some(room)
    });
    // Its history is still there, and with it its place in the stream.
    assert_eq!((&left["offset"], &left["clients"]), (&json!(1), &json!([])));
    assert_eq!(left["epoch"], room["epoch"]);
}

#[test]
fn a_method_a_path_does_not_know_is_405_with_those_it_does() {
    let server = TestServer::start(&[]);
    let mut browser = server.raw();
    for (method, target) in [
        ("POST", "/"),
        ("PUT", "/health"),
        ("DELETE", "/rooms"),
        ("PATCH", "/stats"),
        ("TRACE", "/metrics"),
        ("PROPFIND", "/assets/page.js"),
        ("get", "/health"),
        ("POST", "/ws"),
    ] {
        let answer = browser.request(method, target, &[]);
        assert_eq!(answer.status, 405, "{method} {target}");
        assert_eq!(answer.header_lines("Allow"), [READING], "{method} {target}");
        assert_is_json_error(&answer, "method_not_allowed");
        assert_is_orderly(&answer, target);
    }
    assert_eq!(browser.request("POST", "/nothing", &[]).status, 404);
}

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
        let answer = server.raw().request("POST", "/health", &[origin, framing]);
        assert_eq!(answer.status, status, "{framing}");
        let told = answer.header("Access-Control-Allow-Origin");
        assert_eq!(told, Some("https://a.example"), "{framing}");
    }
}

#[test]
fn a_page_that_has_not_changed_is_not_sent_again() {
    let server = TestServer::start(&[]);
    let mut browser = server.raw();
    for path in ["/", "/assets/page.css", "/assets/page.js"] {
        let first = browser.get(path);
        let etag = first.header("ETag").expect("ETag");
        for line in [
            format!("If-None-Match: {etag}"),
            format!("If-None-Match: W/{etag}"),
            format!("If-None-Match: \"other\", {etag}"),
            "If-None-Match: *".to_owned(),
        ] {
            let again = browser.request("GET", path, &[&line]);
            assert_eq!(again.status, 304, "{path} {line}");
            assert_eq!(again.header("ETag"), Some(etag), "{path}");
            assert_eq!(again.header("Cache-Control"), first.header("Cache-Control"));
        }
        let other = browser.request("GET", path, &["If-None-Match: \"other\""]);
        assert_eq!((other.status, &other.body), (200, &first.body), "{path}");
    }
}

/// RFC 9110 §8.6: a Content-Length there would have to be that of the body not sent.
#[test]
fn not_modified_does_not_claim_an_empty_body() {
    let server = TestServer::start(&[]);
    let answer = server.raw().request("GET", "/", &["If-None-Match: *"]);
    assert_eq!(answer.status, 304);
    assert_ne!(
        answer.header("Content-Length"),
        Some("0"),
        "{}",
        answer.head
    );
}

#[test]
fn the_page_may_load_nothing_but_its_own_files() {
    let server = TestServer::start(&[]);
    let page = server.raw().get("/");
    let policy = page.header("Content-Security-Policy").expect("a policy");
    for rule in [
        "default-src 'none'",
        "script-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.contains(rule), "{rule} in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("Referrer-Policy"), Some("no-referrer"));
    // Inline code would be refused by that policy, and the page with it.
    let html = page.text();
    for file in ["page.css", "page.js"] {
        assert!(html.contains(&format!("assets/{file}")), "{file}");
    }
    assert!(
        !html.contains("<style") && !html.contains(" style="),
        "{html}"
    );
}

#[test]
fn one_connection_carries_many_requests() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    for _ in 0..50 {
        let answer = client.get("/health");
        assert_eq!((answer.status, answer.header("Connection")), (200, None));
    }
    assert_eq!(server.total("connections"), 2);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    let batch = [
        ("GET", "/health", 200),
        ("HEAD", "/", 200),
        ("GET", "/nothing", 404),
        ("POST", "/stats", 405),
        ("OPTIONS", "/rooms", 204),
        ("GET", "/ws", 426),
        ("GET", "/assets/page.js", 200),
    ];
    let requests: String = batch
        .iter()
        .map(|(method, target, _)| request(method, target, &[]))
        .collect();
    client.send(requests.repeat(10));
    for _ in 0..10 {
        for (method, target, status) in batch {
            let answer = client.response_to(method);
            assert_eq!(answer.status, status, "{method} {target}");
        }
    }
    client.shutdown_write();
    client.assert_closed();
}

#[test]
fn http_1_0_closes_unless_it_asks_to_stay() {
    let server = TestServer::start(&[]);
    let mut old = server.raw();
    old.send("GET /health HTTP/1.0\r\n\r\n");
    let answer = old.response();
    assert_eq!(
        (answer.status, answer.header("Connection")),
        (200, Some("close"))
    );
    old.assert_closed();

    let mut staying = server.raw();
    for _ in 0..3 {
        staying.send("GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        let answer = staying.response();
        assert_eq!(answer.status, 200);
        let connection = answer.header("Connection").map(str::to_ascii_lowercase);
        assert_eq!(connection.as_deref(), Some("keep-alive"));
    }
}

#[test]
fn connection_close_is_answered_and_honoured() {
    let server = TestServer::start(&[]);
    for line in [
        "Connection: close",
        "connection: x, CLOSE",
        "Connection: x\r\nConnection: close",
    ] {
        let mut client = server.raw();
        // The second request must not be looked at.
        client.send(request("GET", "/health", &[line]) + &request("GET", "/health", &[]));
        let answer = client.response();
        assert_eq!(
            (answer.status, answer.header("Connection")),
            (200, Some("close")),
            "{line}"
        );
        client.assert_closed();
    }
}

#[test]
fn a_connection_that_idles_is_closed_without_a_word() {
    let server = TestServer::start(&["--keep-alive=0.2"]);
    let mut client = server.raw();
    assert_eq!(client.get("/health").status, 200);
    client.assert_closed();
}

/// The time to idle ends with the first byte; from there on it is the head's time that counts.
#[test]
fn a_request_begun_in_time_is_not_cut_off_by_the_keep_alive() {
    let server = TestServer::start(&["--keep-alive=0.3", "--head-timeout=20"]);
    let mut client = server.raw();
    assert_eq!(client.get("/health").status, 200);
    client.send("GET /health HTTP/1.1\r\n");
    // Longer than the keep-alive, and nothing is said.
    assert!(!client.hears_within(Duration::from_millis(600)));
    client.send("Host: test\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

/// Time spent idling is not taken off the head's, when both settings are the same neither.
#[test]
fn a_request_begun_late_has_the_whole_time_of_a_head() {
    let server = TestServer::start(&["--keep-alive=3", "--head-timeout=3"]);
    let mut client = server.raw();
    assert_eq!(client.get("/health").status, 200);
    assert!(!client.hears_within(Duration::from_secs(2)));
    client.send("GET /health HTTP/1.1\r\n");
    assert!(!client.hears_within(Duration::from_secs(2)));
    client.send("Host: test\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

#[test]
fn room_names_are_percent_decoded() {
    let server = TestServer::start(&[]);
    for (room, encoded) in [
        ("房间", "%E6%88%BF%E9%97%B4"),
        ("房间", "%e6%88%bf%e9%97%b4"),
        ("a:b", "a%3Ab"),
        ("plain", "%70lain"),
        ("été.1_x-y", "%C3%A9t%C3%A9.1_x-y"),
    ] {
        let member = server.client_at(&format!("/ws?room={encoded}"));
        assert_eq!(member.welcome()["rooms"][0]["room"], room);
        let told = server.get_json(&format!("/rooms/{encoded}"));
        assert_eq!((&told["room"], &told["members"]), (&json!(room), &json!(1)));
        member.close();
        eventually("it has left", || {
            (server.connected_clients() == 0).then_some(())
        });
    }
}

#[test]
fn bad_percent_encoding_is_400() {
    let server = TestServer::start(&[]);
    for target in [
        "/rooms/%ff",
        "/rooms/%C3%28",
        "/rooms/%zz",
        "/rooms/100%",
        "/rooms/%E6%88",
        "/rooms/a%00b",
        "/rooms/a%0D%0Ab",
        "/rooms?after=%ff",
        "/health?%ff=1",
    ] {
        let answer = server.raw().get(target);
        assert_eq!(answer.status, 400, "{target}: {}", answer.text());
        assert!(answer.json()["error"]["message"].is_string(), "{target}");
    }
}

#[test]
fn an_absolute_target_is_its_path() {
    let server = TestServer::start(&[]);
    let mut proxy = server.raw();
    assert_eq!(proxy.get("http://elsewhere.example/health").status, 200);
    assert_eq!(proxy.get("http://elsewhere.example").status, 200);
    assert_eq!(proxy.get("https://elsewhere.example/nothing").status, 404);
    // Whoever guards paths before us takes this for a query.
    let root = proxy.get("http://elsewhere.example?/health");
    assert_eq!(
        root.header("Content-Type"),
        proxy.get("/").header("Content-Type")
    );
    let nothing = server.raw().get("http://elsewhere.example#/health");
    assert_eq!(nothing.status, 400);
}

/// A proxy that says both wants no other request read on this connection.
#[test]
fn close_outweighs_keep_alive() {
    let server = TestServer::start(&[]);
    for version in ["1.0", "1.1"] {
        let mut client = server.raw();
        let head = format!(
            "GET /health HTTP/{version}\r\nHost: h\r\nConnection: keep-alive, close\r\n\r\n"
        );
        client.send(head.repeat(2));
        assert_eq!(client.response().status, 200, "{version}");
        client.assert_closed();
    }
}

#[test]
fn a_client_that_expects_100_continue_is_told_to_go_on() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    client.send(request(
        "POST",
        "/health",
        &["Content-Length: 4", "Expect: 100-Continue"],
    ));
    assert_eq!(client.response().status, 100);
    client.send("body");
    assert_eq!(client.response().status, 405);

    // Whoever has sent the body already is not told to send it.
    let at_once = request(
        "POST",
        "/health",
        &["Content-Length: 4", "Expect: 100-continue"],
    ) + "body";
    client.send(at_once);
    assert_eq!(client.response().status, 405);

    // A body that will not be taken is refused before it is sent.
    client.send(request(
        "POST",
        "/health",
        &["Content-Length: 2000000", "Expect: 100-continue"],
    ));
    assert_eq!(client.response().status, 413);
    client.assert_closed();
}

/// RFC 9110 §10.1.1: HTTP/1.0 knows no interim answers.
#[test]
fn http_1_0_is_never_told_to_continue() {
    let server = TestServer::start(&[]);
    let mut old = server.raw();
    old.send("POST /health HTTP/1.0\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert!(!old.hears_within(Duration::from_millis(300)));
    old.send("body");
    assert_eq!(old.response().status, 405);
}

#[test]
fn a_body_is_never_taken_for_a_request() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    let smuggled = request("GET", "/stats", &[]);
    let length = format!("Content-Length: {}", smuggled.len());
    for (method, target, status) in [
        ("POST", "/health", 405),
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("OPTIONS", "/health", 204),
        ("POST", "/nothing", 404),
        ("DELETE", "/rooms/lobby", 405),
    ] {
        client.send(request(method, target, &[&length]));
        // Apart from its head, as a slow client sends it, and then with what follows.
        let (first, rest) = smuggled.split_at(10);
        client.send(first);
        client.send(format!("{rest}{}", request("GET", "/nothing", &[])));
        assert_eq!(
            client.response_to(method).status,
            status,
            "{method} {target}"
        );
        assert_eq!(client.response().status, 404, "{method} {target}");
    }
    // The largest body there may be.
    let largest = 1024 * 1024;
    let length = format!("Content-Length: {largest}");
    client.send(request("POST", "/health", &[&length]));
    client.send(&smuggled.repeat(largest / smuggled.len() + 1).as_bytes()[..largest]);
    assert_eq!(client.response().status, 405);
    assert_eq!(client.get("/nothing").status, 404);
}

#[test]
fn rooms_come_in_pages_by_name() {
    let server = TestServer::start(&[]);
    let rooms: Vec<String> = (0..25).map(|n| format!("r{n:02}")).collect();
    let query: Vec<String> = rooms
        .iter()
        .rev()
        .map(|room| format!("room={room}"))
        .collect();
    let _member = server.client_at(&format!("/ws?{}", query.join("&")));
    let _other = server.client_at("/ws?room=r00");

    let mut listed = Vec::new();
    let mut pages = 0;
    loop {
        let after = listed.last().map(String::as_str).unwrap_or_default();
        let page = server.get_json(&format!("/rooms?limit=10&after={after}"));
        assert_eq!(page["total"], 25);
        let names = names(&page);
        if names.is_empty() {
            break;
        }
        assert!(names.len() <= 10, "{page}");
        listed.extend(names);
        pages += 1;
    }
    assert_eq!((&listed, pages), (&rooms, 3));
    let first = server.get_json("/rooms?limit=2");
    assert_eq!(first["rooms"][0], json!({"room": "r00", "members": 2}));
    assert_eq!(first["rooms"][1], json!({"room": "r01", "members": 1}));
    assert_eq!(names(&server.get_json("/rooms")), rooms);
    assert_eq!(names(&server.get_json("/rooms?limit=1000")), rooms);
    assert_eq!(names(&server.get_json("/rooms?after=r2")), rooms[20..]);
}

#[test]
fn prometheus_can_read_every_line_of_metrics() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    alice.say("hi");
    alice.expect("hi");
    // A delivery is counted once all of its batch have gone out.
    let text = eventually("the delivery is counted", || {
        let text = server.raw().get("/metrics").text();
        text.contains("wscast_messages_delivered_total 1\n")
            .then_some(text)
    });
    assert!(text.ends_with('\n'), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let mut seen = Vec::new();
    assert_eq!(lines.len() % 3, 0, "{text}");
    for metric in lines.chunks(3) {
        let (name, value) = metric[2].split_once(' ').expect("name and value");
        assert!(name.starts_with("wscast_"), "{name}");
        assert!(
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
            "{name}"
        );
        assert!(
            value.parse::<f64>().is_ok_and(|value| value >= 0.0),
            "{name} {value}"
        );
        let help = metric[0]
            .strip_prefix(&format!("# HELP {name} "))
            .expect("help");
        assert!(!help.is_empty(), "{name}");
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        assert_eq!(metric[1], format!("# TYPE {name} {kind}"));
        assert!(!seen.contains(&name), "{name} stands twice");
        seen.push(name);
    }
    for (name, value) in [
        ("wscast_clients", 1),
        ("wscast_handshakes_total", 1),
        ("wscast_messages_published_total", 1),
        ("wscast_messages_delivered_total", 1),
        ("wscast_history_messages", 1),
    ] {
        assert!(
            lines.contains(&format!("{name} {value}").as_str()),
            "{name} in {text}"
        );
    }
}

#[test]
fn gauges_return_to_zero_when_clients_leave() {
    let server = TestServer::start(&[]);
    let clients: Vec<_> = (0..5)
        .map(|n| server.client_at(&format!("/ws?room=r{n}")))
        .collect();
    let idle: Vec<_> = (0..3).map(|_| server.raw()).collect();
    let full = eventually("all are counted", || {
        let stats = server.stats();
        (stats["connections"] == 9).then_some(stats)
    });
    assert_eq!(full["connected_clients"], 5);
    for (n, client) in clients.into_iter().enumerate() {
        match n % 2 {
            0 => client.close(),
            _ => drop(client),
        }
    }
    drop(idle);
    eventually("only the one who asks is left", || {
        let text = server.raw().get("/metrics").text();
        let is = |line: &str| text.lines().any(|l| l == line);
        (is("wscast_clients 0") && is("wscast_connections 1") && is("wscast_lagging_clients 0"))
            .then_some(())
    });
    assert_eq!(server.get_json("/rooms"), json!({"rooms": [], "total": 0}));
}

#[test]
fn many_readers_at_once_are_all_answered() {
    let server = TestServer::start(&[]);
    let mut readers: Vec<RawConnection> = (0..100).map(|_| server.raw()).collect();
    for reader in &mut readers {
        reader.send(request("GET", "/assets/page.js", &[]).repeat(20));
    }
    let script = server.raw().get("/assets/page.js").body;
    for reader in &mut readers {
        for _ in 0..20 {
            assert!(reader.response().body == script);
        }
    }
}

/// What every answer says, whatever it answers.
fn assert_is_orderly(answer: &Response, what: &str) {
    assert_eq!(
        answer.header_lines("X-Content-Type-Options"),
        ["nosniff"],
        "{what}"
    );
    assert_eq!(
        answer.header_lines("Access-Control-Allow-Origin"),
        ["*"],
        "{what}"
    );
    assert_eq!(answer.header_lines("Content-Length").len(), 1, "{what}");
    assert_eq!(answer.header_lines("Date").len(), 1, "{what}");
    let servers = answer.header_lines("Server");
    assert!(
        servers.len() == 1 && servers[0].starts_with("wscast/"),
        "{what}: {servers:?}"
    );
}

fn assert_is_json_error(answer: &Response, code: &str) {
    assert_eq!(
        answer.header_lines("Content-Type"),
        [JSON],
        "{}",
        answer.head
    );
    assert_eq!(answer.error_code(), code, "{}", answer.text());
    let message = answer.json()["error"]["message"].as_str().map(str::len);
    assert!(message > Some(8), "{}", answer.text());
}

fn names(page: &Value) -> Vec<String> {
    let rooms = page["rooms"].as_array().expect("rooms");
    let name = |room: &Value| room["room"].as_str().expect("a name").to_owned();
    rooms.iter().map(name).collect()
}
