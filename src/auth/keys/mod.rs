//! The keys that tokens are checked with: secrets and public keys, read from the settings, and weak ones refused.

mod crypto;
mod der;
mod error;
mod file;
mod public_keys;
mod secret;
mod verifying;

pub(super) use crypto::install_algorithms;
pub use error::KeyError;
pub(super) use public_keys::read as read_public_keys;
pub(super) use secret::Secret;
pub(super) use verifying::VerifyingKey;
