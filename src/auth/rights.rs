//! A client's identity: its user and its rights.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::time::unix_time;
use crate::protocol::{ErrorCode, Refusal, RoomName, is_user};

/// Most room patterns in one claim.
const PATTERNS_MAX: usize = 64;

/// The user and rights of a client: from its token, from the backend of `--auth-url`, or from the settings.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The origin of the rights.
    pub source: RightsSource,
    /// The claim `sub`: 1–128 bytes without control characters.
    pub user: Option<Arc<str>>,
    /// Rooms whose messages, members and history the client may read.
    pub subscribe: RoomPatterns,
    /// Rooms that the client may publish to.
    pub publish: RoomPatterns,
    /// True if the client may list and close clients.
    pub admin: bool,
    /// When the rights are valid; `None` if they last as long as the connection.
    pub validity: Option<Validity>,
    /// The claim `iat`, or when the backend was asked, as time since the Unix epoch.
    pub issued: Option<Duration>,
}

/// The origin of a client's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RightsSource {
    /// Rights of every client that nothing identifies: those of `--anonymous`, those of a server without keys, or those
    /// of a backend's empty answer.
    Anonymous,
    /// Claims in the answer of the connect hook's backend.
    BackendClaims,
    /// Claims of a token that this server has checked.
    Token,
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

    /// Returns the identity of a client that neither a token nor a backend's claims identify.
    pub fn anonymous(subscribe: RoomPatterns, publish: RoomPatterns) -> Self {
        Self {
            source: RightsSource::Anonymous,
            user: None,
            subscribe,
            publish,
            admin: false,
            validity: None,
            issued: None,
        }
    }

    /// Returns how long the rights are still valid; `None` if they last as long as the connection.
    pub fn time_left(&self) -> Option<Duration> {
        Some(self.validity?.until.saturating_sub(unix_time()))
    }

    /// Returns whether claims identify the client: those of a token, or those in a backend's answer. An end of the rights
    /// is no sign of this, because a backend's claims need no `exp`.
    pub fn is_identified(&self) -> bool {
        match self.source {
            RightsSource::Token | RightsSource::BackendClaims => true,
            RightsSource::Anonymous => false,
        }
    }

    /// Returns the room of the client's user.
    pub fn own_room(&self) -> Option<RoomName> {
        self.user.as_deref().map(RoomName::of_user)
    }

    /// Returns the room that a client asks for with `me`; an error if it has no user.
    pub fn requested_own_room(&self) -> Result<RoomName, Refusal> {
        let message = "`me` takes a token that names a user (`sub`)";
        self.own_room().ok_or_else(|| forbidden(message.to_owned()))
    }

    /// Returns an error unless the client may read this room. Its user's own room needs no right.
    pub fn may_subscribe(&self, room: &RoomName) -> Result<(), Refusal> {
        if self.subscribe.allow(room) {
            return Ok(());
        }
        if !room.is_of_user() {
            return Err(forbidden(format!("you may not read {room}")));
        }
        if self.own_room().as_ref() == Some(room) {
            return Ok(());
        }
        let whose = "it is a user's room: a token of this user opens it, or one that may read `@*`";
        Err(forbidden(format!("you may not read {room}; {whose}")))
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
    is_user(text).then(|| text.into())
}

/// A set of rooms, by name or by prefix: `ops`, `ops-*`, `*`. The rooms of users are in it only by patterns that begin
/// with `@`, so `*` is every room but those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomPatterns(Vec<RoomPattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum RoomPattern {
    Exact(RoomName),
    /// In the normal form of names.
    Prefix(Box<str>),
}

impl RoomPatterns {
    /// Matches every room but those of users.
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
                Some(all @ ("" | "@")) => Ok(RoomPattern::Prefix(all.into())),
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
            RoomPattern::Prefix(prefix) if prefix.is_empty() => !room.is_of_user(),
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
        for bad in ["", "a b", "*a", "a*b", "a**", "a/*", "@", "@:*", "@ *"] {
            assert!(RoomPatterns::parse([bad]).is_err(), "{bad:?}");
        }
        assert!(RoomPatterns::parse(std::iter::repeat_n("a", 65)).is_err());
    }

    #[test]
    fn rooms_of_users_are_matched_only_by_patterns_of_users() {
        let rooms = ["@alice", "@alice2", "@:Lw", "alice"];
        for (pattern, allowed) in [
            ("*", [false, false, false, true]),
            ("@*", [true, true, true, false]),
            ("@alice", [true, false, false, false]),
            ("@alice*", [true, true, false, false]),
            ("a*", [false, false, false, true]),
        ] {
            let patterns = RoomPatterns::parse([pattern]).unwrap();
            let matched = rooms.map(|room| patterns.allow(&RoomName::parse(room).unwrap()));
            assert_eq!(matched, allowed, "{pattern}");
        }
    }

    #[test]
    fn user_reads_the_own_room_and_no_other() {
        let mut identity = Identity::anyone();
        let may = |identity: &Identity, room: &str| {
            let room = RoomName::parse(room).unwrap();
            let may_publish = identity.may_publish(&room).is_ok();
            (identity.may_subscribe(&room).is_ok(), may_publish)
        };
        assert_eq!(may(&identity, "@alice"), (false, false), "no user");
        for (user, room, may_read) in [
            ("alice", "@alice", true),
            ("alice", "@Alice", false),
            ("alice", "@alice2", false),
            ("alice", "@:Lw", false),
            ("/", "@:Lw", true),
            ("caf\u{e9}", "@caf\u{e9}", true),
            ("caf\u{e9}", "@cafe\u{301}", true),
            // Another user, whose name no room name can show.
            ("cafe\u{301}", "@cafe\u{301}", false),
        ] {
            identity.user = Some(user.into());
            assert_eq!(may(&identity, room), (may_read, false), "{user} {room}");
        }
    }
}
