//! Files of public keys, as providers of identities and other programs write them.

use std::fs;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::support::token::{claims, token};
use crate::support::{FAILURE, TempDir, TestServer, run};

const RSA_1024: &str = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCmqHibyFBCxMGBR4Q3G5w6zLSRyt+AcKWDzvBg++ysK646oh7k6n\
    +8kbFwCbptcukfGj57dboS5TzEmmtlaSIDYnaamCGlQwuCvOSk1un01e3v0YXotxlc5PdqOlQn3upNtWjclreb6Lou2B+rq4Chs+7xHUPcCcvrlRTUJ\
    jAHqwIDAQAB";
const P384: &str = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEOJiBPFpB/8td+S/P4+r58ohZiaanmHasvn4G3/tn7c2AwmmeHT6lCKiKJYVTDWVqhl\
    +/B7Wpl/M12MJL5mPH92hfp21UtABkCzYzWCPNyDD0pSWuakMuO/An1d6p9w2o";
const P256_COMPRESSED: &str =
    "MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgAD+4TGXK33qAofS42VdVq9VukTmhnMPUFMCgmdbjuxbYg=";
const ED448: &str =
    "MEMwBQYDK2VxAzoA0pHUUyCyJTPibhOKgeiTNNzIZfamBYm+X3AOR61mS90jp468NaCOtIk5dfLi5m/7BpCJx5+bDUIA";

fn public_pem(base64: &str) -> String {
    pem("PUBLIC KEY", base64)
}

fn pem(label: &str, base64: &str) -> String {
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
}

/// A P-256 key with a certificate, as an identity provider has.
struct Provider {
    key: EcdsaKeyPair,
    certificate: String,
}

impl Provider {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("key");
        let parameters = rcgen::CertificateParams::new(vec!["issuer.example".to_owned()]);
        let certificate = parameters.expect("names").self_signed(&key);
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = key.serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8, &SystemRandom::new());
        Self {
            key: key.expect("key"),
            certificate: certificate.expect("certificate").pem(),
        }
    }

    fn token(&self, header: Value) -> String {
        token(header, &claims(json!({})), |message| {
            let signature = self.key.sign(&SystemRandom::new(), message);
            signature.expect("sign").as_ref().to_vec()
        })
    }

    fn jwk(&self, changes: Value) -> Value {
        let point = self.key.public_key().as_ref();
        let part = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let mut jwk =
            json!({"kty": "EC", "crv": "P-256", "x": part(&point[1..33]), "y": part(&point[33..])});
        for (name, value) in changes.as_object().expect("an object") {
            jwk[name] = value.clone();
        }
        jwk
    }
}

fn rsa_jwk(bits: usize) -> Value {
    let modulus = BASE64URL_NOPAD.encode(&vec![0xff; bits / 8]);
    json!({"kty": "RSA", "n": modulus, "e": "AQAB", "kid": "rsa"})
}

// Forms: a certificate (Auth0), certificates by key id (Firebase), a single key, a key set with keys for encryption, of
// other curves and of unknown types beside it (Keycloak), a byte order mark.
// Invariant: each is read, and a token of its key is accepted.
#[test]
fn keys_are_read_in_the_forms_that_providers_publish() {
    let provider = Provider::new();
    let plain = provider.token(json!({"alg": "ES256"}));
    let named = provider.token(json!({"alg": "ES256", "kid": "b", "typ": "at+jwt"}));
    let other = Provider::new().token(json!({"alg": "ES256", "kid": "b"}));
    let set = json!({"keys": [
        {"kty": "RSA", "use": "enc", "alg": "RSA-OAEP", "n": "AQAB", "e": "AQAB", "kid": "enc"},
        rsa_jwk(1024),
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"},
        provider.jwk(json!({"kid": "b", "use": "sig", "alg": "ES256", "x5c": ["AA"], "key_ops": ["verify"]})),
    ]});
    let by_id = json!({"a": Provider::new().certificate, "b": provider.certificate});
    for (file, name) in [
        (provider.certificate.clone(), "a certificate"),
        (
            provider.certificate.replace('\n', "\r\n"),
            "lines end with CRLF",
        ),
        (
            format!("subject=issuer\n{}", provider.certificate),
            "a text before it",
        ),
        (by_id.to_string(), "certificates by key id"),
        (
            provider.jwk(json!({"kid": "b"})).to_string(),
            "a single key",
        ),
        (format!("\u{feff}{set}"), "a key set"),
    ] {
        let disk = TempDir::new();
        fs::write(disk.path("keys"), &file).expect("write");
        let server = TestServer::start(&["--public-key-file", &disk.arg("keys")]);
        let status = |token: &str| server.raw().get(&format!("/stats?token={token}")).status;
        assert_eq!([status(&plain), status(&named)], [200, 200], "{name}");
        assert_eq!(status(&other), 401, "{name}");
        // The key decides the algorithm.
        let wrong = provider.token(json!({"alg": "RS256"}));
        let response = server.raw().get(&format!("/stats?token={wrong}"));
        assert!(
            response
                .error_message()
                .contains("RS256; this server checks ES256"),
            "{name}"
        );
    }
}

#[test]
fn token_of_a_key_that_is_not_in_the_set_is_refused_with_the_reason() {
    let provider = Provider::new();
    let disk = TempDir::new();
    let set = json!({"keys": [provider.jwk(json!({"kid": "old"}))]});
    fs::write(disk.path("keys"), set.to_string()).expect("write");
    let server = TestServer::start(&["--public-key-file", &disk.arg("keys")]);
    for id in ["new", "", "OLD"] {
        let token = provider.token(json!({"alg": "ES256", "kid": id}));
        let response = server.raw().get(&format!("/stats?token={token}"));
        assert_eq!(response.status, 401);
        assert!(response.error_message().contains("does not have"), "{id}");
    }
}

/// The line names the file and the remedy.
#[test]
fn key_that_no_algorithm_can_use_is_refused_at_the_start() {
    let provider = Provider::new();
    let set = |key: Value| json!({"keys": [key]}).to_string();
    let der = BASE64
        .decode(RSA_1024.replace(['\n', ' '], "").as_bytes())
        .expect("base64");
    let pkcs1 = BASE64.encode(&der[22..]);
    for (file, parts) in [
        (public_pem(P384), &["P-384", "P-256 (ES256)"][..]),
        (public_pem(ED448), &["Ed448", "Ed25519 (EdDSA)"]),
        (public_pem(P256_COMPRESSED), &["compressed", "openssl ec"]),
        (public_pem(RSA_1024), &["1024 bits", "2048"]),
        (pem("RSA PUBLIC KEY", &pkcs1), &["1024 bits", "2048"]),
        (public_pem("AAAA"), &["not a PEM public key"]),
        (pem("CERTIFICATE", "MAA="), &["not a PEM public key"]),
        (
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA a@b".to_owned(),
            &["SSH", "ssh-keygen"],
        ),
        (set(rsa_jwk(1024)), &["1024 bits", "2048"]),
        (set(rsa_jwk(512)), &["512 bits", "2048"]),
        (
            set(json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"})),
            &["P-384", "P-256"],
        ),
        (
            set(json!({"kty": "oct", "k": "AA"})),
            &["--secret-key-file"],
        ),
        (set(provider.jwk(json!({"use": "enc"}))), &["encryption"]),
        (
            set(provider.jwk(json!({"alg": "ES384"}))),
            &["ES384", "ES256"],
        ),
        (set(provider.jwk(json!({"x": "AA!"}))), &["no valid `x`"]),
        (json!({"keys": "x"}).to_string(), &["not a list"]),
        (json!({"a": "no key"}).to_string(), &["no usable key"]),
    ] {
        let disk = TempDir::new();
        fs::write(disk.path("keys"), &file).expect("write");
        let ended = run(&mut TestServer::command(&[
            "--public-key-file",
            &disk.arg("keys"),
        ]));
        assert_eq!(ended.code, FAILURE, "{file}: {}", ended.stderr);
        let line = ended.stderr.lines().last().expect("a line");
        for part in parts {
            assert!(line.contains(part), "{file}: {line}");
        }
    }
}
