//! Who may do what, by their tokens: every route and every message against every kind of token.

use ring::hmac;
use serde_json::{Value, json};

use crate::support::token::{OTHER_SECRET, SECRET, claims, hs256, now, signed, token};
use crate::support::{TestClient, TestServer, handshake, request};

/// A server with a secret, and an audience to be wrong about.
pub fn server(args: &[&str]) -> TestServer {
    let mut command = TestServer::command(&[&["--audience", "wscast"], args].concat());
    command.env("SECRET_KEY", SECRET);
    TestServer::start_command(command)
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It grants nothing.
    Nobody,
    /// It is good, but for another room.
    RemoteMembers,
    /// It may read and write `ops`.
    Member,
    /// It may also see and close clients.
    Admin,
}
use Standing::{Admin, Member, Nobody, RemoteMembers};

/// Every kind of token that a server with a secret may be sent.
fn tokens() -> Vec<(&'static str, Option<String>, Standing)> {
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
        ("nothing", String::new()),
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
        ("a user of another type", with(json!({"sub": 7}))),
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
            RemoteMembers,
        ),
        (
            "no rooms",
            Some(with(json!({"subscribe": null, "publish": []}))),
            RemoteMembers,
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

/// What each route answers to each standing: nobody, elsewhere, member, admin.
const ROUTES: [(&str, &str, [u16; 4]); 19] = [
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
    ("GET", "/clients", [401, 403, 403, 200]),
    ("DELETE", "/clients/c00000000-1", [401, 403, 403, 404]),
    ("DELETE", "/users/nobody/clients", [401, 403, 403, 200]),
    ("GET", "/ws", [426, 426, 426, 426]),
];

#[test]
fn every_route_against_every_token() {
    let server = server(&[]);
    let mut seed = server.client_at(&format!(
        "/ws?room=ops&token={}",
        signed(SECRET, &claims(json!({})))
    ));
    seed.say("so that the room is there");
    seed.expect("so that the room is there");
    for (name, token, standing) in tokens() {
        for (method, target, statuses) in ROUTES {
            let expected = statuses[standing as usize];
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

/// The token in the query or in a header; `None` where that cannot be.
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

#[test]
fn every_handshake_against_every_token() {
    let server = server(&[]);
    for (name, token, standing) in tokens() {
        let Some(token) = token else { continue };
        let target = format!("/ws?room=ops&token={token}");
        let expected = match standing {
            Nobody => 401,
            RemoteMembers => 403,
            Member | Admin => 101,
        };
        let mut raw = server.raw();
        raw.send(handshake(&target));
        assert_eq!(raw.response().status, expected, "{name}");

        // A page cannot read the status of a refused handshake, but it can read a Close frame.
        let page = handshake(&target).replace("\r\n\r\n", "\r\nOrigin: https://a.example\r\n\r\n");
        let mut raw = server.raw();
        raw.send(page);
        assert_eq!(raw.response().status, 101, "{name}");
        match standing {
            Nobody => assert_eq!(raw.close_code(), 4001, "{name}"),
            RemoteMembers => assert_eq!(raw.close_code(), 4003, "{name}"),
            Member | Admin => assert_eq!(raw.frame().expect("welcome").opcode, 1, "{name}"),
        }

        let mut client = TestClient::connect_unwelcomed(server.address(), "/ws?room=ops");
        client.send(json!({"type": "auth", "token": token, "id": "a"}));
        let answer = client.next();
        assert_eq!(answer["id"], "a", "{name}");
        match standing {
            Nobody => {
                assert_eq!(
                    answer["payload"]["code"], "unauthorized",
                    "{name}: {answer}"
                );
                assert_eq!(client.close_code(), 4001, "{name}");
            }
            RemoteMembers => {
                assert_eq!(answer["payload"]["code"], "forbidden", "{name}: {answer}");
                assert_eq!(client.close_code(), 4003, "{name}");
            }
            Member | Admin => {
                assert_eq!(answer["type"], "authenticated", "{name}: {answer}");
                assert_eq!(client.next()["from"], "server", "{name}: then the welcome");
            }
        }
    }
}

/// Every message, sent by one who has yet to say who it is, by members with some of the rights, and
/// by one who has them all.
#[test]
fn every_message_against_every_standing() {
    let server = server(&[]);
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
    let mut asked = 0;
    let mut answer = |client: &mut TestClient, message: &Value| {
        asked += 1;
        let (mut message, id) = (message.clone(), asked.to_string());
        message["id"] = json!(id);
        client.send(message);
        loop {
            let frame = client.next();
            if frame["id"] == id && frame["type"] != "ack" {
                let code = frame["payload"]["code"].as_str();
                let kind = frame["type"].as_str().expect("type");
                return code.unwrap_or(kind).to_owned();
            }
        }
    };
    let mut unknown = TestClient::connect_unwelcomed(server.address(), "/ws?room=ops");
    for (message, kind) in &messages {
        let expected = if *kind == "pong" {
            "pong"
        } else {
            "unauthorized"
        };
        assert_eq!(
            answer(&mut unknown, message),
            expected,
            "unknown: {message}"
        );
    }
    let enter = |changes: Value, room: &str| {
        let token = signed(SECRET, &claims(changes));
        server.client_at(&format!("/ws?room={room}&token={token}"))
    };
    let mut reader = enter(json!({"publish": null}), "ops");
    for (message, kind) in &messages {
        let publishes = ["message", "custom_event"].contains(kind);
        let expected = if publishes { "forbidden" } else { *kind };
        assert_eq!(answer(&mut reader, message), expected, "reader: {message}");
    }
    let mut stranger = enter(json!({"subscribe": "other", "publish": "*"}), "other");
    for (message, kind) in &messages {
        let expected = match *kind {
            "pong" => "pong",
            "joined" => "forbidden",
            _ => "not_in_room",
        };
        assert_eq!(
            answer(&mut stranger, message),
            expected,
            "stranger: {message}"
        );
    }
    let mut member = enter(json!({}), "ops");
    for (message, kind) in &messages {
        assert_eq!(answer(&mut member, message), *kind, "member: {message}");
    }
}

#[test]
fn without_a_key_everyone_may_do_everything_but_close_others() {
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
fn those_without_a_token_have_the_rights_that_were_granted() {
    for (rights, may_publish) in [("subscribe", false), ("both", true)] {
        let server = server(&["--anonymous", rights]);
        let mut client = server.client();
        client.say("hello");
        match may_publish {
            true => drop(client.expect("hello")),
            false => assert_eq!(client.expect_error(), "forbidden"),
        }
        assert_eq!(server.raw().get("/stats").status, 200);
        assert_eq!(server.raw().get("/clients").status, 403);
        let bad = server.raw().get("/stats?token=garbage");
        assert_eq!(bad.status, 401, "a bad token is worse than none");
    }
}

#[test]
fn strangers_learn_of_health_its_status_only() {
    let server = server(&[]);
    let health = server.raw().get("/health").json();
    assert_eq!(health, json!({"status": "healthy"}));
    let token = signed(SECRET, &claims(json!({})));
    let health = server.raw().get(&format!("/health?token={token}")).json();
    assert!(health["version"].is_string(), "{health}");
}

#[test]
fn a_user_is_who_messages_are_from_and_whose_ids_are_compared() {
    let server = server(&[]);
    let name = "O\"Brien \\ 房间";
    let token = signed(SECRET, &claims(json!({"sub": name})));
    let target = format!("/ws?room=ops&token={token}");
    let mut phone = server.client_at(&target);
    let mut laptop = server.client_at(&target);
    phone.send(json!({"type": "message", "payload": "once", "id": "7"}));
    assert_eq!(laptop.expect("once")["from"], name);
    laptop.send(json!({"type": "message", "payload": "again", "id": "7"}));
    let ack = laptop.next_of("ack");
    assert_eq!(ack["payload"]["offset"], 1, "the same user's id: {ack}");
    laptop.expect_nothing();
    let token = signed(SECRET, &claims(json!({"sub": "another"})));
    let mut other = server.client_at(&format!("/ws?room=ops&token={token}"));
    other.send(json!({"type": "message", "payload": "mine", "id": "7"}));
    assert_eq!(laptop.expect("mine")["offset"], 2);
}
