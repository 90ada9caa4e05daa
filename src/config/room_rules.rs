//! Rules for rooms by name: the history, members, publishers, presence and messages of the rooms that a pattern matches.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::{Config, ConfigError};
use crate::protocol::RoomName;

/// Most rules. A room's rule is looked up whenever a client joins the room or publishes to it.
pub const RULES_MAX: usize = 100;
/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 256;

/// The rules, of which the first that matches a room counts. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RoomRules(Arc<[RoomRule]>);

/// A rule for the rooms that its pattern matches. A bound that is `None` is that of the flag.
#[derive(Clone, Debug)]
pub struct RoomRule {
    /// The rooms.
    pub pattern: RoomGlob,
    /// The path and the line at which the rule begins, for errors.
    pub place: String,
    /// Messages of history; 0 for none.
    pub history_messages: Option<usize>,
    /// Payload bytes of history.
    pub history_bytes: Option<usize>,
    /// Time that a message is kept, at most that of the flag; zero for none.
    pub history_age: Option<Duration>,
    /// Members; 0 for no limit.
    pub max_members: Option<u32>,
    /// The clients that may publish.
    pub publish: Publishers,
    /// True if members may see the other members.
    pub presence: bool,
    /// Bytes of a payload, at most those of a message.
    pub max_message_bytes: Option<usize>,
}

impl RoomRule {
    /// Returns a rule without bounds, for every room.
    pub fn unlimited(place: String) -> Self {
        Self {
            pattern: RoomGlob {
                parts: Box::new(["".into(), "".into()]),
            },
            place,
            history_messages: None,
            history_bytes: None,
            history_age: None,
            max_members: None,
            publish: Publishers::default(),
            presence: true,
            max_message_bytes: None,
        }
    }
}

/// The clients that may publish to a room, of those whose rights grant it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publishers {
    /// Also clients that nothing identifies, if they have the right.
    #[default]
    Anyone,
    /// Clients that a token identifies, or claims of the connect hook's backend.
    Token,
    /// The same clients, over HTTP only.
    Server,
}

impl FromStr for Publishers {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "anyone" => Ok(Self::Anyone),
            "token" => Ok(Self::Token),
            "server" => Ok(Self::Server),
            _ => Err("write anyone, token or server"),
        }
    }
}

/// The bounds of one room's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoomHistory {
    /// Messages; 0 for none.
    pub(crate) messages: usize,
    /// Payload bytes.
    pub(crate) bytes: usize,
    /// Time that a message is kept.
    pub(crate) age: Duration,
}

/// A pattern of room names, in which each `*` stands for any characters, or for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomGlob {
    /// The parts between the stars, in the normal form of names; a single part without a star.
    parts: Box<[Box<str>]>,
}

impl RoomGlob {
    /// Returns whether the pattern matches a room, in time proportional to the length of the name for each part.
    pub fn matches(&self, room: &RoomName) -> bool {
        self.matches_text(room.as_str())
    }

    /// Returns whether the pattern matches every room that another one matches.
    fn covers(&self, other: &Self) -> bool {
        // A star of the other pattern stands for any characters, so only a star can match it. No name contains `*`.
        self.matches_text(&other.to_string())
    }

    fn matches_text(&self, name: &str) -> bool {
        let [first, middle @ .., last] = &*self.parts else {
            return self.parts.iter().any(|part| **part == *name);
        };
        let rest = name.strip_prefix(&**first);
        let Some(mut rest) = rest.and_then(|rest| rest.strip_suffix(&**last)) else {
            return false;
        };
        // The leftmost place of a part leaves the most for the parts after it, so no other place need be tried.
        for part in middle {
            match rest.find(&**part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }
}

impl FromStr for RoomGlob {
    type Err = String;

    /// Parses a pattern. An `Err` says why it matches no room.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const INSTEAD: &str = "write the name of a room, with * for any characters, such as chat:*";
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!(
                "it is longer than {PATTERN_BYTES_MAX} bytes; {INSTEAD}"
            ));
        }
        let parts = RoomName::parse_pattern(text)
            .map_err(|why| format!("no room has such a name: {why}; {INSTEAD}"))?;
        Ok(Self { parts })
    }
}

impl fmt::Display for RoomGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts.join("*"))
    }
}

impl fmt::Display for RoomRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.pattern)?;
        if let Some(messages) = self.history_messages {
            write!(f, " history-messages {messages}")?;
        }
        if let Some(bytes) = self.history_bytes {
            write!(f, " history-bytes {bytes}")?;
        }
        if let Some(age) = self.history_age {
            write!(f, " history-age {age:?}")?;
        }
        if let Some(members) = self.max_members {
            write!(f, " max-members {members}")?;
        }
        if let Some(bytes) = self.max_message_bytes {
            write!(f, " max-message-bytes {bytes}")?;
        }
        match self.publish {
            Publishers::Anyone => {}
            Publishers::Token => f.write_str(" publish token")?,
            Publishers::Server => f.write_str(" publish server")?,
        }
        if !self.presence {
            f.write_str(" presence off")?;
        }
        Ok(())
    }
}

impl RoomRules {
    /// Returns these rules, in order; at most [`RULES_MAX`].
    pub fn new(rules: Vec<RoomRule>) -> Self {
        Self(rules.into())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the first rule that matches a room.
    pub(crate) fn find(&self, room: &RoomName) -> Option<&RoomRule> {
        self.0.iter().find(|rule| rule.pattern.matches(room))
    }

    /// Returns each rule that applies to no room, after the first rule that hides it.
    pub fn hidden(&self) -> impl Iterator<Item = (&RoomRule, &RoomRule)> {
        self.0.iter().enumerate().filter_map(|(at, rule)| {
            let mut earlier = self.0[..at].iter();
            let hiding = earlier.find(|earlier| earlier.pattern.covers(&rule.pattern))?;
            Some((hiding, rule))
        })
    }

    /// Returns whether a rule keeps messages for a shorter time than the flag.
    pub(crate) fn any_shortens_age(&self) -> bool {
        self.0.iter().any(|rule| rule.history_age.is_some())
    }

    /// Returns each rule as one line, to be shown and compared.
    pub fn describe(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }

    /// Checks the rules against the settings that bound them.
    pub(super) fn validate(&self, config: &Config) -> Result<(), ConfigError> {
        for rule in self.0.iter() {
            let wrong = |instead: String| {
                Err(ConfigError {
                    setting: "[[rooms]] at",
                    value: rule.place.clone(),
                    instead,
                })
            };
            if rule.history_age.is_some_and(|age| age > config.history.age) {
                let max = config.history.age.as_secs_f64();
                return wrong(format!(
                    "history-age is longer than --history-age; write at most {max} seconds, or raise the flag"
                ));
            }
            let max = config.limits.max_message_bytes;
            if rule.max_message_bytes.is_some_and(|bytes| bytes > max) {
                return wrong(format!(
                    "max-message-bytes is more than --max-message-bytes; write at most {max}, or raise the flag"
                ));
            }
            let identifies_clients = config.auth.has_keys() || config.auth.asks_backend;
            if rule.publish != Publishers::Anyone && !identifies_clients {
                return wrong(
                    "publish needs a key that tokens are checked with, or a backend that knows clients; set \
                     --secret-key-file, SECRET_KEY, --named-secret-key-files, --public-key-file, --jwks-url or \
                     --auth-url, or write publish = \"anyone\""
                        .to_owned(),
                );
            }
        }
        Ok(())
    }
}

impl Config {
    /// Returns the bounds of a room's history.
    pub(crate) fn room_history(&self, room: &RoomName) -> RoomHistory {
        let limits = RoomHistory {
            messages: self.history.messages,
            bytes: self.history.bytes,
            age: self.history.age,
        };
        let Some(rule) = self.rooms.find(room) else {
            return limits;
        };
        let is_none = rule.history_age.is_some_and(|age| age.is_zero());
        RoomHistory {
            messages: match rule.history_messages {
                _ if is_none => 0,
                messages => messages.unwrap_or(limits.messages),
            },
            bytes: rule.history_bytes.unwrap_or(limits.bytes),
            age: rule.history_age.unwrap_or(limits.age),
        }
    }

    /// Returns the most members of a room; `None` is no limit.
    pub(crate) fn room_members_max(&self, room: &RoomName) -> Option<NonZeroU32> {
        let rule = self.rooms.find(room).and_then(|rule| rule.max_members);
        rule.map_or(self.limits.max_members_per_room, NonZeroU32::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        let glob: RoomGlob = pattern.parse().unwrap();
        glob.matches(&RoomName::parse(name).unwrap())
    }

    #[test]
    fn star_matches_any_characters_or_none() {
        for (pattern, name, expected) in [
            ("*", "lobby", true),
            ("**", "lobby", true),
            ("lobby", "lobby", true),
            ("lobby", "lobby2", false),
            ("lobby", "Lobby", false),
            ("chat:*", "chat:", true),
            ("chat:*", "chat:a", true),
            ("chat:*", "chat", false),
            ("*:private", "a:private", true),
            ("*:private", ":private", true),
            ("*:private", "a:private:b", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("team-*-ops", "team-7-ops", true),
            ("team-*-ops", "team-ops", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("a*bc*bc", "abcbc", true),
            ("a*bc*bc", "abc", false),
            ("caf\u{e9}*", "cafe\u{301}-1", true),
            ("房间*", "房间1", true),
            ("*", "@alice", true),
            ("@*", "@alice", true),
            ("@*", "@:Og", true),
            ("@*", "alice", false),
            ("@:*", "@:Og", true),
            ("@:*", "@alice", false),
            ("@*@example.com", "@alice@example.com", true),
            ("@*@example.com", "@alice", false),
            ("*@example.com", "@alice@example.com", true),
            (
                "\u{645}\u{64a}\u{200c}*",
                "\u{645}\u{64a}\u{200c}\u{62e}",
                true,
            ),
            ("\u{645}\u{64a}\u{200c}*", "\u{645}\u{64a}\u{62e}", false),
            ("q*\u{301}", "q\u{301}", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        for bad in [
            "",
            "a b",
            "a/*",
            "chat:?",
            "[ab]",
            "\u{301}*",
            "a*@example.com",
            "@:alice*",
        ] {
            let why = bad.parse::<RoomGlob>().expect_err(bad);
            assert!(why.contains("no room has such a name"), "{bad:?}: {why}");
        }
        let why = "a".repeat(257).parse::<RoomGlob>().expect_err("too long");
        assert!(why.contains("256 bytes"), "{why}");
    }

    #[test]
    fn pattern_covers_what_is_narrower() {
        for (pattern, other, expected) in [
            ("*", "chat:*", true),
            ("chat:*", "*", false),
            ("chat:*", "chat:*", true),
            ("chat:*", "chat:a*", true),
            ("chat:*", "chat:lobby", true),
            ("chat:a*", "chat:*", false),
            ("*:a", "chat:*", false),
            ("*:a", "chat:*:a", true),
            ("a*b", "a*c*b", true),
            ("a*c*b", "a*b", false),
            ("lobby", "lobby", true),
            ("lobby", "lobby*", false),
        ] {
            let [pattern, other]: [RoomGlob; 2] =
                [pattern, other].map(|text| text.parse().unwrap());
            assert_eq!(pattern.covers(&other), expected, "{pattern} {other}");
        }
    }

    #[test]
    fn hostile_pattern_is_matched_at_once() {
        let glob: RoomGlob = "a*".repeat(64).parse().unwrap();
        let name = RoomName::parse(&format!("{}b", "a".repeat(63))).unwrap();
        let started = std::time::Instant::now();
        assert!((0..10_000).all(|_| !glob.matches(&name)));
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
