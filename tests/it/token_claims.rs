//! Tokens as other programs write them: empty ones, claims of other types, and algorithms that the key is not for.

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use serde_json::{Value, json};

use crate::support::token::{OTHER_SECRET, SECRET, claims, hs256, now, signed, token};
use crate::support::{Response, TestServer};

/// Claims of Alice with these changes; `null` stays.
fn with(changes: Value) -> Value {
    let mut claims = claims(json!({}));
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims
}

/// A token whose claims are this text.
fn signed_text(claims: &str) -> String {
    let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let message = format!("{}.{}", part("{\"alg\":\"HS256\"}"), part(claims));
    let tag = BASE64URL_NOPAD.encode(&hs256(SECRET.as_bytes(), message.as_bytes()));
    format!("{message}.{tag}")
}

/// Returns the response to a publish to `ops` with a token.
fn publish(server: &TestServer, token: &str) -> Response {
    let body = json!({"type": "message", "payload": 1});
    server.post(&format!("/rooms/ops/messages?token={token}"), &body)
}

/// The author of the last message in `ops`.
fn last_author(server: &TestServer) -> String {
    let reader = signed(SECRET, &claims(json!({})));
    let target = format!("/rooms/ops/messages?limit=1&token={reader}");
    let page = server.raw().get(&target).json();
    page["messages"][0]["from"]
        .as_str()
        .expect("an author")
        .to_owned()
}

#[test]
fn empty_token_is_no_token() {
    let bearers = [
        "Authorization: Bearer",
        "Authorization: Bearer ",
        "authorization: bearer    ",
    ];
    let targets = ["/stats?token=", "/stats?token=%20", "/stats?token"];

    // Without a token, clients have no rights, and the response asks for one instead of refusing it.
    let strict = TestServer::with_tokens(&["--max-auth-failures=1"]);
    let assert_asks = |response: Response| {
        assert_eq!(response.status, 401);
        assert_eq!(response.header("WWW-Authenticate"), Some("Bearer"));
    };
    for bearer in bearers {
        assert_asks(strict.raw().request("GET", "/stats", &[bearer]));
    }
    for target in targets {
        assert_asks(strict.raw().get(target));
    }
    // The client may still send its token in the first frame.
    let mut late = strict.client_without_welcome("/ws?room=ops&token=");
    let token = signed(SECRET, &claims(json!({})));
    late.send_json(json!({"type": "auth", "token": token}));
    late.next_of("authenticated");

    // Here, clients without a token have rights.
    let open = TestServer::with_tokens(&["--anonymous=subscribe"]);
    for bearer in bearers {
        assert_eq!(open.raw().request("GET", "/stats", &[bearer]).status, 200);
        // A token in the address counts if the header has none.
        let target = format!(
            "/clients?token={}",
            signed(SECRET, &claims(json!({"admin": true})))
        );
        assert_eq!(open.raw().request("GET", &target, &[bearer]).status, 200);
    }
    for target in targets {
        assert_eq!(open.raw().get(target).status, 200, "{target}");
    }
    open.client_at("/ws?token=").welcome();
}

#[test]
fn null_claims_count_as_absent() {
    let server = TestServer::with_tokens(&[]);
    let optional = ["sub", "nbf", "iat", "subscribe", "admin", "iss"];
    let all: Value = optional
        .iter()
        .map(|name| ((*name).to_owned(), Value::Null))
        .collect::<serde_json::Map<_, _>>()
        .into();
    for changes in optional
        .map(|name| json!({name: null}))
        .into_iter()
        .chain([all])
    {
        let response = publish(&server, &signed(SECRET, &with(changes.clone())));
        assert_eq!(response.status, 201, "{changes}");
    }
    for (changes, part) in [
        (json!({"exp": null}), "`exp` is missing"),
        (json!({"aud": null}), "another audience"),
    ] {
        let response = publish(&server, &signed(SECRET, &with(changes)));
        assert_eq!(response.status, 401);
        assert!(response.error_message().contains(part));
    }
}

#[test]
fn numbers_are_names_of_users_and_rooms() {
    let server = TestServer::with_tokens(&[]);
    for sub in [
        "42",
        "0",
        "-7",
        "18446744073709551616",
        "123456789012345678901234567890",
    ] {
        let text = with(json!({"sub": "SUB"}))
            .to_string()
            .replace("\"SUB\"", sub);
        let response = publish(&server, &signed_text(&text));
        assert_eq!(response.status, 201, "{sub}");
        assert_eq!(last_author(&server), sub);
    }
    for rooms in [json!(7), json!([7]), json!(["ops", 7])] {
        let token = signed(SECRET, &with(json!({"subscribe": rooms})));
        server.client_at(&format!("/ws?room=7&token={token}"));
    }
}

#[test]
fn dates_may_have_fractions_or_be_texts() {
    let server = TestServer::with_tokens(&[]);
    let later = now() + 600;
    for exp in [
        json!(later),
        json!(later as f64 + 0.25),
        json!(1e10),
        json!(later.to_string()),
        json!(format!("{later}.5")),
    ] {
        let token = signed(
            SECRET,
            &with(json!({"exp": exp, "nbf": (now() - 5).to_string()})),
        );
        assert_eq!(publish(&server, &token).status, 201, "{exp}");
    }
    for exp in [
        json!(now() - 5),
        json!((now() - 5).to_string()),
        json!(now() as f64 - 0.5),
    ] {
        let response = publish(&server, &signed(SECRET, &with(json!({"exp": exp}))));
        assert_eq!(response.error_message(), "the token has expired", "{exp}");
    }
}

#[test]
fn claim_of_a_wrong_type_is_named_with_what_was_expected() {
    let server = TestServer::with_tokens(&[]);
    let seconds = "must be a number of seconds since 1970, not";
    let list = "must be text or a list of texts, not";
    for (changes, message) in [
        (
            json!({"sub": {"id": 7}}),
            "`sub` must be text or a whole number, not an object".to_owned(),
        ),
        (
            json!({"sub": ["alice"]}),
            "`sub` must be text or a whole number, not a list".to_owned(),
        ),
        (
            json!({"sub": 1.5}),
            "`sub` must be text or a whole number, not a number with a fraction or an exponent"
                .to_owned(),
        ),
        (
            json!({"sub": true}),
            "`sub` must be text or a whole number, not true or false".to_owned(),
        ),
        (
            json!({"sub": ""}),
            "`sub` must be 1 to 128 bytes of text".to_owned(),
        ),
        (
            json!({"exp": "2099-01-01T00:00:00Z"}),
            format!("`exp` {seconds} text"),
        ),
        (json!({"exp": "1e99"}), format!("`exp` {seconds} text")),
        (json!({"exp": [1]}), format!("`exp` {seconds} a list")),
        (
            json!({"exp": -1}),
            "`exp` is not a number of seconds since 1970".to_owned(),
        ),
        (json!({"nbf": "soon"}), format!("`nbf` {seconds} text")),
        (
            json!({"iat": false}),
            format!("`iat` {seconds} true or false"),
        ),
        (
            json!({"subscribe": {"room": "ops"}}),
            format!("`subscribe` {list} an object"),
        ),
        (
            json!({"publish": ["ops", null]}),
            format!("`publish` {list} null"),
        ),
        (
            json!({"publish": [["ops"]]}),
            format!("`publish` {list} a list"),
        ),
        (json!({"aud": 7}), format!("`aud` {list} a number")),
        (
            json!({"aud": [{"id": 7}]}),
            format!("`aud` {list} an object"),
        ),
        (
            json!({"iss": ["us"]}),
            "`iss` must be text, not a list".to_owned(),
        ),
        (
            json!({"admin": "true"}),
            "`admin` must be true or false, not text".to_owned(),
        ),
        (
            json!({"admin": 1}),
            "`admin` must be true or false, not a number".to_owned(),
        ),
    ] {
        let response = publish(&server, &signed(SECRET, &with(changes.clone())));
        assert_eq!(response.status, 401, "{changes}");
        let expected = format!("the token's claim {message}");
        assert_eq!(response.error_message(), expected, "{changes}");
    }
    let list = json!([
        "alice",
        now() + 600,
        null,
        null,
        "ops",
        "ops",
        false,
        "wscast",
        null
    ]);
    for set in [json!([]), list, json!("alice"), json!(7)] {
        let response = publish(&server, &signed(SECRET, &set));
        let message = response.error_message();
        assert_eq!(message, "the token's claims are not a JSON object", "{set}");
    }
    for (name, value) in [("sub", "\"bob\""), ("exp", "1")] {
        let twice = format!("{{\"{name}\":{value},{}", &with(json!({})).to_string()[1..]);
        let message = publish(&server, &signed_text(&twice)).error_message();
        let expected = format!("the token's claims cannot be read: duplicate field `{name}`");
        assert!(message.starts_with(&expected), "{message}");
    }
}

/// The error names both algorithms, and no token is accepted because of the one that it names.
#[test]
fn other_algorithm_is_named_with_the_one_that_is_checked() {
    let server = TestServer::with_tokens(&[]);
    let message_for = |token: &str| {
        let response = publish(&server, token);
        assert_eq!(response.status, 401);
        response.error_message()
    };
    let named = |header: Value| token(header, &claims(json!({})), |m| hs256(SECRET.as_bytes(), m));
    for algorithm in [
        "RS256", "ES256", "EdDSA", "HS512", "PS256", "ES384", "ES256K",
    ] {
        let message = message_for(&named(json!({"alg": algorithm, "typ": "JWT"})));
        assert_eq!(
            message,
            format!("the token is signed with {algorithm}; this server checks HS256")
        );
    }
    let hs384 = token(json!({"alg": "HS384"}), &claims(json!({})), |message| {
        let key = hmac::Key::new(hmac::HMAC_SHA384, SECRET.as_bytes());
        hmac::sign(&key, message).as_ref().to_vec()
    });
    assert!(message_for(&hs384).contains("HS384"));
    for none in ["none", "NONE"] {
        let message = message_for(&named(json!({"alg": none})));
        assert_eq!(message, "the token is not signed; this server checks HS256");
    }
    // Whatever the header says, the error holds no more than a short name.
    for odd in ["\r\nSet-Cookie: x", "<script>", &"A".repeat(500)] {
        let message = message_for(&named(json!({"alg": odd})));
        assert!(message.contains("an unknown algorithm"), "{message}");
    }
    for header in [json!({}), json!({"alg": 7}), json!([])] {
        assert!(message_for(&named(header)).contains("`alg`"));
    }
    for crit in [json!([]), json!(["b64"])] {
        let message = message_for(&named(json!({"alg": "HS256", "crit": crit})));
        assert!(message.contains("`crit`"), "{message}");
    }
    let other_key = signed(OTHER_SECRET, &claims(json!({})));
    assert!(message_for(&other_key).contains("not signed by a key"));
    let encrypted = format!(
        "{}.a.b.c.d",
        named(json!({"alg": "dir"}))
            .split('.')
            .next()
            .expect("a part")
    );
    assert!(message_for(&encrypted).contains("encrypted"));
}

#[test]
fn long_token_is_called_long_and_deep_claims_are_ignored() {
    let server = TestServer::with_tokens(&[]);
    for length in [6_200, 8_000] {
        let long = signed(SECRET, &with(json!({"note": "x".repeat(length)})));
        let response = publish(&server, &long);
        assert_eq!(response.status, 401);
        assert!(response.error_message().contains("longer than 8 KiB"));
    }
    for levels in [100, 2000] {
        let deep = "[".repeat(levels) + &"]".repeat(levels);
        let exp = now() + 60;
        let text =
            format!("{{\"exp\":{exp},\"aud\":\"wscast\",\"publish\":\"*\",\"deep\":{deep}}}");
        let response = publish(&server, &signed_text(&text));
        assert_eq!(response.status, 201, "{}", response.text());
    }
}

#[test]
fn date_in_milliseconds_is_named() {
    let server = TestServer::with_tokens(&[]);
    for claim in ["exp", "nbf", "iat"] {
        for date in [json!(now() * 1000), json!(format!("{}000", now()))] {
            let response = publish(&server, &signed(SECRET, &with(json!({claim: date}))));
            assert_eq!(response.status, 401);
            let message = response.error_message();
            assert!(
                message.contains(&format!("`{claim}` must be seconds")),
                "{message}"
            );
        }
    }
    let last = with(json!({"exp": 253_402_300_799_u64}));
    assert_eq!(publish(&server, &signed(SECRET, &last)).status, 201);
}
