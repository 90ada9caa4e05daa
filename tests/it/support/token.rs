//! Tokens made by hand, valid and invalid.

use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use serde_json::{Value, json};

/// The secret that test servers check tokens with.
pub const SECRET: &str = "kq1x9Lw7Zr3Vt5Yb8Nc2Md4Ge6Hj0Fp-Qs";
/// Another secret, as strong.
pub const OTHER_SECRET: &str = "Tz7Rk2Wd9Xp4Mv6Bn1Cq8Ls3Jh5Gf0-Ya";

/// Seconds since the Unix epoch.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock").as_secs() as i64
}

/// Claims of Alice, who may read and write `ops` for ten minutes. `changes` adds, replaces or, with `null`, removes
/// claims.
pub fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "sub": "alice",
        "exp": now() + 600,
        "iat": now(),
        "aud": "wscast",
        "subscribe": ["ops"],
        "publish": ["ops"],
    });
    for (name, value) in changes.as_object().expect("an object") {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

/// A token with this header, signed by `sign`.
pub fn token(header: Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let message = format!("{}.{}", part(&header), part(claims));
    let signature = BASE64URL_NOPAD.encode(&sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// The target of a client that enters `ops` with a token that has these changes.
pub fn ops_with_claims(changes: Value) -> String {
    let token = signed(SECRET, &claims(changes));
    format!("/ws?room=ops&token={token}")
}

/// The header line of an administrator's token.
pub fn admin_bearer() -> String {
    let token = signed(SECRET, &claims(json!({"sub": "root", "admin": true})));
    format!("Authorization: Bearer {token}")
}

/// A token signed with HS256.
pub fn signed(secret: &str, claims: &Value) -> String {
    let header = json!({"alg": "HS256", "typ": "JWT"});
    token(header, claims, |message| hs256(secret.as_bytes(), message))
}

pub fn hs256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::sign(&key, message).as_ref().to_vec()
}
