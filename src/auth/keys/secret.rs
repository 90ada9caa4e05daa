//! Secrets for HS256: refusing those that are easy to guess.

use std::path::Path;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};

use super::error::{KeyError, SECRET_BYTES_MIN};
use super::file::read_key_file;
use super::verifying::VerifyingKey;

/// Fewest different bytes in a secret; a random secret has more.
const SECRET_VARIETY_MIN: usize = 8;
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

/// A secret for HS256 that passed the checks for weak secrets.
pub(in crate::auth) struct Secret {
    bytes: Vec<u8>,
    /// The name that tokens pick it by (`kid`).
    name: Option<String>,
}

impl Secret {
    /// Checks a secret; `of` names its setting for the error.
    pub(in crate::auth) fn new(bytes: &[u8], of: &str) -> Result<Self, KeyError> {
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
        Ok(Self {
            bytes: bytes.to_vec(),
            name: None,
        })
    }

    /// Reads a secret from the file of a setting, without the white space around it.
    pub(in crate::auth) fn read(path: &Path, setting: &'static str) -> Result<Self, KeyError> {
        Self::new(
            &read_key_file(path, setting)?,
            &format!("{setting} {path:?}"),
        )
    }

    /// Gives the secret a name.
    pub(in crate::auth) fn named(self, name: String) -> Self {
        Self {
            name: Some(name),
            ..self
        }
    }

    pub(in crate::auth) fn name(&self) -> Option<&String> {
        self.name.as_ref()
    }

    pub(in crate::auth) fn verifying(&self) -> VerifyingKey {
        VerifyingKey {
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(&self.bytes),
            id: self.name.clone(),
        }
    }

    pub(in crate::auth) fn signing(&self) -> EncodingKey {
        EncodingKey::from_secret(&self.bytes)
    }
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
