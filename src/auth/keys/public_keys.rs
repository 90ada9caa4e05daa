//! Public keys that tokens are checked with: reads them from PEM or JSON Web Keys (RFC 7517), and refuses keys that no
//! supported algorithm can use.

use std::path::Path;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::der::{self, PublicKeyInfo};
use super::error::{KeyError, PUBLIC_KEY_FILE};
use super::file::read_key_file;
use super::verifying::VerifyingKey;

/// Most keys that are read from a set.
const KEYS_MAX: usize = 100;
/// Sizes of RSA keys, in bits (RFC 7518 §3.3).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Bytes of each coordinate of a point on P-256.
const COORDINATE_BYTES: usize = 32;
/// Bytes of an Ed25519 key.
const ED25519_BYTES: usize = 32;

// Object identifiers of types of keys and of elliptic curves.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
const ELLIPTIC_CURVE: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const OTHER_CURVES: [(&[u8], &str); 5] = [
    (&[0x2b, 0x81, 4, 0, 0x22], "P-384"),
    (&[0x2b, 0x81, 4, 0, 0x23], "P-521"),
    (&[0x2b, 0x81, 4, 0, 0x0a], "secp256k1"),
    (&[0x2b, 0x65, 0x71], "Ed448"),
    (&[0x2b, 0x65, 0x6e], "X25519"),
];

/// The reason why a key cannot be used, with the remedy if there is one.
type Unusable = String;

/// Reads the public keys of a file: a PEM public key or certificate, a key set (JWKS), a single JSON Web Key, or a JSON
/// object of PEM texts by key id.
pub(in crate::auth) fn read(path: &Path) -> Result<Vec<VerifyingKey>, KeyError> {
    let bytes = read_key_file(path, PUBLIC_KEY_FILE)?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_start_matches('\u{feff}').trim();
    let keys = if text.starts_with('{') {
        parse_json(text, &path.display().to_string())
    } else {
        pem(text).map(|key| vec![key])
    };
    keys.map_err(|why| KeyError::NoKey(path.to_owned(), why))
}

fn pem(text: &str) -> Result<VerifyingKey, Unusable> {
    if text.contains("PRIVATE KEY") {
        return Err("holds a private key, which the server must not have".to_owned());
    }
    if ["ssh-", "ecdsa-"]
        .iter()
        .any(|start| text.starts_with(start))
    {
        return Err("holds an SSH key; convert it with: ssh-keygen -e -m PKCS8 -f FILE".to_owned());
    }
    let invalid = || "is not a PEM public key".to_owned();
    let (_, block) = text.split_once("-----BEGIN ").ok_or_else(invalid)?;
    let (label, block) = block.split_once("-----").ok_or_else(invalid)?;
    let (base64, _) = block.split_once("-----END ").ok_or_else(invalid)?;
    let base64: String = base64.split_ascii_whitespace().collect();
    let der = BASE64.decode(base64.as_bytes()).map_err(|_| invalid())?;
    match label {
        "PUBLIC KEY" => from_info(&PublicKeyInfo::parse(&der).ok_or_else(invalid)?),
        "CERTIFICATE" => from_info(&PublicKeyInfo::of_certificate(&der).ok_or_else(invalid)?),
        "RSA PUBLIC KEY" => from_rsa(&der),
        _ => Err(invalid()),
    }
}

fn from_info(info: &PublicKeyInfo<'_>) -> Result<VerifyingKey, Unusable> {
    let name_of = |curve: &[u8]| {
        let mut curves = OTHER_CURVES.iter();
        curves.find(|(id, _)| *id == curve).map(|(_, name)| *name)
    };
    match (info.algorithm, info.curve) {
        (RSA, _) => from_rsa(info.key),
        (RSA_PSS, _) => Err(unfit("RSA-PSS")),
        (ELLIPTIC_CURVE, P256) => from_point(info.key),
        (ELLIPTIC_CURVE, curve) => Err(unfit(name_of(curve).unwrap_or("another curve"))),
        (ED25519, _) => from_ed25519(info.key),
        (other, _) => Err(unfit(name_of(other).unwrap_or("unknown"))),
    }
}

/// Describes a key whose type fits none of the algorithms.
fn unfit(kind: &str) -> Unusable {
    format!(
        "holds a key of the type {kind}, and tokens are checked with RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA)"
    )
}

fn from_rsa(der: &[u8]) -> Result<VerifyingKey, Unusable> {
    check_rsa_bits(der::rsa_bits(der).ok_or("holds an invalid RSA key")?)?;
    Ok(key(Algorithm::RS256, DecodingKey::from_rsa_der(der)))
}

fn check_rsa_bits(bits: usize) -> Result<(), Unusable> {
    if RSA_BITS.contains(&bits) {
        return Ok(());
    }
    Err(format!(
        "holds an RSA key of {bits} bits, and RS256 takes {} to {}; create a new key",
        RSA_BITS.start(),
        RSA_BITS.end()
    ))
}

fn from_point(point: &[u8]) -> Result<VerifyingKey, Unusable> {
    match point {
        [4, coordinates @ ..] if coordinates.len() == 2 * COORDINATE_BYTES => {
            Ok(key(Algorithm::ES256, DecodingKey::from_ec_der(point)))
        }
        [2 | 3, ..] => Err(
            "holds a compressed key; convert it with: openssl ec -pubin -in FILE -conv_form uncompressed".to_owned(),
        ),
        _ => Err("holds an invalid P-256 key".to_owned()),
    }
}

fn from_ed25519(bytes: &[u8]) -> Result<VerifyingKey, Unusable> {
    if bytes.len() != ED25519_BYTES {
        return Err("holds an invalid Ed25519 key".to_owned());
    }
    Ok(key(Algorithm::EdDSA, DecodingKey::from_ed_der(bytes)))
}

fn key(algorithm: Algorithm, key: DecodingKey) -> VerifyingKey {
    VerifyingKey {
        algorithm,
        key,
        id: None,
    }
}

/// Parses the keys of a JSON text; `source` names it in the log. Keys that cannot be used are skipped, unless none can.
pub(super) fn parse_json(text: &str, source: &str) -> Result<Vec<VerifyingKey>, Unusable> {
    let object: Map<String, Value> = serde_json::from_str(text).map_err(|why| why.to_string())?;
    let found: Vec<(String, Result<VerifyingKey, Unusable>)> = match object.get("keys") {
        Some(Value::Array(keys)) => keys.iter().take(KEYS_MAX).map(named_jwk).collect(),
        Some(_) => return Err("`keys` is not a list".to_owned()),
        None if object.contains_key("kty") => vec![named_jwk(&Value::Object(object))],
        None => object.iter().take(KEYS_MAX).map(named_pem).collect(),
    };
    let (mut keys, mut skipped) = (Vec::new(), Vec::new());
    for (name, key) in found {
        match key {
            Ok(key) => keys.push(key),
            Err(why) => skipped.push((name, why)),
        }
    }
    if keys.is_empty() {
        let reason = skipped
            .first()
            .map_or(String::new(), |(_, why)| format!(": it {why}"));
        return Err(format!("holds no usable key{reason}"));
    }
    for (name, why) in skipped {
        log::info!("keys of {source:?}: key {name:?} is skipped, because it {why}");
    }
    Ok(keys)
}

fn named_pem((id, pem_text): (&String, &Value)) -> (String, Result<VerifyingKey, Unusable>) {
    let key = pem(pem_text.as_str().unwrap_or_default());
    let key = key.map(|key| VerifyingKey {
        id: Some(id.clone()),
        ..key
    });
    (id.clone(), key)
}

fn named_jwk(jwk: &Value) -> (String, Result<VerifyingKey, Unusable>) {
    let id = jwk["kid"].as_str();
    let key = from_jwk(jwk).map(|key| VerifyingKey {
        id: id.map(str::to_owned),
        ..key
    });
    (id.unwrap_or_default().to_owned(), key)
}

fn from_jwk(jwk: &Value) -> Result<VerifyingKey, Unusable> {
    if jwk["use"] == "enc" {
        return Err("is for encryption".to_owned());
    }
    let field = |name: &str| {
        let text = jwk[name].as_str()?.trim_end_matches('=');
        BASE64URL_NOPAD.decode(text.as_bytes()).ok()
    };
    let required = |name| field(name).ok_or_else(|| format!("has no valid `{name}`"));
    let curve = jwk["crv"].as_str().unwrap_or_default();
    let key = match jwk["kty"].as_str().unwrap_or_default() {
        "RSA" => {
            let (modulus, exponent) = (required("n")?, required("e")?);
            check_rsa_bits(der::bits(&modulus))?;
            let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
            let public = DecodingKey::from_rsa_raw_components(&modulus[zeros..], &exponent);
            key(Algorithm::RS256, public)
        }
        "EC" if curve == "P-256" => from_point(&point(&required("x")?, &required("y")?))?,
        "OKP" if curve == "Ed25519" => from_ed25519(&required("x")?)?,
        "EC" | "OKP" => return Err(unfit(curve)),
        "oct" => {
            return Err("holds a secret, which --secret-key-file takes as text".to_owned());
        }
        kind => return Err(unfit(kind)),
    };
    match jwk["alg"].as_str() {
        Some(other) if !is_name_of(other, key.algorithm) => Err(format!(
            "is for {other}, and a key of its type is used with {:?} here",
            key.algorithm
        )),
        _ => Ok(key),
    }
}

/// Returns whether a JSON Web Key with this `alg` is for the algorithm. `Ed25519` is the newer name of EdDSA with that
/// curve (RFC 9864).
fn is_name_of(name: &str, algorithm: Algorithm) -> bool {
    name == format!("{algorithm:?}") || (name == "Ed25519" && algorithm == Algorithm::EdDSA)
}

/// Returns an uncompressed point. Some programs leave out the leading zeros of a coordinate.
fn point(x: &[u8], y: &[u8]) -> Vec<u8> {
    let mut point = vec![4];
    for coordinate in [x, y] {
        let zeros = COORDINATE_BYTES.saturating_sub(coordinate.len());
        point.extend(std::iter::repeat_n(0, zeros));
        point.extend_from_slice(coordinate);
    }
    point
}
