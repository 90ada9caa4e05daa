//! Subprotocols: a client that offers some gets one of them, and may offer its token as one.

use serde_json::json;

use crate::support::token::{SECRET, claims, signed};
use crate::support::{TestServer, handshake_with};

#[test]
fn one_of_the_offers_is_chosen() {
    let server = TestServer::start(&["--echo"]);
    for (lines, chosen) in [
        (&["Sec-WebSocket-Protocol: wscast"][..], Some("wscast")),
        (&["Sec-WebSocket-Protocol: chat, wscast"], Some("wscast")),
        (
            &[
                "Sec-WebSocket-Protocol: chat",
                "Sec-WebSocket-Protocol: wscast",
            ],
            Some("wscast"),
        ),
        (&["Sec-WebSocket-Protocol: chat, superchat"], Some("chat")),
        (&["Sec-WebSocket-Protocol: null"], Some("null")),
        (&["Sec-WebSocket-Protocol: json"], Some("json")),
        (&["Sec-WebSocket-Protocol: arduino"], Some("arduino")),
        (&["Sec-WebSocket-Protocol: WSCAST"], Some("WSCAST")),
        (&["sec-websocket-protocol: ,, a ,b,"], Some("a")),
        (
            &["Sec-WebSocket-Protocol:", "Sec-WebSocket-Protocol: v1.0+x~"],
            Some("v1.0+x~"),
        ),
        (
            &["Sec-WebSocket-Protocol: wscast.token.x, wscast"],
            Some("wscast"),
        ),
        (
            &["Sec-WebSocket-Protocol: eyJhbGciOiJIUzI1NiJ9.e30.c2ln, Bearer"],
            Some("Bearer"),
        ),
        (
            &["Sec-WebSocket-Protocol: wscast.token.x, json"],
            Some("json"),
        ),
        (&["Sec-WebSocket-Protocol:"], None),
        (&["Sec-WebSocket-Protocol: , ,"], None),
        (&[], None),
    ] {
        for target in ["/ws", "/echo"] {
            let mut client = server.raw();
            client.send(handshake_with(target, lines));
            let response = client.response();
            assert_eq!(response.status, 101, "{lines:?}: {}", response.text());
            let lines_of_response = response.header_lines("Sec-WebSocket-Protocol");
            assert_eq!(lines_of_response, Vec::from_iter(chosen), "{lines:?}");
        }
    }
}

/// A browser would drop the connection before it reads the Close frame.
#[test]
fn rejected_page_gets_the_subprotocol_that_it_offers() {
    let server = TestServer::start(&["--allow-origin=https://b.example"]);
    for (target, origin, code) in [
        ("/ws?since=NaN", "Origin: https://b.example", 4000),
        ("/ws", "Origin: https://a.example", 4003),
        ("/chat", "Origin: https://b.example", 4004),
    ] {
        let handshake = handshake_with(target, &[origin, "Sec-WebSocket-Protocol: json"]);
        let (response, closed, _) = server.rejected_page(&handshake);
        assert_eq!(response.header("Sec-WebSocket-Protocol"), Some("json"));
        assert_eq!(closed, code, "{target}");
    }
}

#[test]
fn offer_that_cannot_be_chosen_is_refused_with_the_reason() {
    let server = TestServer::start(&[]);
    for (offer, named) in [
        ("wscast.token.abc", "`wscast` beside"),
        ("wscast.token.abc, wscast.token.def", "`wscast` beside"),
        ("wscast.token.", "`wscast` beside"),
        ("eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "`wscast` beside"),
        ("Bearer abc", "names without spaces"),
        ("{\"token\":1}", "names without spaces"),
        ("ключ", "names without spaces"),
        ("a/b", "names without spaces"),
    ] {
        let line = format!("Sec-WebSocket-Protocol: {offer}");
        let response = server.refused_handshake(handshake_with("/ws", &[&line]));
        assert_eq!(response.status, 400, "{offer}");
        assert_eq!(response.error_code(), "bad_handshake", "{offer}");
        let why = response.json()["error"]["message"].to_string();
        assert!(
            why.contains("Sec-WebSocket-Protocol") && why.contains(named),
            "{why}"
        );
    }
}

#[test]
fn token_is_offered_as_a_subprotocol_and_never_repeated() {
    let server = TestServer::with_tokens(&["--log-level=trace"]);
    let token = signed(SECRET, &claims(json!({})));
    let bad = signed("another secret of enough bytes !", &claims(json!({})));
    for offers in [
        format!("Sec-WebSocket-Protocol: wscast, wscast.token.{token}"),
        format!("Sec-WebSocket-Protocol: wscast.token.{token}, wscast"),
        format!("Sec-WebSocket-Protocol: wscast.token., wscast.token.{token},json"),
    ] {
        let mut client = server.raw();
        client.send(handshake_with("/ws?room=ops", &[&offers]));
        let response = client.response();
        assert_eq!(response.status, 101, "{offers}: {}", response.text());
        assert!(!response.head.contains(&token), "{}", response.head);
        let welcome = client.next_json();
        assert_eq!(welcome["rooms"][0]["room"], "ops", "the token grants it");
    }
    let offers = |token: &str| format!("Sec-WebSocket-Protocol: wscast, wscast.token.{token}");
    let refused = server.refused_handshake(handshake_with("/ws?room=ops", &[&offers(&bad)]));
    assert_eq!(refused.status, 401);
    let page = handshake_with(
        "/ws?room=ops",
        &["Origin: https://a.example", &offers(&bad)],
    );
    let (response, code, reason) = server.rejected_page(&page);
    assert_eq!(
        (code, response.header("Sec-WebSocket-Protocol")),
        (4001, Some("wscast"))
    );
    assert!(!reason.contains(&bad), "{reason}");
    // The token in the header wins over another, and the token in the address comes last.
    let bearer = format!("Authorization: Bearer {token}");
    for (target, lines, status) in [
        ("/ws?room=ops".to_owned(), vec![offers(&bad), bearer], 101),
        (
            format!("/ws?room=ops&token={bad}"),
            vec![offers(&token)],
            101,
        ),
        (
            format!("/ws?room=ops&token={token}"),
            vec![offers(&bad)],
            401,
        ),
        // An empty token is none.
        (format!("/ws?room=ops&token={token}"), vec![offers("")], 101),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut client = server.raw();
        client.send(handshake_with(&target, &lines));
        assert_eq!(client.response().status, status, "{lines:?}");
    }
    let log = server.log();
    assert!(!log.contains(&token) && !log.contains(&bad), "{log}");
}
