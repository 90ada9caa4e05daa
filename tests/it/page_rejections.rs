//! A page learns why it cannot connect: its handshake succeeds, and a Close frame has a code and a reason.
//!
//! Programs that send no `Origin` get the same reason in a response, because they can read one.

use serde_json::json;

use crate::support::token::{SECRET, claims, signed};
use crate::support::{CLOSE, TestServer, handshake, handshake_with, message_frame};

const ORIGIN: &str = "Origin: https://a.example";

/// Asserts that an address is refused with this close code, and to programs with this status, by a reason that
/// contains each of `parts`.
fn assert_refused(server: &TestServer, target: &str, code: u16, status: u16, parts: &[&str]) {
    let (_, closed, reason) = server.rejected_page(&handshake_with(target, &[ORIGIN]));
    assert_eq!(closed, code, "{target}: {reason}");
    let response = server.refused_handshake(handshake(target));
    assert_eq!(response.status, status, "{target}: {}", response.text());
    let message = response.json()["error"]["message"].to_string();
    for part in parts {
        assert!(reason.contains(part), "{target}: {reason}");
        assert!(
            message.contains(&part.replace('"', "\\\"")),
            "{target}: {message}"
        );
    }
}

#[test]
fn wrong_value_is_named_with_its_parameter() {
    let server = TestServer::start(&["--max-rooms-per-connection=2"]);
    for (query, parts) in [
        ("room=", &["`room`", "empty"][..]),
        ("room=a%20b", &["`room`", "\"a b\"", "U+0020"]),
        ("room=ok&room=%3Cb%3E", &["`room`", "\"<b>\"", "U+003C"]),
        ("room=undefined/x", &["`room`", "\"undefined/x\"", "U+002F"]),
        ("since=undefined", &["`since`", "\"undefined\""]),
        ("since=NaN", &["`since`", "\"NaN\""]),
        ("since=null", &["`since`", "\"null\""]),
        ("since=-1", &["`since`", "\"-1\""]),
        ("since=", &["`since`", "\"\""]),
        ("room=a&since=1.5", &["`since`", "\"1.5\""]),
        (
            "room=a&since=99999999999999999999",
            &["`since`", "\"99999999999999999999\""],
        ),
        (
            "since=%5Bobject+Object%5D",
            &["`since`", "\"[object Object]\""],
        ),
        ("since=1&epoch=undefined", &["`epoch`", "\"undefined\""]),
        ("since=1&epoch=zz", &["`epoch`", "\"zz\""]),
        ("session=short", &["`session`", "5 bytes"]),
        ("session=", &["`session`", "0 bytes"]),
        ("room=a&room=b&room=c", &["at most 2 rooms"]),
    ] {
        assert_refused(&server, &format!("/ws?{query}"), 4000, 400, parts);
    }
    assert_eq!(
        server.stats()["rooms"],
        0,
        "a refused address creates no room"
    );
}

/// If such a parameter were ignored, the client would join the lobby or miss messages.
#[test]
fn unknown_parameter_is_named_with_a_suggestion() {
    let server = TestServer::start(&[]);
    for (query, parts) in [
        ("room[]=a", &["room[]", "write `room`"][..]),
        ("room%5B%5D=a&room%5B%5D=b", &["room[]", "write `room`"]),
        ("room[0]=a", &["room[0]", "write `room`"]),
        ("rooms=a", &["rooms", "write `room`"]),
        ("Room=a", &["Room", "write `room`"]),
        ("channel=a", &["channel", "write `room`"]),
        ("room=a&snice=3", &["snice", "write `since`"]),
        ("lastEventId=3", &["lastEventId", "write `since`"]),
        ("access_token=a.b.c", &["access_token", "write `token`"]),
        (
            "user=alice",
            &["user", "room, me, since, epoch, last, session, token"],
        ),
        ("lobby", &["lobby", "room, me, since"]),
        ("%3D=x", &["\"=\""]),
        ("room=a&roomId=b", &["roomId", "write `room`"]),
        ("room=a&room_name=b", &["room_name", "write `room`"]),
        ("room=a&sesion=x", &["sesion", "write `session`"]),
        ("room=a&presence=true", &["presence", "`join`"]),
        ("EIO=4&transport=websocket", &["EIO", "Socket.IO"]),
        ("transport=polling", &["transport", "Socket.IO"]),
        (
            "since=1&since=2",
            &["`since` is present more often than `room`"],
        ),
        (
            "room=a&since=1&epoch=&epoch=",
            &["`epoch` is present more often than `since`"],
        ),
        ("token=a&token=b", &["`token` is present more than once"]),
        (
            "session=0123456789abcdef&session=",
            &["`session` is present more than once"],
        ),
    ] {
        assert_refused(&server, &format!("/ws?{query}"), 4000, 400, parts);
    }
    let (_, _, reason) = server.rejected_page(&handshake_with("/ws?jwt=SECRET", &[ORIGIN]));
    assert!(!reason.contains("SECRET"), "{reason}");
}

/// Beside `room`, another parameter changes nothing, and gateways have parameters of their own.
#[test]
fn parameters_against_caches_of_trackers_and_of_gateways_are_ignored() {
    let server = TestServer::start(&[]);
    for query in [
        "room=lobby&apikey=x&user=alice",
        "room=lobby&version=2&role=x&nonce=1&section=a&season=1",
        "zoom=1&form=1&open=1&dom=1&showroom=1&foo=1&room=lobby",
        "api-version=1&room=lobby",
        "_=1700000000",
        "t=NaN",
        "v=2&utm_source=mail&fbclid=x",
        "room=lobby&cb=1&",
        "&",
    ] {
        let client = server.client_at(&format!("/ws?{query}"));
        client.welcome().room("lobby");
    }
}

#[test]
fn reason_is_short_has_whole_characters_and_names_the_mistake() {
    let server = TestServer::start(&[]);
    for (query, named) in [
        (format!("room={}", "x".repeat(5000)), "longer than 64"),
        (format!("room={}%20", "%E6%88%BF".repeat(63)), "U+0020"),
        (format!("{}=1", "%F0%9F%98%80".repeat(100)), "is unknown"),
        (
            format!("since={}", "9".repeat(9000)),
            "`since` must be a whole number",
        ),
        ("room=%0A%00%22".to_owned(), "U+000A"),
        ("room=%E0%A4%A6%E2%80%8D".to_owned(), "U+200D"),
    ] {
        let target = format!("/ws?{query}");
        let (_, code, reason) = server.rejected_page(&handshake_with(&target, &[ORIGIN]));
        assert_eq!(code, 4000, "{reason}");
        assert!(reason.len() <= 123, "{} bytes", reason.len());
        assert!(reason.contains(named), "{reason}");
    }
}

/// Programs get 400 before their parameters are checked, as for every request.
#[test]
fn address_that_is_not_utf_8_is_named() {
    let server = TestServer::start(&[]);
    for target in ["/ws?room=caf%E9", "/ws?%FF=1", "/ws?room=%ED%A0%80"] {
        let (_, code, reason) = server.rejected_page(&handshake_with(target, &[ORIGIN]));
        assert_eq!(code, 4000, "{target}");
        assert!(reason.contains("UTF-8"), "{reason}");
        let response = server.refused_handshake(handshake(target));
        assert_eq!(response.status, 400, "{target}");
        let get = server.raw().request("GET", target, &[ORIGIN]);
        assert_eq!(get.status, 400, "{target}");
    }
}

#[test]
fn page_at_a_path_without_a_websocket_receives_the_right_path() {
    let server = TestServer::start(&[]);
    for (target, named) in [
        ("/", "/;"),
        ("/chat", "/chat;"),
        ("/socket.io/?EIO=4&transport=websocket", "/socket.io/;"),
        ("/wss?room=a", "/wss;"),
        ("/rooms/a/events", "/rooms/a/events;"),
        ("/echo", "/echo;"),
        ("/health", "/health;"),
        ("/caf%E9", "/caf"),
    ] {
        let (_, code, reason) = server.rejected_page(&handshake_with(target, &[ORIGIN]));
        assert_eq!(code, 4004, "{target}: {reason}");
        assert!(
            reason.contains(named) && reason.contains("it is at /ws"),
            "{reason}"
        );
    }
    // Programs read the status.
    let mut program = server.raw();
    program.send(handshake("/chat"));
    assert_eq!(program.response().status, 404);
    assert_eq!(server.raw().request("GET", "/", &[ORIGIN]).status, 200);
}

#[test]
fn refusal_of_a_token_or_a_room_gives_its_reason() {
    let server = TestServer::with_tokens(&["--max-rooms=1", "--max-members-per-room=1"]);
    let token = |changes| signed(SECRET, &claims(changes));
    let rights = json!({"subscribe": ["ops", "b"]});
    let good = token(rights.clone());
    let (expired, other) = (token(json!({"exp": 1000})), token(json!({"aud": "other"})));
    for (token, named) in [
        (expired, "expired"),
        (other, "aud"),
        ("x.y.z".to_owned(), ""),
    ] {
        let target = format!("/ws?room=ops&token={token}");
        let (_, code, reason) = server.rejected_page(&handshake_with(&target, &[ORIGIN]));
        assert_eq!(code, 4001, "{reason}");
        assert!(
            reason.contains(named) && !reason.contains(&token),
            "{reason}"
        );
    }
    let target = format!("/ws?room=secret&token={good}");
    let (_, code, reason) = server.rejected_page(&handshake_with(&target, &[ORIGIN]));
    assert_eq!((code, reason.as_str()), (4003, "you may not read secret"));

    let target = |room: &str| format!("/ws?room={room}&token={good}");
    let _first = server.client_at(&target("ops"));
    // Temporary refusals: a room has no seat, and the server has no space for another room.
    for (room, code) in [("ops", 4103), ("b", 4104)] {
        let (_, closed, reason) = server.rejected_page(&handshake_with(&target(room), &[ORIGIN]));
        assert_eq!(closed, code, "{room}: {reason}");
        assert!(!reason.is_empty());
        assert_eq!(
            server.refused_handshake(handshake(&target(room))).status,
            503
        );
    }
}

/// A proxy that removes headers is not the page's mistake, and the handshake cannot succeed without them.
#[test]
fn wrong_header_of_a_page_is_refused_by_status() {
    let server = TestServer::start(&[]);
    let good = handshake_with("/ws?room=a%20b", &[ORIGIN]);
    for (removed, status) in [
        ("Connection: Upgrade\r\n", 400),
        ("Sec-WebSocket-Version: 13\r\n", 426),
    ] {
        let response = server.refused_handshake(good.replace(removed, ""));
        assert_eq!(response.status, status, "{removed}");
    }
    let without_upgrade = good.replace("Upgrade: websocket\r\n", "");
    assert_eq!(server.refused_handshake(without_upgrade).status, 400);
}

#[test]
fn program_that_asks_for_it_is_refused_by_a_close_code() {
    let server = TestServer::with_tokens(&[]);
    let token = signed(SECRET, &claims(json!({})));
    for (target, code) in [
        ("/ws?token=abc", 4001),
        (&*format!("/ws?room=news&token={token}"), 4003),
        ("/ws?room=%20", 4000),
    ] {
        let asking = format!("{target}&refusal=close");
        let (_, closed, reason) = server.rejected_page(&handshake(&asking));
        assert_eq!(closed, code, "{target}: {reason}");
        let response = server.refused_handshake(handshake(target));
        assert!((400..500).contains(&response.status), "{target}");
    }
    let wrong = server.refused_handshake(handshake("/ws?room=ops&refusal=status"));
    assert_eq!(wrong.status, 400);
}

/// With two origins, or an empty one, the client is no browser.
#[test]
fn client_with_two_origins_gets_a_status() {
    let server = TestServer::start(&[]);
    for lines in [&[ORIGIN, ORIGIN][..], &["Origin:"]] {
        let response = server.refused_handshake(handshake_with("/ws?room=%20", lines));
        assert_eq!(response.status, 400, "{lines:?}");
    }
}

#[test]
fn rejected_page_joins_no_room_and_may_keep_sending() {
    let server = TestServer::start(&["--allow-origin=https://b.example"]);
    let mut page = server.raw();
    let mut bytes = handshake_with("/ws?room=ops", &[ORIGIN]).into_bytes();
    bytes.extend(message_frame("early"));
    page.send(bytes);
    assert_eq!(page.response().status, 101);
    let frame = page.frame().expect("a Close frame");
    assert_eq!((frame.opcode, frame.close_code()), (CLOSE, 4003));
    page.send_frame(true, CLOSE, &4003u16.to_be_bytes());
    page.assert_closed();
    assert_eq!(
        (server.stats()["rooms"].as_u64(), server.connected_clients()),
        (Some(0), 0)
    );
    // Requests that are no WebSocket handshake still get an HTTP status.
    let get = server.raw().get("/ws");
    assert_eq!(get.status, 426);
    let post = server.raw().request(
        "POST",
        "/chat",
        &[ORIGIN, "Upgrade: websocket", "Content-Length: 0"],
    );
    assert_eq!(post.status, 404);
}
