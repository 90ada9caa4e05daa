//! The reasons why a key cannot be used, and the settings that they name.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Shortest secret, in bytes: the size of the hash of HS256 (RFC 7518 §3.2).
pub(super) const SECRET_BYTES_MIN: usize = 32;
/// The setting of the public keys.
pub(super) const PUBLIC_KEY_FILE: &str = "--public-key-file";

/// The reason why a key cannot be used. Its text is one line without the key.
#[derive(Debug)]
pub enum KeyError {
    /// The file of this setting cannot be read.
    File(&'static str, PathBuf, io::Error),
    /// The secret has fewer bytes than the algorithm's hash.
    TooShort(String),
    /// The secret is well known or repeats a few characters.
    Guessable(String),
    /// The secret is a key or a certificate in PEM, which may be public.
    Pem(String),
    /// The secret is in UTF-16, so its bytes differ from the secret that tokens are signed with.
    Utf16(String),
    /// Two secrets have this name.
    NameTwice(String),
    /// There are more named secrets than are tried.
    TooManySecrets,
    /// The file holds no usable key.
    NoKey(PathBuf, String),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const REMEDY: &str = "create a random one with: openssl rand -base64 48";
        match self {
            Self::File(setting, path, why) => write!(f, "{setting} {path:?}: {why}"),
            Self::TooShort(of) => write!(
                f,
                "{of}: a secret needs at least {SECRET_BYTES_MIN} bytes; {REMEDY}"
            ),
            Self::Guessable(of) => {
                write!(f, "{of}: this secret is easy to guess; {REMEDY}")
            }
            Self::Utf16(of) => write!(
                f,
                "{of}: the text is UTF-16, as PowerShell writes it; save it as UTF-8"
            ),
            Self::Pem(of) => write!(
                f,
                "{of}: this is a PEM file, not a secret; set --public-key-file for public keys, or {REMEDY}"
            ),
            Self::NameTwice(name) => write!(
                f,
                "--named-secret-key-files: two secrets are called {name:?}; give each its own name"
            ),
            Self::TooManySecrets => f.write_str(
                "--named-secret-key-files: name at most 16 secrets, and leave out those whose tokens have expired",
            ),
            Self::NoKey(path, why) => write!(
                f,
                "{PUBLIC_KEY_FILE} {path:?}: {why}; name a PEM public key or a JWKS file with RSA, P-256 or \
                 Ed25519 keys"
            ),
        }
    }
}

impl std::error::Error for KeyError {}
