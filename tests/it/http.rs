//! The HTTP side: every route, and what its answer says.

use serde_json::{Value, json};

use crate::support::{RawConnection, Response, TestServer, eventually, request};

const JSON: &str = "application/json";
pub const READING: &str = "GET, HEAD, OPTIONS";

/// Routes that answer `GET`, with the type of their answer.
const ROUTES: &[(&str, &str)] = &[
    ("/", "text/html; charset=utf-8"),
    ("/assets/page/page.css", "text/css; charset=utf-8"),
    ("/assets/page/page.js", "text/javascript; charset=utf-8"),
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
        ("PROPFIND", "/assets/page/page.js"),
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
fn a_page_that_has_not_changed_is_not_sent_again() {
    let server = TestServer::start(&[]);
    let mut browser = server.raw();
    for path in ["/", "/assets/page/page.css", "/assets/page/page.js"] {
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
    for file in ["page/page.css", "page/page.js"] {
        assert!(html.contains(&format!("assets/{file}")), "{file}");
    }
    assert!(
        !html.contains("<style") && !html.contains(" style="),
        "{html}"
    );
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
fn many_readers_at_once_are_all_answered() {
    let server = TestServer::start(&[]);
    let mut readers: Vec<RawConnection> = (0..100).map(|_| server.raw()).collect();
    for reader in &mut readers {
        reader.send(request("GET", "/assets/page/page.js", &[]).repeat(20));
    }
    let script = server.raw().get("/assets/page/page.js").body;
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
