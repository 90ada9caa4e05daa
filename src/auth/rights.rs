//! A client's identity: its user and its rights.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::time::unix_time;
use crate::protocol::{ErrorCode, Refusal, RoomName};

/// Most room patterns in one claim.
const PATTERNS_MAX: usize = 64;
/// Longest user name, in bytes.
const USER_BYTES_MAX: usize = 128;

/// The user and rights of a client, from its token or from the settings for clients without one.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The token's `sub`: 1–128 bytes without control characters.
    pub user: Option<Arc<str>>,
    /// Rooms whose messages, members and history the client may read.
    pub subscribe: RoomPatterns,
    /// Rooms that the client may publish to.
    pub publish: RoomPatterns,
    /// True if the client may list and close clients.
    pub admin: bool,
    /// When the token is valid; `None` without a token.
    pub validity: Option<Validity>,
}

/// The start and end of a token's validity, as time since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The claim `iat`, or when the token was first checked.
    pub from: Duration,
    /// The claim `exp`.
    pub until: Duration,
}

impl Identity {
    /// Returns the identity of every client of a server without keys: all rights except `admin`.
    pub fn anyone() -> Self {
        Self::anonymous(RoomPatterns::every(), RoomPatterns::every())
    }

    /// Returns the identity of a client without a token.
    pub fn anonymous(subscribe: RoomPatterns, publish: RoomPatterns) -> Self {
        Self {
            user: None,
            subscribe,
            publish,
            admin: false,
            validity: None,
        }
    }

    /// Returns how long the token is still valid; `None` without a token.
    pub fn time_left(&self) -> Option<Duration> {
        Some(self.validity?.until.saturating_sub(unix_time()))
    }

    /// Returns an error unless the client may read this room.
    pub fn may_subscribe(&self, room: &RoomName) -> Result<(), Refusal> {
        if self.subscribe.allow(room) {
            return Ok(());
        }
        Err(forbidden(format!("you may not read {room}")))
    }

    /// Returns an error unless the client may publish to this room.
    pub fn may_publish(&self, room: &RoomName) -> Result<(), Refusal> {
        if self.publish.allow(room) {
            return Ok(());
        }
        Err(forbidden(format!("you may not publish to {room}")))
    }
}

fn forbidden(message: String) -> Refusal {
    Refusal::new(ErrorCode::Forbidden, message)
}

/// Parses a user name: 1 to 128 bytes without control characters.
pub(crate) fn parse_user(text: &str) -> Option<Arc<str>> {
    let fits = (1..=USER_BYTES_MAX).contains(&text.len());
    (fits && !text.contains(char::is_control)).then(|| text.into())
}

/// A set of rooms, by name or by prefix: `ops`, `ops-*`, `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomPatterns(Vec<RoomPattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum RoomPattern {
    Exact(RoomName),
    /// In the normal form of names.
    Prefix(Box<str>),
}

impl RoomPatterns {
    /// Matches every room.
    pub fn every() -> Self {
        Self(vec![RoomPattern::Prefix("".into())])
    }

    /// Matches no room.
    pub fn none() -> Self {
        Self::default()
    }

    /// Parses patterns. `Err` is the first pattern that is not valid, or says that there are too many.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let parse = |pattern: &str| {
            let name = |text| RoomName::parse(text).map_err(|_| pattern.to_owned());
            match pattern.strip_suffix('*') {
                Some("") => Ok(RoomPattern::Prefix("".into())),
                Some(prefix) => Ok(RoomPattern::Prefix(name(prefix)?.as_str().into())),
                None => name(pattern).map(RoomPattern::Exact),
            }
        };
        let patterns: Vec<_> = patterns.into_iter().map(parse).collect::<Result<_, _>>()?;
        if patterns.len() > PATTERNS_MAX {
            return Err(format!("more than {PATTERNS_MAX}"));
        }
        Ok(Self(patterns))
    }

    /// Returns whether a pattern matches this room.
    pub fn allow(&self, room: &RoomName) -> bool {
        self.0.iter().any(|pattern| match pattern {
            RoomPattern::Exact(name) => name == room,
            RoomPattern::Prefix(prefix) => room.as_str().starts_with(&**prefix),
        })
    }
}

impl fmt::Display for RoomPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("(no room)");
        }
        for (index, pattern) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            match pattern {
                RoomPattern::Exact(name) => write!(f, "{comma}{name}")?,
                RoomPattern::Prefix(prefix) => write!(f, "{comma}{prefix}*")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_matches_a_name_or_a_prefix() {
        let patterns =
            RoomPatterns::parse(["ops", "team-*", "房间*", "café", "cre\u{300}me-*"]).unwrap();
        for (room, allowed) in [
            ("ops", true),
            ("ops2", false),
            ("team-", true),
            ("team-a", true),
            ("team", false),
            ("房间1", true),
            ("cafe\u{301}", true),
            ("crème-1", true),
            ("creme-1", false),
        ] {
            assert_eq!(
                patterns.allow(&RoomName::parse(room).unwrap()),
                allowed,
                "{room}"
            );
        }
        assert!(RoomPatterns::every().allow(&RoomName::lobby()));
        assert!(!RoomPatterns::none().allow(&RoomName::lobby()));
        for bad in ["", "a b", "*a", "a*b", "a**", "a/*"] {
            assert!(RoomPatterns::parse([bad]).is_err(), "{bad:?}");
        }
        assert!(RoomPatterns::parse(std::iter::repeat_n("a", 65)).is_err());
    }
}
