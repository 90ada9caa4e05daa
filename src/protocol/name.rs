//! Names a client may choose or is given: rooms, requests, clients, epochs.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest room name, in characters.
const ROOM_NAME_CHARS_MAX: usize = 64;
/// Longest request id, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// A group of clients: 1–64 characters, each a letter or digit of any script or one of `. _ - :`.
///
/// The alphabet needs no escaping in JSON, in a header or in a log line, and holds no separator that a
/// path or a storage key could trip over. Names are compared byte for byte; no Unicode normalisation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(Arc<str>);

/// Why a text is no [`RoomName`] or [`RequestId`]; its `Display` is a sentence for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Nothing was given.
    Empty,
    /// Longer than the bound.
    TooLong,
    /// Holds a character outside the alphabet.
    Character(char),
}

impl RoomName {
    /// The room everyone joins unless they ask otherwise.
    pub fn lobby() -> Self {
        Self(Arc::from("lobby"))
    }

    /// Checks a name given by a client.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.chars().nth(ROOM_NAME_CHARS_MAX).is_some() {
            return Err(NameError::TooLong);
        }
        match text.chars().find(|c| !is_room_character(*c)) {
            Some(c) => Err(NameError::Character(c)),
            None => Ok(Self(Arc::from(text))),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_room_character(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | ':')
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::TooLong => f.write_str("it is longer than 64"),
            Self::Character(c) => write!(f, "it holds {c:?}"),
        }
    }
}

/// The client's own name for one request, repeated in the answer: 1–64 bytes of any text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// Checks an id given by a client.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.len() {
            0 => Err(NameError::Empty),
            n if n > REQUEST_ID_BYTES_MAX => Err(NameError::TooLong),
            _ => Ok(Self(text.into())),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Within what the ids of publishes are compared, so that two clients that both count 1, 2, 3 do not
/// swallow each other's messages: the user its token names, else the session the client chose on
/// connecting, else the connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The `sub` of a token.
    User(Arc<str>),
    /// The text of `?session=`: chosen at random by the client, kept over reconnects, never relayed.
    Session(Arc<str>),
    /// One connection.
    Connection(ClientId),
}

impl Scope {
    /// Checks a session given by a client: 16 to 128 bytes, so that it can hardly be guessed.
    pub fn session(text: &str) -> Option<Self> {
        (16..=128)
            .contains(&text.len())
            .then(|| Self::Session(text.into()))
    }

    /// The text by which a store keeps it; that of a connection is not worth keeping.
    pub fn to_stored(&self) -> Option<String> {
        match self {
            Self::User(user) => Some(format!("u:{user}")),
            Self::Session(session) => Some(format!("s:{session}")),
            Self::Connection(_) => None,
        }
    }

    /// The text by which a store that outlives no connection knows it.
    pub fn to_text(&self) -> String {
        match self {
            Self::Connection(client) => format!("c:{client}"),
            kept => kept.to_stored().unwrap_or_default(),
        }
    }

    /// Understands what [`to_stored`](Self::to_stored) gave.
    pub fn from_stored(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("u", user) => Some(Self::User(user.into())),
            ("s", session) => Self::session(session),
            _ => None,
        }
    }
}

/// A connection's name, unique over restarts and nodes: `c`, a random word for the process, a count.
///
/// It is public (every message says who sent it), so it is no secret and grants nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId {
    process: u32,
    count: u64,
}

impl ClientId {
    /// The `count`-th connection of the process that drew `process` at its start.
    pub fn new(process: u32, count: u64) -> Self {
        Self { process, count }
    }
}

/// What [`Display`](fmt::Display) writes.
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
        // One spelling only.
        (id.to_string() == text).then_some(id).ok_or(())
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{:08x}-{}", self.process, self.count)
    }
}

/// One numbering of a room: offsets are comparable only within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// A numbering that nobody has seen before.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

/// The sixteen hexadecimal digits that [`Display`](fmt::Display) writes.
impl FromStr for Epoch {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok();
        number.filter(|_| digits).map(Self).ok_or(())
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
    fn room_names_at_the_edges() {
        assert_eq!(RoomName::parse(""), Err(NameError::Empty));
        assert!(RoomName::parse(&"é".repeat(64)).is_ok());
        assert_eq!(RoomName::parse(&"é".repeat(65)), Err(NameError::TooLong));
        assert!(RoomName::parse("房间.1_a-b:c").is_ok());
        for bad in ["a b", "a/b", "a\"b", "a\r\nb", "a\0", "*", "a%20", "<b>"] {
            assert!(
                matches!(RoomName::parse(bad), Err(NameError::Character(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn request_ids_are_bounded_in_bytes() {
        assert!(RequestId::parse(&"x".repeat(64)).is_ok());
        assert_eq!(RequestId::parse(&"x".repeat(65)), Err(NameError::TooLong));
        assert_eq!(RequestId::parse(""), Err(NameError::Empty));
    }
}
