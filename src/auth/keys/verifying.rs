//! A key that tokens are checked with.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey};

/// A key with its only algorithm; a token cannot choose another.
pub(in crate::auth) struct VerifyingKey {
    pub(in crate::auth) algorithm: Algorithm,
    pub(in crate::auth) key: DecodingKey,
    /// The key's name in its set (`kid`).
    pub(in crate::auth) id: Option<String>,
}

/// Shows no key material, because debug output may be logged.
impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = self.algorithm;
        write!(f, "VerifyingKey({algorithm:?}, {:?})", self.id)
    }
}
