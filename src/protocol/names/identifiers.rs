//! Identifiers: request ids, client ids, epochs, and the scopes of publish ids.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use serde::{Serialize, Serializer};

use super::room_name::NameError;

/// Longest request id, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// A client's id for one request, repeated in the reply: 1–64 bytes of any text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// Parses an id given by a client.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.len() {
            0 => Err(NameError::Empty),
            n if n > REQUEST_ID_BYTES_MAX => Err(NameError::TooLong),
            _ => Ok(Self(text.into())),
        }
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The scope in which publish ids are unique. Two clients that both count 1, 2, 3 have different scopes, so
/// neither's messages are taken for duplicates of the other's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The user that the client's token names.
    User(Arc<str>),
    /// Without a user: the text of `?session=`, which the client chose at random and keeps when it reconnects.
    /// It is never relayed.
    Session(Arc<str>),
    /// Without both: the connection.
    Connection(ClientId),
}

impl Scope {
    /// Parses a session given by a client: 16 to 128 bytes, so that it is hard to guess.
    pub fn session(text: &str) -> Option<Self> {
        (16..=128)
            .contains(&text.len())
            .then(|| Self::Session(text.into()))
    }

    /// Returns the scope's text in a store that survives restarts. `None` for a connection, which ends at a restart.
    pub fn to_stored(&self) -> Option<String> {
        match self {
            Self::User(user) => Some(format!("u:{user}")),
            Self::Session(session) => Some(format!("s:{session}")),
            Self::Connection(_) => None,
        }
    }

    /// Returns the scope's text in a store that keeps the scopes of connections too.
    pub fn to_text(&self) -> String {
        match self {
            Self::Connection(client) => format!("c:{client}"),
            Self::User(_) | Self::Session(_) => self.to_stored().unwrap_or_default(),
        }
    }

    /// Parses the result of [`to_stored`](Self::to_stored).
    pub fn from_stored(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("u", user) => Some(Self::User(user.into())),
            ("s", session) => Self::session(session),
            _ => None,
        }
    }
}

/// A hash of the session that a client chose, by which nodes find its clients without relaying the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionHash(u64);

impl SessionHash {
    /// Returns the hash of a scope that is a session.
    pub fn of(scope: &Scope) -> Option<Self> {
        let Scope::Session(session) = scope else {
            return None;
        };
        Some(Self(hash(session)))
    }
}

/// Parses the sixteen hexadecimal digits that [`Display`](fmt::Display) writes.
impl FromStr for SessionHash {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        parse_u64(text).map(Self)
    }
}

impl fmt::Display for SessionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A hash of a user, by which nodes compare users in a record where names of any text have no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserHash(u64);

impl UserHash {
    /// Returns the hash of the `sub` of a token.
    pub fn of(user: &str) -> Self {
        Self(hash(user))
    }
}

/// Parses the sixteen hexadecimal digits that [`Display`](fmt::Display) writes.
impl FromStr for UserHash {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        parse_u64(text).map(Self)
    }
}

impl fmt::Display for UserHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Returns the first 64 bits of the text's SHA-256.
fn hash(text: &str) -> u64 {
    let digest = digest(&SHA256, text.as_bytes());
    let first = digest.as_ref().iter().take(8);
    first.fold(0, |bits, byte| (bits << 8) | u64::from(*byte))
}

/// Parses sixteen hexadecimal digits.
fn parse_u64(text: &str) -> Result<u64, ()> {
    let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = u64::from_str_radix(text, 16).ok();
    number.filter(|_| digits).ok_or(())
}

/// A client's id, unique across restarts and nodes: `c`, a random number of the process, a count.
///
/// It is public, because every message contains its publisher's id. It is no secret and grants no rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId {
    process: u32,
    count: u64,
}

impl ClientId {
    /// Returns the id of a process's connection number `count`; the process chose `process` at random.
    pub fn new(process: u32, count: u64) -> Self {
        Self { process, count }
    }
}

/// Parses the output of [`Display`](fmt::Display).
impl FromStr for ClientId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (process, count) = text
            .strip_prefix('c')
            .and_then(|t| t.split_once('-'))
            .ok_or(())?;
        let id = Self {
            process: u32::from_str_radix(process, 16).map_err(|_| ())?,
            count: count.parse().map_err(|_| ())?,
        };
        // Other spellings of the same numbers are refused.
        (id.to_string() == text).then_some(id).ok_or(())
    }
}

impl Serialize for ClientId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{:08x}-{}", self.process, self.count)
    }
}

/// An epoch of a room's numbering. Offsets are comparable only within one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// Returns a new epoch.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Returns the epoch of these bytes.
    pub(in crate::protocol) fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    /// Returns the bytes of the epoch.
    pub(in crate::protocol) fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

/// Parses the sixteen hexadecimal digits that [`Display`](fmt::Display) writes.
impl FromStr for Epoch {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        parse_u64(text).map(Self)
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_limited_in_bytes() {
        assert!(RequestId::parse(&"x".repeat(64)).is_ok());
        assert_eq!(RequestId::parse(&"x".repeat(65)), Err(NameError::TooLong));
        assert_eq!(RequestId::parse(""), Err(NameError::Empty));
    }
}
