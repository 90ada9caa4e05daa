//! Who a client is and what it may do.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::protocol::{ErrorCode, Refusal, RoomName};

/// Patterns one claim may hold.
const PATTERNS_MAX: usize = 64;
/// Longest name of a user, in bytes.
const USER_BYTES_MAX: usize = 128;

/// A client as its token describes it, or as one without a token is treated.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The token's `sub`: 1–128 bytes without control characters.
    pub user: Option<Arc<str>>,
    /// Rooms whose messages, members and past it may read.
    pub subscribe: RoomPatterns,
    /// Rooms it may publish to.
    pub publish: RoomPatterns,
    /// Whether it may see and close clients.
    pub admin: bool,
    /// How long its token is valid; `None` if there is none to expire.
    pub validity: Option<Validity>,
}

/// When a token begins and ends, in time since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// `iat`, or when it was first seen here.
    pub from: Duration,
    /// `exp`
    pub until: Duration,
}

impl Identity {
    /// One who may do everything but look after other clients: what everyone is without a key.
    pub fn anyone() -> Self {
        Self::anonymous(RoomPatterns::every(), RoomPatterns::every())
    }

    /// One without a token who has these rights.
    pub fn anonymous(subscribe: RoomPatterns, publish: RoomPatterns) -> Self {
        Self {
            user: None,
            subscribe,
            publish,
            admin: false,
            validity: None,
        }
    }

    /// How long its token is still valid; `None` if it has none that ends.
    pub fn time_left(&self) -> Option<Duration> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Some(self.validity?.until.saturating_sub(now))
    }

    /// Refuses unless it may read this room.
    pub fn may_subscribe(&self, room: &RoomName) -> Result<(), Refusal> {
        match self.subscribe.allow(room) {
            true => Ok(()),
            false => Err(forbidden(format!("you may not read {room}"))),
        }
    }

    /// Refuses unless it may publish to this room.
    pub fn may_publish(&self, room: &RoomName) -> Result<(), Refusal> {
        match self.publish.allow(room) {
            true => Ok(()),
            false => Err(forbidden(format!("you may not publish to {room}"))),
        }
    }
}

fn forbidden(message: String) -> Refusal {
    Refusal::new(ErrorCode::Forbidden, message)
}

/// Checks the name of a user.
pub(super) fn user(text: &str) -> Option<Arc<str>> {
    let fits = (1..=USER_BYTES_MAX).contains(&text.len());
    (fits && !text.contains(char::is_control)).then(|| text.into())
}

/// Rooms by name, or by the beginning of their names: `ops`, `ops-*`, `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomPatterns(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(RoomName),
    Prefix(Box<str>),
}

impl RoomPatterns {
    /// All rooms.
    pub fn every() -> Self {
        Self(vec![Pattern::Prefix("".into())])
    }

    /// No room.
    pub fn none() -> Self {
        Self::default()
    }

    /// Understands patterns; `Err` is the one that is none, or says that they are too many.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let parse = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) if prefix.is_empty() || RoomName::parse(prefix).is_ok() => {
                Ok(Pattern::Prefix(prefix.into()))
            }
            Some(_) => Err(pattern.to_owned()),
            None => RoomName::parse(pattern)
                .map(Pattern::Exact)
                .map_err(|_| pattern.to_owned()),
        };
        let patterns: Vec<_> = patterns.into_iter().map(parse).collect::<Result<_, _>>()?;
        if patterns.len() > PATTERNS_MAX {
            return Err(format!("more than {PATTERNS_MAX}"));
        }
        Ok(Self(patterns))
    }

    /// Whether this room is one of them.
    pub fn allow(&self, room: &RoomName) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Exact(name) => name == room,
            Pattern::Prefix(prefix) => room.as_str().starts_with(&**prefix),
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
                Pattern::Exact(name) => write!(f, "{comma}{name}")?,
                Pattern::Prefix(prefix) => write!(f, "{comma}{prefix}*")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_a_room_or_the_beginning_of_many() {
        let patterns = RoomPatterns::parse(["ops", "team-*", "房间*"]).unwrap();
        for (room, allowed) in [
            ("ops", true),
            ("ops2", false),
            ("team-", true),
            ("team-a", true),
            ("team", false),
            ("房间1", true),
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
