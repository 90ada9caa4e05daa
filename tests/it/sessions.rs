//! A session's rights over time: renewal, expiry, revocation, and the keys behind them.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::token::{OTHER_SECRET, SECRET, claims, hs256, now, signed, token};
use crate::support::{Scratch, TestClient, TestServer, eventually};
use crate::tokens::server;

fn enter(server: &TestServer, changes: Value) -> TestClient {
    let token = signed(SECRET, &claims(changes));
    server.client_at(&format!("/ws?room=ops&token={token}"))
}

#[test]
fn a_token_is_warned_of_and_then_ends_the_session_in_time() {
    let server = server(&[]);
    let end = now() + 3;
    let mut client = enter(&server, json!({"exp": end}));
    let warning = client.next_of("token_expiring");
    let left = warning["payload"]["expires_in_ms"].as_u64().expect("ms");
    assert!((1..=3000).contains(&left), "{warning}");
    assert_eq!(client.close_code(), 4001);
    assert!(now() <= end, "closed after the end");
}

#[test]
fn a_stream_of_events_ends_with_its_token() {
    let server = server(&[]);
    let end = now() + 2;
    let token = signed(SECRET, &claims(json!({"exp": end})));
    let mut raw = server.raw();
    let bearer = format!("Authorization: Bearer {token}");
    raw.send(crate::support::request(
        "GET",
        "/rooms/ops/events",
        &[&bearer],
    ));
    let all = raw.read_to_end();
    assert!(all.contains("event: joined"), "{all}");
    assert!(
        (end - 1..=end + 1).contains(&now()),
        "ended at {} for {end}",
        now()
    );
}

#[test]
fn a_renewed_token_keeps_the_session_and_a_wrong_one_changes_nothing() {
    let server = server(&[]);
    let mut client = enter(
        &server,
        json!({"exp": now() + 4, "subscribe": ["ops", "extra"]}),
    );
    client.join("extra");
    let mut renew = |changes: Value| {
        let token = signed(SECRET, &claims(changes));
        client.send(json!({"type": "auth", "token": token, "id": "renew"}));
        client.next()
    };
    assert_eq!(
        renew(json!({"exp": now() - 1}))["payload"]["code"],
        "unauthorized"
    );
    assert_eq!(
        renew(json!({"sub": "mallory"}))["payload"]["code"],
        "forbidden"
    );
    let renewed = renew(json!({"exp": now() + 500}));
    assert_eq!(renewed["type"], "authenticated", "{renewed}");
    assert_eq!(renewed["payload"]["user"], "alice");
    // The new token does not grant `extra`.
    assert_eq!(client.next_of("left")["room"], "extra");
    client.say("still here");
    client.expect("still here");
    // Past the end of the first token.
    let past = Instant::now() + Duration::from_secs(5);
    eventually("the first token has ended", || {
        client.expect_nothing();
        (Instant::now() > past).then_some(())
    });
}

#[test]
fn who_sends_no_token_is_closed_in_time_and_at_shutdown() {
    let mut server = server(&[]);
    let mut late = TestClient::connect_unwelcomed(server.address(), "/ws");
    assert_eq!(late.close_code(), 4001);
    let mut waiting = TestClient::connect_unwelcomed(server.address(), "/ws");
    waiting.send(json!({"type": "ping"}));
    waiting.next_of("pong");
    server.signal(Signal::TERM);
    assert_eq!(waiting.close_code(), 1001);
    assert!(server.wait_for_exit().success());
}

#[test]
fn an_operator_lists_clients_and_closes_them() {
    let server = server(&[]);
    let admin = signed(SECRET, &claims(json!({"sub": "root", "admin": true})));
    let bearer = format!("Authorization: Bearer {admin}");
    let ask = |method: &str, target: &str| server.raw().request(method, target, &[&bearer]);
    let mut phone = enter(&server, json!({}));
    let mut laptop = enter(&server, json!({}));
    let mut bob = enter(&server, json!({"sub": "bob"}));
    let mut listed = Vec::new();
    let mut target = "/clients?limit=2".to_owned();
    loop {
        let page = ask("GET", &target).json();
        listed.extend(page["clients"].as_array().expect("clients").clone());
        match page["after"].as_str() {
            Some(after) => target = format!("/clients?limit=2&after={after}"),
            None => break,
        }
    }
    let names: Vec<_> = listed
        .iter()
        .map(|c| c["client"].as_str().expect("name"))
        .collect();
    assert_eq!(names, [phone.id(), laptop.id(), bob.id()]);
    assert_eq!(listed[2]["user"], "bob");
    assert_eq!(listed[2]["rooms"], json!(["ops"]));

    assert_eq!(ask("DELETE", &format!("/clients/{}", bob.id())).status, 204);
    assert_eq!(bob.close_code(), 4003);
    eventually("it is gone", || {
        let again = ask("DELETE", &format!("/clients/{}", bob.id()));
        (again.status == 404).then_some(())
    });
    let closed = ask("DELETE", "/users/alice/clients").json();
    assert_eq!(closed, json!({"closed": 2}));
    assert_eq!((phone.close_code(), laptop.close_code()), (4003, 4003));
    for target in ["/clients/nonsense", "/clients/c1-1"] {
        assert_eq!(ask("DELETE", target).status, 404, "{target}");
    }
    for target in ["/clients?limit=0", "/clients?after=nonsense"] {
        assert_eq!(ask("GET", target).status, 400, "{target}");
    }
}

#[test]
fn a_secret_is_rotated_without_refusing_anyone() {
    let disk = Scratch::new();
    let (secret, previous) = (disk.path("secret"), disk.path("previous"));
    fs::write(&secret, format!("{OTHER_SECRET}\n")).expect("write");
    fs::write(&previous, format!("{SECRET}\n")).expect("write");
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let server = TestServer::start(&[
        "--secret-key-file",
        &path(&secret),
        "--previous-secret-key-file",
        &path(&previous),
    ]);
    for secret in [SECRET, OTHER_SECRET] {
        let token = signed(secret, &claims(json!({})));
        assert_eq!(
            server.raw().get(&format!("/stats?token={token}")).status,
            200
        );
    }
}

#[test]
fn keys_are_read_again_on_sighup_and_kept_if_they_are_bad() {
    let disk = Scratch::new();
    let path = disk.path("secret");
    fs::write(&path, SECRET).expect("write");
    let server = TestServer::start(&["--secret-key-file", path.to_str().expect("UTF-8")]);
    let status = |secret: &str| {
        let token = signed(secret, &claims(json!({})));
        server.raw().get(&format!("/stats?token={token}")).status
    };
    let mut session = enter(&server, json!({}));
    assert_eq!((status(SECRET), status(OTHER_SECRET)), (200, 401));
    fs::write(&path, OTHER_SECRET).expect("write");
    server.signal(Signal::HUP);
    eventually("the new key is in force", || {
        (status(OTHER_SECRET) == 200).then_some(())
    });
    assert_eq!(status(SECRET), 401);
    fs::write(&path, "short").expect("write");
    server.signal(Signal::HUP);
    eventually("it is said", || {
        server.log().contains("32 bytes").then_some(())
    });
    assert_eq!(status(OTHER_SECRET), 200, "the last good key stays");
    // Who is in stays in.
    session.say("still here");
    session.expect("still here");
}

#[test]
fn a_server_open_to_the_world_says_so() {
    let warns = |server: TestServer| server.log().contains("no key is set");
    let logged = |server: &TestServer| {
        eventually("it has started", || {
            server.log().contains("up to").then_some(())
        });
    };
    let open = TestServer::start(&["--host", "0.0.0.0"]);
    logged(&open);
    assert!(warns(open));
    let local = TestServer::start(&[]);
    logged(&local);
    assert!(!warns(local));
    let keyed = server(&["--host", "0.0.0.0"]);
    logged(&keyed);
    assert!(!warns(keyed));
}

/// A public key in the form of RFC 8410 and RFC 5480.
fn pem(prefix: &str, key: &[u8]) -> String {
    let mut der = data_encoding::HEXLOWER
        .decode(prefix.as_bytes())
        .expect("hex");
    der.extend_from_slice(key);
    let text = BASE64.encode(&der);
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

#[test]
fn public_keys_come_as_pem_or_as_a_set() {
    let random = SystemRandom::new();
    let ed = Ed25519KeyPair::generate_pkcs8(&random).expect("key");
    let ed = Ed25519KeyPair::from_pkcs8(ed.as_ref()).expect("key");
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let ec = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("key");
    let ec = EcdsaKeyPair::from_pkcs8(algorithm, ec.as_ref(), &random).expect("key");
    let rsa = RsaKeyPair::from_pkcs8(include_bytes!("keys/rsa.pkcs8")).expect("key");

    let claims = claims(json!({}));
    let ed_token = |kid: &str| {
        let header = json!({"alg": "EdDSA", "kid": kid});
        token(header, &claims, |m| ed.sign(m).as_ref().to_vec())
    };
    let ec_token = token(json!({"alg": "ES256"}), &claims, |m| {
        ec.sign(&random, m).expect("sign").as_ref().to_vec()
    });
    let rsa_token = token(json!({"alg": "RS256"}), &claims, |message| {
        let mut signature = vec![0; rsa.public().modulus_len()];
        rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
            .expect("sign");
        signature
    });
    let ed_pem = pem("302a300506032b6570032100", ed.public_key().as_ref());
    let ec_pem = pem(
        "3059301306072a8648ce3d020106082a8648ce3d030107034200",
        ec.public_key().as_ref(),
    );
    let rsa_pem = include_str!("keys/rsa.pub.pem").to_owned();
    // The public key is no secret: who signs with it as if it were must get nowhere.
    let confused = |pem: &str| {
        token(json!({"alg": "HS256"}), &claims, |m| {
            hs256(pem.as_bytes(), m)
        })
    };
    let point = ec.public_key().as_ref();
    let components: PublicKeyComponents<Vec<u8>> = rsa.public().into();
    let set = json!({"keys": [
        {"kty": "oct", "k": BASE64URL_NOPAD.encode(SECRET.as_bytes()), "alg": "HS256"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": BASE64URL_NOPAD.encode(ed.public_key().as_ref())},
        {"kty": "EC", "crv": "P-256", "x": BASE64URL_NOPAD.encode(&point[1..33]), "y": BASE64URL_NOPAD.encode(&point[33..])},
        {"kty": "RSA", "n": BASE64URL_NOPAD.encode(&components.n), "e": "AQAB"},
    ]})
    .to_string();

    let symmetric = signed(SECRET, &claims);
    let (ed_token, misnamed) = (ed_token("ed"), ed_token("another"));
    for (keys, good, bad) in [
        (
            &ed_pem,
            vec![&ed_token, &misnamed],
            vec![&ec_token, &rsa_token],
        ),
        (&ec_pem, vec![&ec_token], vec![&ed_token, &rsa_token]),
        (&rsa_pem, vec![&rsa_token], vec![&ed_token, &ec_token]),
        (
            &set,
            vec![&ed_token, &ec_token, &rsa_token],
            vec![&misnamed],
        ),
    ] {
        let disk = Scratch::new();
        let path = disk.path("keys");
        fs::write(&path, keys).expect("write");
        let server = TestServer::start(&["--public-key-file", path.to_str().expect("UTF-8")]);
        let status = |token: &str| server.raw().get(&format!("/stats?token={token}")).status;
        for token in good {
            assert_eq!(status(token), 200, "{keys}");
        }
        for token in bad {
            assert_eq!(status(token), 401, "{keys}");
        }
        assert_eq!(status(&confused(keys)), 401, "{keys}");
        assert_eq!(status(&confused(keys.trim())), 401, "{keys}");
        assert_eq!(status(&symmetric), 401, "{keys}");
    }
}

/// One line that names the setting or the file, and never the key.
#[test]
fn a_key_that_cannot_be_used_ends_the_start() {
    let disk = Scratch::new();
    let path = disk.path("key");
    let private =
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";
    let flags = [
        "--secret-key-file",
        "--previous-secret-key-file",
        "--public-key-file",
    ];
    for (content, flags, why) in [
        ("tooshort-SECRETVALUE", &flags[..2], "32 bytes"),
        (
            "a-string-secret-at-least-256-bits-long",
            &flags[..1],
            "well-known",
        ),
        ("no key at all", &flags[2..], "no PEM public key"),
        (private, &flags[2..], "private key"),
        ("{\"keys\":[]}", &flags[2..], "no key that can be used"),
        (
            "{\"keys\":[{\"kty\":\"oct\",\"k\":\"SECRETVALUE\"}]}",
            &flags[2..],
            "no key that can be used",
        ),
        ("{", &flags[2..], "EOF"),
    ] {
        fs::write(&path, content).expect("write");
        for flag in flags {
            let mut command = TestServer::command(&[flag, path.to_str().expect("UTF-8")]);
            let output = command.stdout(Stdio::null()).output().expect("run");
            let said = String::from_utf8(output.stderr).expect("UTF-8");
            let line = said.lines().last().expect("a line");
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(line.contains(why), "{flag} {content}: {line}");
            assert!(!line.contains("SECRETVALUE"), "{line}");
        }
    }
}

#[test]
fn a_weak_secret_in_the_environment_ends_the_start() {
    for (secret, why) in [
        ("secret-key-here", "well-known"),
        (
            "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----",
            "--public-key-file",
        ),
        ("changeme-changeme-changeme-changeme", "well-known"),
        ("SECRETSECRETSECRETSECRETSECRETSECRET", "well-known"),
        ("Zq8vR2", "32 bytes"),
    ] {
        let mut command = TestServer::command(&[]);
        let output = command.env("SECRET_KEY", secret).output().expect("run");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        let line = said.lines().last().expect("a line");
        assert_eq!(output.status.code(), Some(1), "{secret}: {said}");
        assert!(line.contains("SECRET_KEY") && line.contains(why), "{line}");
        assert!(!said.contains(secret), "{said}");
    }
}

/// Neither good ones nor bad, however they are sent, and whatever becomes of them.
#[test]
fn tokens_and_keys_are_never_logged() {
    let mut server = server(&[
        "--log-level=trace",
        "--trusted-proxies=127.0.0.1",
        "--max-auth-failures=1",
        "--allow-origin=https://a.example",
    ]);
    let good = signed(SECRET, &claims(json!({})));
    let bad = signed(OTHER_SECRET, &claims(json!({})));
    let expired = signed(SECRET, &claims(json!({"exp": now() - 9})));
    for token in [&good, &bad, &expired, &good] {
        let bearer = format!("Authorization: Bearer {token}");
        let query = format!("token={token}");
        for address in ["127.0.0.1", "203.0.113.7"] {
            let forwarded = format!("X-Forwarded-For: {address}");
            server
                .raw()
                .request("GET", "/stats", &[&bearer, &forwarded]);
            server.raw().get_as(address, &format!("/stats?{query}"));
            server.raw().get_as(address, &format!("/nothing?{query}"));
            for origin in ["https://a.example", "https://b.example"] {
                let origin = format!("Origin: {origin}");
                server.knock(address, &format!("/ws?room=ops&{query}"), &[&origin]);
            }
            let (mut raw, _) = server.knock(address, "/ws?room=ops", &[]);
            let auth = json!({"type": "auth", "token": token}).to_string();
            raw.send_frame(true, 1, auth.as_bytes());
            raw.frame().expect("an answer");
        }
    }
    server.signal(Signal::HUP);
    server.signal(Signal::TERM);
    assert!(server.wait_for_exit().success());
    let log = server.log();
    for secret in [&good, &bad, &expired, SECRET] {
        let signature = secret.rsplit('.').next().expect("a part");
        assert!(!log.contains(signature), "{log}");
    }
    assert!(
        log.contains("disconnected") && log.contains("refused origin"),
        "{log}"
    );
}

#[test]
fn the_program_mints_and_explains_tokens() {
    let run = |args: &[&str]| {
        let mut command = TestServer::command(&[]);
        let program = command.get_program().to_owned();
        command = std::process::Command::new(program);
        let output = command
            .args(args)
            .env("SECRET_KEY", SECRET)
            .output()
            .expect("run");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let grant = [
        "--user",
        "bob",
        "--subscribe",
        "ops,team-*",
        "--publish",
        "ops",
        "--ttl",
        "15m",
    ];
    let (code, minted, _) = run(&[&["token"][..], &grant].concat());
    assert_eq!(code, Some(0));
    let (code, explained, _) = run(&["token", "check", minted.trim()]);
    assert_eq!(code, Some(0));
    for part in ["bob", "ops, team-*", "false", "expires    in 8"] {
        assert!(explained.contains(part), "{part}: {explained}");
    }
    let mut command = TestServer::command(&[]);
    command.env("SECRET_KEY", SECRET);
    let server = TestServer::start_command(command);
    let target = format!("/ws?room=team-a&token={}", minted.trim());
    assert_eq!(
        server.client_at(&target).welcome()["rooms"][0]["room"],
        "team-a"
    );
    for (args, part) in [
        (&["token", "check", "abc"][..], "not a JSON Web Token"),
        (&["token", "--ttl", "soon"], "15m"),
        (&["token", "--subscribe", "a b"], "not a room"),
        (&["token", "--user", ""], "sub"),
    ] {
        let (code, out, line) = run(args);
        assert_ne!(code, Some(0), "{args:?}: {out}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains(part), "{line}");
    }
}
