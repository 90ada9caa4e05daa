//! The keys that tokens are checked with: secrets and public keys, read from the settings or fetched from a URL, and weak
//! ones refused.

mod crypto;
mod der;
mod error;
mod file;
mod public_keys;
mod remote;
mod secret;
mod verifying;

pub(super) use crypto::install_algorithms;
pub use error::KeyError;
pub(super) use public_keys::read as read_public_keys;
pub(crate) use remote::FetchKeys;
pub(super) use remote::{Refresh, RemoteKeys};
pub(super) use secret::Secret;
pub(super) use verifying::VerifyingKey;
