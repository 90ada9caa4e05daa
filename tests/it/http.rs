//! HTTP routes: responses, headers, methods, caching and encodings.

use serde_json::{Value, json};

use crate::support::{READ_METHODS, RawConnection, Response, TestServer, request, wait_for};

const JSON: &str = "application/json";

/// Routes that answer `GET`, with the content type of the response.
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
fn every_route_answers_with_its_content_type() {
    let server = TestServer::start(&[]);
    let _someone = server.client();
    let mut browser = server.raw();
    for (path, content_type) in ROUTES {
        let response = browser.get(path);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        assert_eq!(
            response.header_lines("Content-Type"),
            [*content_type],
            "{path}"
        );
        assert_common_headers(&response, path);
        let caching = if path.starts_with("/assets") || *path == "/" {
            "no-cache"
        } else {
            "no-store"
        };
        assert_eq!(response.header_lines("Cache-Control"), [caching], "{path}");
        assert!(!response.body.is_empty(), "{path}");
    }
}

#[test]
fn invalid_targets_get_a_json_error() {
    let server = TestServer::start(&[]);
    let mut browser = server.raw();
    for (target, status, code) in [
        ("/nothing", 404, "not_found"),
        ("/health//", 404, "not_found"),
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
        let response = browser.get(target);
        assert_eq!(response.status, status, "{target}: {}", response.text());
        assert_is_json_error(&response, code);
        assert_common_headers(&response, target);
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
        // A body would be read as the next response.
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

/// RFC 9110 §9.3.2: a response to HEAD has no body, not even to explain a refusal.
#[test]
fn refusal_of_head_has_no_body() {
    let server = TestServer::start(&[]);
    for (framing, body, status) in [
        ("Content-Length: 2000000", "", 413),
        ("Transfer-Encoding: chunked", "fffff\r\n", 413),
        ("Transfer-Encoding: chunked", "x", 400),
    ] {
        let mut client = server.raw();
        client.send(request("HEAD", "/health", &[framing]) + body);
        let response = client.response_to("HEAD");
        assert_eq!(response.status, status, "{framing}");
        client.assert_closed();
    }
}

#[test]
fn room_lists_its_members_and_its_position() {
    let server = TestServer::start(&[]);
    let mut alice = server.client_at("/ws?room=ops");
    alice.say("hi");
    alice.expect("hi");
    let room = server.get_json("/rooms/ops");
    assert_eq!(
        (&room["room"], &room["members"]),
        (&json!("ops"), &json!(1))
    );
    let since = &room["clients"][0]["since"];
    assert!(since.is_u64(), "{room}");
    let alone = json!([{"client": alice.id(), "since": since}]);
    assert_eq!(room["clients"], alone);
    assert_eq!(room["offset"], 1);
    assert_eq!(room["epoch"], alice.welcome().room("ops").epoch);

    alice.close();
    let left = wait_for("alice has left", || {
        let room = server.get_json("/rooms/ops");
        (room["members"] == 0).then_some(room)
    });
    // The history is kept, and the numbering with it.
    assert_eq!((&left["offset"], &left["clients"]), (&json!(1), &json!([])));
    assert_eq!(left["epoch"], room["epoch"]);
}

#[test]
fn wrong_method_gets_405_with_the_allowed_ones() {
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
        let response = browser.request(method, target, &[]);
        assert_eq!(response.status, 405, "{method} {target}");
        assert_eq!(
            response.header_lines("Allow"),
            [READ_METHODS],
            "{method} {target}"
        );
        assert_is_json_error(&response, "method_not_allowed");
        assert_common_headers(&response, target);
    }
    assert_eq!(browser.request("POST", "/nothing", &[]).status, 404);
}

#[test]
fn unchanged_page_gets_304() {
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

/// RFC 9110 §8.6: a Content-Length in a 304 would have to be that of the body not sent.
#[test]
fn not_modified_has_no_content_length_of_zero() {
    let server = TestServer::start(&[]);
    let response = server.raw().request("GET", "/", &["If-None-Match: *"]);
    assert_eq!(response.status, 304);
    assert_ne!(
        response.header("Content-Length"),
        Some("0"),
        "{}",
        response.head
    );
}

#[test]
fn page_may_load_only_its_own_files() {
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
    // The policy would refuse inline code, so the page must not have any.
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
        assert_eq!(member.welcome().rooms()[0].room, room);
        let state = server.get_json(&format!("/rooms/{encoded}"));
        assert_eq!(
            (&state["room"], &state["members"]),
            (&json!(room), &json!(1))
        );
        member.close();
        server.wait_for_clients(0);
    }
}

#[test]
fn bad_percent_encoding_gets_400() {
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
        let response = server.raw().get(target);
        assert_eq!(response.status, 400, "{target}: {}", response.text());
        assert!(response.json()["error"]["message"].is_string(), "{target}");
    }
}

#[test]
fn absolute_target_is_routed_by_its_path() {
    let server = TestServer::start(&[]);
    let mut proxy = server.raw();
    assert_eq!(proxy.get("http://other.example/health").status, 200);
    assert_eq!(proxy.get("http://other.example").status, 200);
    assert_eq!(proxy.get("https://other.example/nothing").status, 404);
    // A proxy with rules for paths parses this as a query, so the server must do the same.
    let root = proxy.get("http://other.example?/health");
    assert_eq!(
        root.header("Content-Type"),
        proxy.get("/").header("Content-Type")
    );
    let nothing = server.raw().get("http://other.example#/health");
    assert_eq!(nothing.status, 400);
}

#[test]
fn rooms_are_listed_in_pages_by_name() {
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
fn concurrent_readers_are_all_answered() {
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

/// Asserts the headers that every response has.
fn assert_common_headers(response: &Response, what: &str) {
    assert_eq!(
        response.header_lines("X-Content-Type-Options"),
        ["nosniff"],
        "{what}"
    );
    assert_eq!(
        response.header_lines("Access-Control-Allow-Origin"),
        ["*"],
        "{what}"
    );
    assert_eq!(response.header_lines("Content-Length").len(), 1, "{what}");
    assert_eq!(response.header_lines("Date").len(), 1, "{what}");
    let servers = response.header_lines("Server");
    assert!(
        servers.len() == 1 && servers[0].starts_with("wscast/"),
        "{what}: {servers:?}"
    );
}

fn assert_is_json_error(response: &Response, code: &str) {
    assert_eq!(
        response.header_lines("Content-Type"),
        [JSON],
        "{}",
        response.head
    );
    assert_eq!(response.error_code(), code, "{}", response.text());
    let message = response.json()["error"]["message"].as_str().map(str::len);
    assert!(message > Some(8), "{}", response.text());
}

fn names(page: &Value) -> Vec<String> {
    let rooms = page["rooms"].as_array().expect("rooms");
    let name = |room: &Value| room["room"].as_str().expect("a name").to_owned();
    rooms.iter().map(name).collect()
}

// A parameter that is ignored would start a reader at the newest messages.
#[test]
fn names_that_another_route_has_for_a_parameter_are_refused_with_the_right_one() {
    let server = TestServer::start(&[]);
    for (path, cure) in [
        ("/rooms/a/messages?last=2", "write `limit`"),
        ("/rooms/a/messages?after=2", "write `since`"),
        ("/rooms/a/messages?Since=2", "write `since`"),
        ("/rooms/a/events?since=2", "write `last_event_id`"),
        ("/events?room=a&offset=2", "write `last_event_id`"),
    ] {
        let text = server.raw().get(path).text();
        assert!(
            text.contains("invalid_field") && text.contains(cure),
            "{path}: {text}"
        );
    }
    let server = TestServer::with_tokens(&[]);
    for header in ["Authorization: abc.def.ghi", "Authorization: Token abc"] {
        let response = server.raw().request("GET", "/rooms", &[header]);
        assert_eq!(response.status, 401);
        assert!(
            response.text().contains("Authorization: Bearer"),
            "{}",
            response.text()
        );
    }
}
