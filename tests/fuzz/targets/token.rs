//! Tokens. An accepted token is signed with one of the server's keys and the algorithm of that key, has not expired, and
//! grants exactly the rights of its claims.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use libfuzzer_sys::fuzz_target;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::{Value, json};
use wscast::auth::{AuthError, AuthSettings, Authority, Identity};
use wscast::protocol::RoomName;

const SECRET: &str = "kq1x9Lw7Zr3Vt5Yb8Nc2Md4Ge6Hj0Fp-Qs";
const OTHER_SECRET: &str = "Tz7Rk2Wd9Xp4Mv6Bn1Cq8Ls3Jh5Gf0-Ya";
const ED25519_SEED: [u8; 32] = *b"a fixed seed, for fuzzing alone.";
/// A private key for this program only.
const P256_PKCS8: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgvPIXiRYH6yNFfOQGD7luxsgZZWn/2erXViNZA4wn\
    ll2hRANCAARpHoJnYUQP8Yi+vApTt3vduJW4kfx8qgJpTs11BIfrEJUfeqFhig8Qyf7FGURlQIxGW0CFSQJUnr/MwtABdOTP";

/// An authority with its keys, and an independent check of each of its algorithms.
struct Verifier {
    authority: Authority,
    checks: Vec<(&'static str, Verify)>,
}

type Verify = Box<dyn Fn(&[u8], &[u8]) -> bool + Send + Sync>;

struct Keys {
    ed25519: Ed25519KeyPair,
    p256: EcdsaKeyPair,
    random: SystemRandom,
    verifiers: Vec<Verifier>,
}

static KEYS: LazyLock<Keys> = LazyLock::new(keys);

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let keys = &*KEYS;
    verify_token(text, keys);
    // The input is a header and claims, which are signed in all known ways.
    if let Some((header, claims)) = text.split_once('\n') {
        let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let message = format!("{}.{}", part(header), part(claims));
        for signature in signatures(message.as_bytes(), keys) {
            let signature = BASE64URL_NOPAD.encode(&signature);
            verify_token(&format!("{message}.{signature}"), keys);
        }
    }
});

/// Returns signatures by each key, by a foreign key, by public keys used as secrets, and an empty one.
fn signatures(message: &[u8], keys: &Keys) -> Vec<Vec<u8>> {
    let hs256 = |secret: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hmac::sign(&key, message).as_ref().to_vec()
    };
    let p256 = keys.p256.sign(&keys.random, message).expect("a signature");
    vec![
        hs256(SECRET.as_bytes()),
        hs256(OTHER_SECRET.as_bytes()),
        hs256(keys.ed25519.public_key().as_ref()),
        hs256(keys.p256.public_key().as_ref()),
        hs256(p256_pem(&keys.p256).as_bytes()),
        keys.ed25519.sign(message).as_ref().to_vec(),
        p256.as_ref().to_vec(),
        Vec::new(),
    ]
}

fn verify_token(token: &str, keys: &Keys) {
    for Verifier { authority, checks } in &keys.verifiers {
        match authority.identify(Some(token)) {
            Ok(identity) => check_accepted(token, &identity, checks),
            Err(AuthError::TokenNeeded) => assert!(token.trim().is_empty(), "the token is there"),
            Err(why) => assert!(token.len() < 40 || !why.to_string().contains(token)),
        }
    }
}

fn check_accepted(token: &str, identity: &Identity, checks: &[(&str, Verify)]) {
    let parts: Vec<_> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("a token has three parts");
    };
    let message = &token[..header.len() + 1 + claims.len()];
    let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).expect("base64url");
    let signature = decode(signature);
    let header: Value = serde_json::from_slice(&decode(header)).expect("a header");
    let verified = checks.iter().any(|(algorithm, verify)| {
        header["alg"] == *algorithm && verify(message.as_bytes(), &signature)
    });
    assert!(verified, "accepted without a valid signature");
    check_rights(
        &serde_json::from_slice(&decode(claims)).expect("claims"),
        identity,
    );
}

fn check_rights(claims: &Value, identity: &Identity) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock");
    let date = |name: &str| match &claims[name] {
        Value::String(text) => text.parse().ok(),
        value => value.as_f64(),
    };
    let now = now.as_secs_f64();
    // Allows a second between the check and this line.
    assert!(date("exp").expect("exp") > now - 1.0, "has expired");
    assert!(date("nbf").is_none_or(|time| time <= now + 60.0));
    assert!(date("iat").is_none_or(|time| time <= now + 60.0));
    match (&identity.user, &claims["sub"]) {
        (Some(user), Value::String(sub)) => assert_eq!(**user, **sub),
        // Large numbers keep their digits in the user only.
        (Some(user), Value::Number(_)) => {
            assert!(
                user.trim_start_matches('-')
                    .bytes()
                    .all(|byte| byte.is_ascii_digit())
            );
        }
        (user, sub) => assert!(user.is_none() && sub.is_null()),
    }
    assert_eq!(identity.admin, claims["admin"] == true);
    for name in ["lobby", "ops", "ops-1", "房间"] {
        let room = RoomName::parse(name).expect("a room");
        for (claim, patterns) in [
            ("subscribe", &identity.subscribe),
            ("publish", &identity.publish),
        ] {
            assert_eq!(
                patterns.allow(&room),
                allows(&claims[claim], name),
                "{claim} {name}"
            );
        }
    }
}

fn allows(claim: &Value, room: &str) -> bool {
    match claim {
        Value::String(pattern) => match pattern.strip_suffix('*') {
            Some(prefix) => room.starts_with(prefix),
            None => room == pattern,
        },
        Value::Array(patterns) => patterns.iter().any(|pattern| allows(pattern, room)),
        Value::Number(number) => number.to_string() == room,
        _ => false,
    }
}

fn keys() -> Keys {
    let random = SystemRandom::new();
    let ed25519 = Ed25519KeyPair::from_seed_unchecked(&ED25519_SEED).expect("a key");
    let pkcs8 = BASE64.decode(P256_PKCS8.as_bytes()).expect("base64");
    let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &random);
    let p256 = p256.expect("a key");
    let by_secret = || {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let verify = move |message: &[u8], tag: &[u8]| hmac::verify(&key, message, tag).is_ok();
        ("HS256", Box::new(verify) as Verify)
    };
    let by_ed25519 = || ("EdDSA", public(&ED25519, ed25519.public_key().as_ref()));
    let by_p256 = || {
        (
            "ES256",
            public(&ECDSA_P256_SHA256_FIXED, p256.public_key().as_ref()),
        )
    };
    let verifiers = vec![
        Verifier {
            authority: authority(Some(SECRET), None),
            checks: vec![by_secret()],
        },
        Verifier {
            authority: authority(None, Some(("set.json", key_set(&ed25519, &p256)))),
            checks: vec![by_ed25519(), by_p256()],
        },
        Verifier {
            authority: authority(None, Some(("key.pem", p256_pem(&p256)))),
            checks: vec![by_p256()],
        },
    ];
    Keys {
        ed25519,
        p256,
        random,
        verifiers,
    }
}

fn public(algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> Verify {
    let key = UnparsedPublicKey::new(algorithm, key.to_vec());
    Box::new(move |message, signature| key.verify(message, signature).is_ok())
}

fn authority(secret: Option<&str>, file: Option<(&str, String)>) -> Authority {
    let public_key_file = file.map(|(name, text)| {
        let path: PathBuf =
            std::env::temp_dir().join(format!("wscast-fuzz-{}-{name}", std::process::id()));
        fs::write(&path, text).expect("a file");
        path
    });
    let authority = Authority::load(AuthSettings {
        secret: secret.map(str::to_owned),
        public_key_file: public_key_file.clone(),
        ..AuthSettings::default()
    });
    if let Some(path) = public_key_file {
        fs::remove_file(path).expect("the file");
    }
    authority.expect("keys")
}

fn key_set(ed25519: &Ed25519KeyPair, p256: &EcdsaKeyPair) -> String {
    let part = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    // An uncompressed point: one byte for the format, then both coordinates.
    let (x, y) = p256.public_key().as_ref()[1..].split_at(32);
    let keys = json!([
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": part(ed25519.public_key().as_ref())},
        {"kty": "EC", "crv": "P-256", "x": part(x), "y": part(y)},
    ]);
    json!({ "keys": keys }).to_string()
}

/// Returns a SubjectPublicKeyInfo (RFC 5480 §2) in PEM.
fn p256_pem(key: &EcdsaKeyPair) -> String {
    const PREFIX: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    let der = BASE64.encode(&[PREFIX, key.public_key().as_ref()].concat());
    let lines: Vec<_> = der
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    let body = lines.join("\n");
    format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
}
