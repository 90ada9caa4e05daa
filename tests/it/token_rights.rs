//! The rights of tokens: every route and every message against every kind of token.

use ring::hmac;
use serde_json::{Value, json};

use crate::support::token::{OTHER_SECRET, SECRET, claims, hs256, now, signed, token};
use crate::support::{TestClient, TestServer, handshake, handshake_with, request};

/// The rights that a token grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    /// None: the token is missing or invalid.
    Nobody,
    /// The token is valid, but for another room.
    OtherRoom,
    /// Read and write `ops`.
    Member,
    /// List and close clients, too.
    Admin,
}
use Rights::{Admin, Member, Nobody, OtherRoom};

/// Every kind of token, by name.
fn tokens() -> Vec<(&'static str, Option<String>, Rights)> {
    let with = |changes: Value| signed(SECRET, &claims(changes));
    let good = with(json!({}));
    let (head, rest) = good.split_once('.').expect("a token");
    let (body, signature) = rest.split_once('.').expect("a token");
    let algorithm = |alg: &str, sign: &dyn Fn(&[u8]) -> Vec<u8>| {
        token(json!({"alg": alg}), &claims(json!({})), sign)
    };
    let hs512 = |message: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA512, SECRET.as_bytes());
        hmac::sign(&key, message).as_ref().to_vec()
    };
    let refused = [
        ("another key", signed(OTHER_SECRET, &claims(json!({})))),
        ("an empty key", signed("", &claims(json!({})))),
        ("alg none, unsigned", algorithm("none", &|_| Vec::new())),
        (
            "alg None, signed",
            algorithm("None", &|m| hs256(SECRET.as_bytes(), m)),
        ),
        ("another HMAC", algorithm("HS512", &hs512)),
        (
            "HS256 called RS256",
            algorithm("RS256", &|m| hs256(SECRET.as_bytes(), m)),
        ),
        (
            "HS256 called EdDSA",
            algorithm("EdDSA", &|m| hs256(SECRET.as_bytes(), m)),
        ),
        (
            "what must be understood",
            token(
                json!({"alg": "HS256", "crit": ["b64"], "b64": false}),
                &claims(json!({})),
                |m| hs256(SECRET.as_bytes(), m),
            ),
        ),
        ("no signature", format!("{head}.{body}.")),
        (
            "half a signature",
            format!("{head}.{body}.{}", &signature[..20]),
        ),
        ("no such encoding", format!("{head}.{body}.{signature}=")),
        ("two parts", format!("{head}.{body}")),
        ("four parts", format!("{good}.{signature}")),
        ("garbage", "..".to_owned()),
        ("very long", "x".repeat(9000)),
        ("expired", with(json!({"exp": now() - 1}))),
        ("no exp", with(json!({"exp": null}))),
        ("exp as text", with(json!({"exp": "tomorrow"}))),
        ("exp before all time", with(json!({"exp": -1}))),
        ("not yet valid", with(json!({"nbf": now() + 120}))),
        ("issued in the future", with(json!({"iat": now() + 120}))),
        ("no audience", with(json!({"aud": null}))),
        ("another audience", with(json!({"aud": ["other", "wscas"]}))),
        ("a nameless user", with(json!({"sub": ""}))),
        ("a user with a line break", with(json!({"sub": "a\r\nb"}))),
        ("a user of another type", with(json!({"sub": [7]}))),
        ("a room that is none", with(json!({"subscribe": ["a b"]}))),
        (
            "rooms of another type",
            with(json!({"subscribe": {"ops": true}})),
        ),
        ("admin of another type", with(json!({"admin": "yes"}))),
    ];
    let mut all = vec![("no token", None, Nobody)];
    all.extend(refused.map(|(name, token)| (name, Some(token), Nobody)));
    all.extend([
        (
            "another room",
            Some(with(json!({"subscribe": ["other"], "publish": ["other"]}))),
            OtherRoom,
        ),
        (
            "no rooms",
            Some(with(json!({"subscribe": null, "publish": []}))),
            OtherRoom,
        ),
        ("right", Some(good.clone()), Member),
        (
            "right, all rooms",
            Some(with(json!({"subscribe": "*", "publish": "*"}))),
            Member,
        ),
        (
            "right, by prefix",
            Some(with(json!({"subscribe": ["o*"], "publish": ["op*"]}))),
            Member,
        ),
        (
            "right, a little early",
            Some(with(json!({"nbf": now() + 30, "iat": now() + 30}))),
            Member,
        ),
        (
            "right, dates with fractions",
            Some(with(json!({"exp": now() as f64 + 99.5}))),
            Member,
        ),
        (
            "right, audience in a list",
            Some(with(json!({"aud": ["x", "wscast"]}))),
            Member,
        ),
        (
            "right, unknown claims",
            Some(with(json!({"roles": ["x"], "jti": 7}))),
            Member,
        ),
        (
            "right, a name to escape",
            Some(with(json!({"sub": "\"a\\b\" 房"}))),
            Member,
        ),
        ("admin", Some(with(json!({"admin": true}))), Admin),
    ]);
    all
}

/// The status of each route for each kind of token: none, other room, member, administrator.
const ROUTES: [(&str, &str, [u16; 4]); 23] = [
    ("GET", "/", [200, 200, 200, 200]),
    ("GET", "/assets/page/page.js", [200, 200, 200, 200]),
    ("GET", "/health", [200, 200, 200, 200]),
    ("HEAD", "/health", [200, 200, 200, 200]),
    ("GET", "/nothing", [404, 404, 404, 404]),
    ("OPTIONS", "/stats", [204, 204, 204, 204]),
    ("GET", "/stats", [401, 200, 200, 200]),
    ("HEAD", "/stats", [401, 200, 200, 200]),
    ("GET", "/metrics", [401, 200, 200, 200]),
    ("GET", "/rooms", [401, 200, 200, 200]),
    ("GET", "/rooms/ops", [401, 403, 200, 200]),
    ("GET", "/rooms/ops/messages", [401, 403, 200, 200]),
    ("POST", "/rooms/ops/messages", [401, 403, 201, 201]),
    ("GET", "/rooms/ops/events", [401, 403, 200, 200]),
    ("HEAD", "/rooms/ops/events", [401, 403, 200, 200]),
    ("POST", "/messages", [401, 200, 200, 200]),
    ("DELETE", "/rooms/none/messages", [401, 403, 403, 404]),
    ("DELETE", "/rooms/none/messages/1", [401, 403, 403, 404]),
    ("GET", "/clients", [401, 403, 403, 200]),
    ("DELETE", "/clients/c00000000-1", [401, 403, 403, 404]),
    ("DELETE", "/users/nobody/clients", [401, 403, 403, 200]),
    ("POST", "/users/nobody/revoke", [401, 403, 403, 200]),
    ("GET", "/ws", [426, 426, 426, 426]),
];

#[test]
fn every_route_checks_every_kind_of_token() {
    let server = TestServer::with_tokens(&[]);
    let mut member = server.client_at(&format!(
        "/ws?room=ops&token={}",
        signed(SECRET, &claims(json!({})))
    ));
    member.say("creates the room");
    member.expect("creates the room");
    for (name, token, rights) in tokens() {
        for (method, target, statuses) in ROUTES {
            let expected = statuses[rights as usize];
            for in_query in [false, true] {
                let Some((target, headers)) = carry(target, token.as_deref(), in_query) else {
                    continue;
                };
                let body = r#"{"type":"message","payload":1}"#;
                let mut headers: Vec<&str> = headers.iter().map(String::as_str).collect();
                let length = format!("Content-Length: {}", body.len());
                if method == "POST" {
                    headers.extend(["Content-Type: application/json", &length]);
                }
                let mut raw = server.raw();
                raw.send(request(method, &target, &headers));
                if method == "POST" {
                    raw.send(body);
                }
                let response = raw.response_to(if target.contains("/events") {
                    "HEAD"
                } else {
                    method
                });
                let what = format!("{name}: {method} {target} (in the query: {in_query})");
                assert_eq!(response.status, expected, "{what}");
                let challenge = response.header("WWW-Authenticate");
                assert_eq!(challenge.is_some(), expected == 401, "{what}");
            }
        }
    }
}

/// Puts the token in the query or in a header; `None` if there is no token to put in the query.
fn carry(target: &str, token: Option<&str>, in_query: bool) -> Option<(String, Vec<String>)> {
    match (token, in_query) {
        (None, true) => None,
        (None, false) => Some((target.to_owned(), Vec::new())),
        (Some(token), true) => Some((format!("{target}?token={token}"), Vec::new())),
        (Some(token), false) => Some((
            target.to_owned(),
            vec![format!("Authorization: Bearer {token}")],
        )),
    }
}

// Each token is sent with a program's handshake, with a page's handshake, and in a first message.
// The status, close code or error must match the token's rights.
#[test]
fn every_handshake_checks_every_kind_of_token() {
    let server = TestServer::with_tokens(&[]);
    for (name, token, rights) in tokens() {
        let Some(token) = token else { continue };
        let target = format!("/ws?room=ops&token={token}");
        let expected = match rights {
            Nobody => 401,
            OtherRoom => 403,
            Member | Admin => 101,
        };
        let mut raw = server.raw();
        raw.send(handshake(&target));
        assert_eq!(raw.response().status, expected, "{name}");

        // A page cannot read the status of a refused handshake, but it can read a Close frame.
        let page = handshake_with(&target, &["Origin: https://a.example"]);
        let mut raw = server.raw();
        raw.send(page);
        assert_eq!(raw.response().status, 101, "{name}");
        match rights {
            Nobody => assert_eq!(raw.close_code(), 4001, "{name}"),
            OtherRoom => assert_eq!(raw.close_code(), 4003, "{name}"),
            Member | Admin => assert_eq!(raw.frame().expect("welcome").opcode, 1, "{name}"),
        }

        let mut client = server.client_without_welcome("/ws?room=ops");
        client.send_json(json!({"type": "auth", "token": token, "id": "a"}));
        let reply = client.next();
        assert_eq!(reply["id"], "a", "{name}");
        match rights {
            Nobody => {
                assert_eq!(reply["payload"]["code"], "unauthorized", "{name}: {reply}");
                assert_eq!(client.close_code(), 4001, "{name}");
            }
            OtherRoom => {
                assert_eq!(reply["payload"]["code"], "forbidden", "{name}: {reply}");
                assert_eq!(client.close_code(), 4003, "{name}");
            }
            Member | Admin => {
                assert_eq!(reply["type"], "authenticated", "{name}: {reply}");
                assert_eq!(client.next()["from"], "server", "{name}: then the welcome");
            }
        }
    }
}

// Actors: a client without its token, a reader, a client of another room, and a full member.
// Each sends every type of message and gets the reply or the error code that its rights demand.
#[test]
fn every_message_checks_the_rights_of_its_client() {
    let server = TestServer::with_tokens(&[]);
    let messages = [
        (
            json!({"type": "message", "room": "ops", "payload": 1}),
            "message",
        ),
        (
            json!({"type": "custom_event", "room": "ops", "payload": 1}),
            "custom_event",
        ),
        (json!({"type": "history", "room": "ops"}), "history"),
        (json!({"type": "presence", "room": "ops"}), "presence"),
        (json!({"type": "join", "room": "ops"}), "joined"),
        (json!({"type": "leave", "room": "ops"}), "left"),
        (json!({"type": "ping"}), "pong"),
    ];
    let mut sent = 0;
    let mut reply = |client: &mut TestClient, message: &Value| {
        sent += 1;
        let (mut message, id) = (message.clone(), sent.to_string());
        message["id"] = json!(id);
        client.send_json(message);
        loop {
            let frame = client.next();
            if frame["id"] == id && frame["type"] != "ack" {
                let code = frame["payload"]["code"].as_str();
                let kind = frame["type"].as_str().expect("type");
                return code.unwrap_or(kind).to_owned();
            }
        }
    };
    let mut unknown = server.client_without_welcome("/ws?room=ops");
    for (message, kind) in &messages {
        let expected = if *kind == "pong" {
            "pong"
        } else {
            "unauthorized"
        };
        assert_eq!(reply(&mut unknown, message), expected, "unknown: {message}");
    }
    let enter = |changes: Value, room: &str| {
        let token = signed(SECRET, &claims(changes));
        server.client_at(&format!("/ws?room={room}&token={token}"))
    };
    let mut reader = enter(json!({"publish": null}), "ops");
    for (message, kind) in &messages {
        let publishes = ["message", "custom_event"].contains(kind);
        let expected = if publishes { "forbidden" } else { *kind };
        assert_eq!(reply(&mut reader, message), expected, "reader: {message}");
    }
    let mut stranger = enter(json!({"subscribe": "other", "publish": "*"}), "other");
    for (message, kind) in &messages {
        let expected = match *kind {
            "pong" => "pong",
            "joined" => "forbidden",
            _ => "not_in_room",
        };
        assert_eq!(
            reply(&mut stranger, message),
            expected,
            "stranger: {message}"
        );
    }
    let mut member = enter(json!({}), "ops");
    for (message, kind) in &messages {
        assert_eq!(reply(&mut member, message), *kind, "member: {message}");
    }
}

#[test]
fn server_without_a_key_lets_everyone_do_everything_but_close_clients() {
    let server = TestServer::start(&[]);
    for (method, target, statuses) in ROUTES {
        if method == "POST" || target.contains("events") || target == "/rooms/ops/messages" {
            continue;
        }
        for token in [None, Some("garbage")] {
            let (target, headers) = carry(target, token, false).expect("a header");
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            let response = server.raw().request(method, &target, &headers);
            let expected = match target.as_str() {
                "/rooms/ops" => 404,
                _ => statuses[Member as usize],
            };
            assert_eq!(response.status, expected, "{method} {target} {token:?}");
        }
    }
    let mut client = server.client_at("/ws?token=garbage");
    client.say("hello");
    client.expect("hello");
}

#[test]
fn anonymous_clients_have_the_configured_rights() {
    for (rights, may_publish) in [("subscribe", false), ("both", true)] {
        let server = TestServer::with_tokens(&["--anonymous", rights]);
        let mut client = server.client();
        client.say("hello");
        match may_publish {
            true => drop(client.expect("hello")),
            false => assert_eq!(client.expect_error(), "forbidden"),
        }
        assert_eq!(server.raw().get("/stats").status, 200);
        assert_eq!(server.raw().get("/clients").status, 403);
        let bad = server.raw().get("/stats?token=garbage");
        assert_eq!(bad.status, 401, "an invalid token is refused, none is not");
    }
}

#[test]
fn health_shows_only_its_status_without_a_token() {
    let server = TestServer::with_tokens(&[]);
    let health = server.raw().get("/health").json();
    assert_eq!(health, json!({"status": "healthy"}));
    let token = signed(SECRET, &claims(json!({})));
    let health = server.raw().get(&format!("/health?token={token}")).json();
    assert!(health["version"].is_string(), "{health}");
}

#[test]
fn user_name_is_the_author_and_the_scope_of_ids() {
    let server = TestServer::with_tokens(&[]);
    let name = "O\"Brien \\ 房间";
    let token = signed(SECRET, &claims(json!({"sub": name})));
    let target = format!("/ws?room=ops&token={token}");
    let mut phone = server.client_at(&target);
    let mut laptop = server.client_at(&target);
    phone.send_json(json!({"type": "message", "payload": "once", "id": "7"}));
    assert_eq!(laptop.expect("once")["from"], name);
    laptop.send_json(json!({"type": "message", "payload": "again", "id": "7"}));
    let ack = laptop.next_of("ack");
    assert_eq!(ack["payload"]["offset"], 1, "the same user's id: {ack}");
    laptop.expect_nothing();
    let token = signed(SECRET, &claims(json!({"sub": "another"})));
    let mut other = server.client_at(&format!("/ws?room=ops&token={token}"));
    other.send_json(json!({"type": "message", "payload": "mine", "id": "7"}));
    assert_eq!(laptop.expect("mine")["offset"], 2);
}
