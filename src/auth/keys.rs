//! The keys that tokens are checked with, and secrets: reading them, and refusing weak ones.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};

/// Shortest secret, in bytes: the size of the hash of HS256 (RFC 7518 §3.2).
const SECRET_BYTES_MIN: usize = 32;
/// Fewest different bytes in a secret; a random secret has more.
const SECRET_VARIETY_MIN: usize = 8;
/// The setting of the public keys.
pub(super) const PUBLIC_KEY_FILE: &str = "--public-key-file";
/// Largest key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 256 * 1024;
/// Texts that people copy from tutorials and do not replace.
const PLACEHOLDERS: [&str; 12] = [
    "secret-key-here",
    "secret_key_here",
    "your-secret",
    "your_secret",
    "yoursecret",
    "your-256-bit",
    "a-string-secret-at-least-256-bits-long",
    "changeme",
    "change-me",
    "change_me",
    "replace-this",
    "insecure",
];

/// A key with its only algorithm; a token cannot choose another.
pub(super) struct VerifyingKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    /// The key's name in its set (`kid`).
    pub(super) id: Option<String>,
}

/// Shows no key material, because debug output may be logged.
impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = self.algorithm;
        write!(f, "VerifyingKey({algorithm:?}, {:?})", self.id)
    }
}

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
    /// The secret is in UTF-16, so that its bytes are not those that the tokens are signed with.
    Utf16(String),
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
            Self::NoKey(path, why) => write!(
                f,
                "{PUBLIC_KEY_FILE} {path:?}: {why}; name a PEM public key or a JWKS file with RSA, P-256 or \
                 Ed25519 keys"
            ),
        }
    }
}

impl std::error::Error for KeyError {}

/// A secret for HS256 that passed the checks for weak secrets.
pub(super) struct Secret(Vec<u8>);

impl Secret {
    /// Checks a secret; `of` names its setting for the error.
    pub(super) fn new(bytes: &[u8], of: &str) -> Result<Self, KeyError> {
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err(KeyError::Utf16(of.to_owned()));
        }
        // Editors of Windows write a byte order mark, which is not part of the secret.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let bytes = bytes.trim_ascii();
        if bytes.starts_with(b"-----BEGIN ") {
            return Err(KeyError::Pem(of.to_owned()));
        }
        let lower = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        let mut different = bytes.to_vec();
        different.sort_unstable();
        different.dedup();
        if PLACEHOLDERS.iter().any(|known| lower.contains(known))
            || (different.len() < SECRET_VARIETY_MIN && bytes.len() >= SECRET_BYTES_MIN)
        {
            return Err(KeyError::Guessable(of.to_owned()));
        }
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(KeyError::TooShort(of.to_owned()));
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Reads a secret from the file of a setting, without the white space around it.
    pub(super) fn read(path: &Path, setting: &'static str) -> Result<Self, KeyError> {
        Self::new(
            &read_key_file(path, setting)?,
            &format!("{setting} {path:?}"),
        )
    }

    pub(super) fn verifying(&self) -> VerifyingKey {
        VerifyingKey {
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(&self.0),
            id: None,
        }
    }

    pub(super) fn signing(&self) -> EncodingKey {
        EncodingKey::from_secret(&self.0)
    }
}

/// Reads the file of a setting with a key, up to its largest size.
pub(super) fn read_key_file(path: &Path, setting: &'static str) -> Result<Vec<u8>, KeyError> {
    let failed = |why| KeyError::File(setting, path.to_owned(), why);
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut bounded = io::Read::take(file, KEY_FILE_BYTES_MAX);
    io::Read::read_to_end(&mut bounded, &mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_secrets_are_refused() {
        for weak in [
            "",
            "short",
            "a-string-secret-at-least-256-bits-long",
            "your-secret-key-change-in-production",
            "django-insecure-0123456789abcdefghijklmnop",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "12121212121212121212121212121212121212121212",
            "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE",
        ] {
            assert!(
                Secret::new(weak.as_bytes(), "SECRET_KEY").is_err(),
                "{weak}"
            );
        }
        let strong = "jO2aXyWnP0s1hV7mUe4kZqLr9tBcDfGiHoJp";
        assert!(Secret::new(strong.as_bytes(), "SECRET_KEY").is_ok());
    }
}
