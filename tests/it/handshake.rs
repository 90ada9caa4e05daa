//! The opening handshake (RFC 6455 §4.2): accepted requests, and refused ones with their reason.

use tungstenite::handshake::derive_accept_key;

use crate::support::{ACCEPT, BINARY, TEXT, TestServer, message_frame, request};

/// The header lines of a correct handshake.
const UPGRADE: &str = "Upgrade: websocket";
const CONNECTION: &str = "Connection: Upgrade";
const VERSION: &str = "Sec-WebSocket-Version: 13";
/// The key of RFC 6455 §1.3.
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

#[test]
fn sample_key_gets_the_accept_value_of_the_rfc() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    let response = client.request("GET", "/ws", &[UPGRADE, CONNECTION, VERSION, KEY]);
    assert_eq!(response.status, 101);
    assert_eq!(response.header_lines("Sec-WebSocket-Accept"), [ACCEPT]);
    assert_eq!(
        response.header("Upgrade").map(str::to_lowercase).as_deref(),
        Some("websocket")
    );
    assert_eq!(
        response
            .header("Connection")
            .map(str::to_lowercase)
            .as_deref(),
        Some("upgrade")
    );
    // Neither was offered by the client (RFC 6455 §4.2.2).
    assert_eq!(response.header("Sec-WebSocket-Protocol"), None);
    assert_eq!(response.header("Sec-WebSocket-Extensions"), None);
    assert!(client.frame().is_some_and(|welcome| welcome.opcode == 1));
}

// Each case is a spelling of the headers that RFC 9110 and RFC 6455 allow.
// All get 101 with the correct accept value and no extension.
#[test]
fn handshakes_of_browsers_and_proxies_are_accepted() {
    let server = TestServer::start(&[]);
    let with = |lines: &[&'static str]| [lines, &[VERSION, KEY]].concat();
    for (what, lines) in [
        (
            "a list",
            with(&[UPGRADE, "Connection: keep-alive, Upgrade"]),
        ),
        (
            "a list without spaces",
            with(&[UPGRADE, "Connection: keep-alive,Upgrade"]),
        ),
        (
            "two lines",
            with(&[UPGRADE, "Connection: keep-alive", CONNECTION]),
        ),
        (
            "two lines the other way round",
            with(&[UPGRADE, CONNECTION, "Connection: keep-alive"]),
        ),
        (
            "other cases",
            with(&["UPGRADE: WebSocket", "connection: uPGRADE"]),
        ),
        (
            "a choice of protocols",
            with(&["Upgrade: h2c, websocket", CONNECTION]),
        ),
        (
            "a length of nothing",
            with(&[UPGRADE, CONNECTION, "Content-Length: 0"]),
        ),
        (
            "any origin",
            with(&[UPGRADE, CONNECTION, "Origin: https://anywhere.example"]),
        ),
        (
            "an unknown extension",
            with(&[
                UPGRADE,
                CONNECTION,
                "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
            ]),
        ),
        (
            "names in other cases",
            vec![
                "uPGRADE: websocket",
                "CONNECTION: upgrade",
                "sec-websocket-version: 13",
                "SEC-WEBSOCKET-KEY: dGhlIHNhbXBsZSBub25jZQ==",
            ],
        ),
    ] {
        let mut client = server.raw();
        let response = client.request("GET", "/ws", &lines);
        assert_eq!(response.status, 101, "{what}: {}", response.text());
        assert_eq!(
            response.header("Sec-WebSocket-Accept"),
            Some(ACCEPT),
            "{what}"
        );
        assert_eq!(response.header("Sec-WebSocket-Extensions"), None, "{what}");
        assert_eq!(response.header("Sec-WebSocket-Protocol"), None, "{what}");
        assert!(
            client.frame().is_some_and(|welcome| welcome.opcode == 1),
            "{what}"
        );
    }
}

/// Any 16 bytes in base64 are a key, also with bits after them: the example of RFC 6455 §4.1 has some.
#[test]
fn key_of_lenient_encoders_is_accepted_and_hashed_as_sent() {
    let server = TestServer::start(&[]);
    for line in [
        "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==",
        "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==",
        "Sec-WebSocket-Key: //////////////////////==",
        "Sec-WebSocket-Key: abcdefghijklmnopqrstuv==",
        "Sec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Key: \t dGhlIHNhbXBsZSBub25jZR== \t",
    ] {
        let (_, key) = line.split_once(':').expect("a header");
        let expected = derive_accept_key(key.trim().as_bytes());
        let mut client = server.raw();
        let response = client.request("GET", "/ws", &with_key(line));
        assert_eq!(response.status, 101, "{line}: {}", response.text());
        assert_eq!(
            response.header_lines("Sec-WebSocket-Accept"),
            [expected.as_str()]
        );
    }
}

#[test]
fn other_version_is_refused_with_the_supported_one() {
    let server = TestServer::start(&[]);
    for (what, versions) in [
        ("none", &[][..]),
        ("an older one", &["Sec-WebSocket-Version: 8"]),
        ("a newer one", &["Sec-WebSocket-Version: 14"]),
        ("a list", &["Sec-WebSocket-Version: 13, 8"]),
        ("two", &[VERSION, VERSION]),
        ("no number", &["Sec-WebSocket-Version: thirteen"]),
        ("nearly", &["Sec-WebSocket-Version: 013"]),
    ] {
        let lines = [&[UPGRADE, CONNECTION, KEY], versions].concat();
        let response = server.refused_handshake(request("GET", "/ws", &lines));
        assert_eq!(response.status, 426, "{what}");
        assert_eq!(
            response.header_lines("Sec-WebSocket-Version"),
            ["13"],
            "{what}"
        );
        assert_eq!(response.header("Upgrade"), Some("websocket"), "{what}");
        assert_eq!(response.error_code(), "websocket_version", "{what}");
    }
}

// Each case has exactly one wrong or missing header.
// All get 400 with `bad_handshake` and a message that names the header.
#[test]
fn wrong_header_is_refused_with_400_that_names_it() {
    let server = TestServer::start(&[]);
    let key = "Sec-WebSocket-Key";
    for (what, named, lines) in [
        ("no key", key, vec![UPGRADE, CONNECTION, VERSION]),
        (
            "two keys",
            key,
            vec![UPGRADE, CONNECTION, VERSION, KEY, KEY],
        ),
        ("an empty key", key, with_key("Sec-WebSocket-Key:")),
        (
            "a key too short",
            key,
            with_key("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"),
        ),
        (
            "a key too long",
            key,
            with_key("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSEhISE="),
        ),
        (
            "a key not in base64",
            key,
            with_key("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ?=="),
        ),
        (
            "a key with one sign of padding",
            key,
            with_key("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQA="),
        ),
        (
            "a key with a space inside",
            key,
            with_key("Sec-WebSocket-Key: dGhlIHNhbXBs ZSBub25jZ=="),
        ),
        (
            "a key without padding",
            key,
            with_key("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"),
        ),
        (
            "a key in the URL alphabet",
            key,
            with_key("Sec-WebSocket-Key: -_hlIHNhbXBsZSBub25jZQ=="),
        ),
        (
            "two keys on one line",
            key,
            with_key("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="),
        ),
        ("no upgrade", "Upgrade", vec![CONNECTION, VERSION, KEY]),
        (
            "another upgrade",
            "Upgrade",
            vec!["Upgrade: h2c", CONNECTION, VERSION, KEY],
        ),
        (
            "nearly that upgrade",
            "Upgrade",
            vec!["Upgrade: websocket2", CONNECTION, VERSION, KEY],
        ),
        ("no connection", "Connection", vec![UPGRADE, VERSION, KEY]),
        (
            "a connection kept alive",
            "Connection",
            vec![UPGRADE, "Connection: keep-alive", VERSION, KEY],
        ),
        (
            "no such connection",
            "Connection",
            vec![UPGRADE, "Connection: notupgrade", VERSION, KEY],
        ),
        (
            "two words",
            "Connection",
            vec![UPGRADE, "Connection: keep-alive Upgrade", VERSION, KEY],
        ),
    ] {
        let response = server.refused_handshake(request("GET", "/ws", &lines));
        assert_eq!(response.status, 400, "{what}");
        assert_eq!(response.error_code(), "bad_handshake", "{what}");
        let why = response.json()["error"]["message"].to_string();
        assert!(why.contains(named), "{what}: {why}");
    }
}

#[test]
fn handshake_must_be_a_get_of_http_1_1_without_a_body() {
    let server = TestServer::start(&[]);
    let lines = [UPGRADE, CONNECTION, VERSION, KEY];
    for (what, named, handshake) in [
        ("POST", "GET", request("POST", "/ws", &lines)),
        ("PUT", "GET", request("PUT", "/ws", &lines)),
        (
            "HTTP/1.0",
            "HTTP/1.1",
            request("GET", "/ws", &lines).replace("HTTP/1.1", "HTTP/1.0"),
        ),
        (
            "a body",
            "body",
            with_body(&lines, "Content-Length: 4", "body"),
        ),
        (
            "chunks",
            "body",
            with_body(&lines, "Transfer-Encoding: chunked", "0\r\n\r\n"),
        ),
    ] {
        let response = server.refused_handshake(handshake);
        assert_eq!(response.status, 400, "{what}");
        assert_eq!(response.error_code(), "bad_handshake", "{what}");
        let why = response.json()["error"]["message"].to_string();
        assert!(why.contains(named), "{what}: {why}");
    }
    let head = request("HEAD", "/ws", &lines);
    let mut client = server.raw();
    client.send(head);
    assert_eq!(client.response_to("HEAD").status, 400);
    client.assert_closed();
}

#[test]
fn refused_handshakes_are_counted() {
    let server = TestServer::start(&["--allow-origin=https://a.example"]);
    let lines = [UPGRADE, CONNECTION, VERSION, KEY];
    for (what, handshake) in [
        (
            "no key",
            request("GET", "/ws", &[UPGRADE, CONNECTION, VERSION]),
        ),
        (
            "version",
            request("GET", "/ws", &[UPGRADE, CONNECTION, KEY]),
        ),
        ("room", request("GET", "/ws?room=%20", &lines)),
        ("body", with_body(&lines, "Content-Length: 4", "body")),
    ] {
        let before = server.total("handshakes_refused");
        server.refused_handshake(handshake);
        assert_eq!(server.total("handshakes_refused"), before + 1, "{what}");
    }
    let before = server.total("handshakes_refused");
    for (target, origin) in [
        ("/ws", "https://b.example"),
        ("/ws?room=%20", "https://a.example"),
    ] {
        let origin = format!("Origin: {origin}");
        let lines = [&lines[..], &[&origin]].concat();
        server.rejected_page(&request("GET", target, &lines));
    }
    assert_eq!(server.total("handshakes_refused"), before + 2);
    assert_eq!(server.total("handshakes"), 0);
}

#[test]
fn request_without_an_upgrade_gets_426() {
    let server = TestServer::start(&["--echo"]);
    let mut browser = server.raw();
    for path in ["/ws", "/ws?room=a", "/echo"] {
        let response = browser.get(path);
        assert_eq!(response.status, 426, "{path}");
        assert_eq!(response.error_code(), "upgrade_required", "{path}");
        assert_eq!(response.header("Upgrade"), Some("websocket"), "{path}");
        assert_eq!(response.header("Connection"), Some("Upgrade"), "{path}");
        assert_eq!(
            response.header("Sec-WebSocket-Version"),
            Some("13"),
            "{path}"
        );
    }
}

#[test]
fn handshake_with_invalid_or_too_many_rooms_is_refused() {
    let server = TestServer::start(&["--max-rooms-per-connection=2"]);
    let long = format!("/ws?room={}", "x".repeat(65));
    for (target, code) in [
        ("/ws?room=", "invalid_room"),
        ("/ws?room", "invalid_room"),
        ("/ws?room=a%20b", "invalid_room"),
        ("/ws?room=a+b", "invalid_room"),
        ("/ws?room=a/b", "invalid_room"),
        ("/ws?room=%00", "invalid_room"),
        ("/ws?room=a&room=%3Cb%3E", "invalid_room"),
        (&long, "invalid_room"),
        ("/ws?room=a&room=b&room=c", "too_many_rooms"),
    ] {
        let response =
            server.refused_handshake(request("GET", target, &[UPGRADE, CONNECTION, VERSION, KEY]));
        assert_eq!(response.status, 400, "{target}");
        assert_eq!(response.error_code(), code, "{target}");
    }
    assert_eq!(
        server.stats()["rooms"],
        0,
        "a refused handshake leaves no room behind"
    );
    // The same room twice is one room.
    let client = server.client_at("/ws?room=a&room=b&room=a");
    let rooms = client.welcome()["rooms"].as_array().map(Vec::len);
    assert_eq!(rooms, Some(2));
}

#[test]
fn frames_that_follow_the_handshake_at_once_are_read() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    let mut bytes = request("GET", "/ws", &[UPGRADE, CONNECTION, VERSION, KEY]).into_bytes();
    bytes.extend(message_frame("early"));
    client.send(bytes);
    assert_eq!(client.response().status, 101);
    assert_eq!(client.next_json()["from"], "server");
    assert_eq!(client.next_json()["payload"], "early");
}

/// A browser behind a proxy that reuses connections fetches the page first.
#[test]
fn handshake_after_other_requests_on_its_connection_is_accepted() {
    let server = TestServer::start(&[]);
    let mut client = server.raw();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.get("/ws").status, 426);
    client.upgrade("/ws");
    assert_eq!(client.next_json()["from"], "server");
}

#[test]
fn echo_exists_only_with_its_setting() {
    let server = TestServer::start(&[]);
    let handshake = request("GET", "/echo", &[UPGRADE, CONNECTION, VERSION, KEY]);
    let mut client = server.raw();
    client.send(&handshake);
    let response = client.response();
    assert_eq!(
        (response.status, response.error_code().as_str()),
        (404, "not_found")
    );
}

#[test]
fn echo_returns_text_and_binary() {
    let server = TestServer::start(&["--echo"]);
    let mut client = server.client_without_welcome("/echo");
    for (opcode, payload) in [
        (TEXT, &b"hi"[..]),
        (TEXT, b""),
        (TEXT, "房间 𝄞 \u{0}".as_bytes()),
        (BINARY, &[0, 255, 1, 254]),
        (BINARY, b""),
        (BINARY, &[7; 65_536]),
    ] {
        client.send_frame(true, opcode, payload);
        let echo = client.frame().expect("an echo");
        assert_eq!((echo.opcode, &*echo.payload), (opcode, payload));
    }
    assert_eq!(
        server.connected_clients(),
        0,
        "an echo connection does not count as a client"
    );
}

fn with_key(key: &'static str) -> Vec<&'static str> {
    vec![UPGRADE, CONNECTION, VERSION, key]
}

fn with_body(lines: &[&str], framing: &str, body: &str) -> String {
    request("GET", "/ws", &[lines, &[framing]].concat()) + body
}
