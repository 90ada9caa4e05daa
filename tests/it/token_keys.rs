//! The keys that tokens are checked with, and the `token` command.

use std::fs;
use std::process::Stdio;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
};
use rustix::process::Signal;
use serde_json::json;

use crate::support::token::{OTHER_SECRET, SECRET, claims, hs256, ops_with_claims, signed, token};
use crate::support::{TempDir, TestServer, wait_until};

#[test]
fn rotated_secret_refuses_no_valid_token() {
    let disk = TempDir::new();
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
fn keys_are_reloaded_on_sighup_and_kept_if_the_new_ones_are_invalid() {
    let disk = TempDir::new();
    let path = disk.path("secret");
    fs::write(&path, SECRET).expect("write");
    let server = TestServer::start(&["--secret-key-file", path.to_str().expect("UTF-8")]);
    let status = |secret: &str| {
        let token = signed(secret, &claims(json!({})));
        server.raw().get(&format!("/stats?token={token}")).status
    };
    let mut session = server.client_at(&ops_with_claims(json!({})));
    assert_eq!((status(SECRET), status(OTHER_SECRET)), (200, 401));
    fs::write(&path, OTHER_SECRET).expect("write");
    server.signal(Signal::HUP);
    wait_until("the new key is used", || status(OTHER_SECRET) == 200);
    assert_eq!(status(SECRET), 401);
    fs::write(&path, "short").expect("write");
    server.signal(Signal::HUP);
    server.wait_for_log("32 bytes");
    assert_eq!(status(OTHER_SECRET), 200, "the last good key stays");
    // Open sessions stay open.
    session.say("still here");
    session.expect("still here");
}

#[test]
fn server_on_all_interfaces_without_a_key_warns() {
    let warns = |server: TestServer| server.log().contains("no key is set");
    let logged = |server: &TestServer| {
        wait_until("the server has started", || server.log().contains("up to"));
    };
    let open = TestServer::start(&["--host", "0.0.0.0"]);
    logged(&open);
    assert!(warns(open));
    let local = TestServer::start(&[]);
    logged(&local);
    assert!(!warns(local));
    let keyed = TestServer::with_tokens(&["--host", "0.0.0.0"]);
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

// Keys: Ed25519, P-256 and RSA, each in a PEM file and all in one key set (JWKS).
// Invariants: a token is accepted only by its own key; a public key is never accepted as an HMAC secret.
#[test]
fn public_keys_are_read_from_pem_or_a_key_set() {
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
    // A public key must not be accepted as an HMAC secret.
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
        let disk = TempDir::new();
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

/// The line names the setting or the file, and never the key.
#[test]
fn unusable_key_fails_with_one_line() {
    let disk = TempDir::new();
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
            "easy to guess",
        ),
        ("no key at all", &flags[2..], "not a PEM public key"),
        (private, &flags[2..], "private key"),
        ("{\"keys\":[]}", &flags[2..], "no usable key"),
        (
            "{\"keys\":[{\"kty\":\"oct\",\"k\":\"SECRETVALUE\"}]}",
            &flags[2..],
            "no usable key",
        ),
        ("{", &flags[2..], "EOF"),
    ] {
        fs::write(&path, content).expect("write");
        for flag in flags {
            let mut command = TestServer::command(&[flag, path.to_str().expect("UTF-8")]);
            let output = command.stdout(Stdio::null()).output().expect("run");
            let stderr = String::from_utf8(output.stderr).expect("UTF-8");
            let line = stderr.lines().last().expect("a line");
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            assert!(line.contains(why), "{flag} {content}: {line}");
            assert!(!line.contains("SECRETVALUE"), "{line}");
        }
    }
}

#[test]
fn weak_secret_in_the_environment_fails_with_one_line() {
    for (secret, why) in [
        ("secret-key-here", "easy to guess"),
        (
            "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----",
            "--public-key-file",
        ),
        ("changeme-changeme-changeme-changeme", "easy to guess"),
        ("SECRETSECRETSECRETSECRETSECRETSECRET", "easy to guess"),
        ("Zq8vR2", "32 bytes"),
    ] {
        let mut command = TestServer::command(&[]);
        let output = command.env("SECRET_KEY", secret).output().expect("run");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        let line = stderr.lines().last().expect("a line");
        assert_eq!(output.status.code(), Some(1), "{secret}: {stderr}");
        assert!(line.contains("SECRET_KEY") && line.contains(why), "{line}");
        assert!(!stderr.contains(secret), "{stderr}");
    }
}

// `token` mints a token that `token check` explains and a server accepts.
// Invalid arguments fail with one line each.
#[test]
fn token_command_mints_and_explains_tokens() {
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
    for part in [
        "bob",
        "own room   @bob",
        "ops, team-*",
        "false",
        "expires    in 8",
    ] {
        assert!(explained.contains(part), "{part}: {explained}");
    }
    let mut command = TestServer::command(&[]);
    command.env("SECRET_KEY", SECRET);
    let server = TestServer::start_command(command);
    let target = format!("/ws?room=team-a&token={}", minted.trim());
    assert_eq!(
        server.client_at(&target).welcome().rooms()[0].room,
        "team-a"
    );
    for (args, warned) in [
        (&["--user", "bob", "--ttl", "400d"][..], false),
        (&["--user", "bob", "--ttl", "401d"], true),
        (&["--ttl", "401d"], false),
    ] {
        let (code, _, warning) = run(&[&["token", "--publish", "ops"], args].concat());
        assert_eq!(code, Some(0));
        assert_eq!(
            warning.contains("kept for 400 days"),
            warned,
            "{args:?}: {warning}"
        );
    }
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
