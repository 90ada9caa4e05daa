//! The members that do not receive a publication.

use std::fmt;
use std::str::FromStr;

use crate::protocol::{ClientId, SessionHash, UserHash};

/// The members of a room that do not receive a publication, because they have published it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exclusion {
    /// The client that published it. It receives an acknowledgement in place of the publication.
    Client(ClientId),
    /// The clients of a user with the session of an HTTP request.
    Session(SessionHash, ExcludedUser),
}

/// The user whose clients an exclusion by session concerns. A session alone is not enough: a user who learns the session
/// of another must not keep messages from that user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExcludedUser {
    /// Every user, and clients without one: the publisher is a backend, whose token or claims name no user.
    Any,
    /// Clients without a user: the publisher has neither a token nor a backend's claims.
    Nobody,
    /// The publisher's user.
    Only(UserHash),
}

impl ExcludedUser {
    /// Returns whether the exclusion concerns a client of this user.
    pub(crate) fn includes(self, user: Option<&str>) -> bool {
        match (self, user) {
            (Self::Any, _) | (Self::Nobody, None) => true,
            (Self::Only(hash), Some(user)) => hash == UserHash::of(user),
            (Self::Nobody, Some(_)) | (Self::Only(_), None) => false,
        }
    }
}

/// A letter, then the client, or the session and the user: the form in which nodes relay it.
impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(client) => write!(f, "c{client}"),
            Self::Session(session, ExcludedUser::Any) => write!(f, "s{session}"),
            Self::Session(session, ExcludedUser::Nobody) => write!(f, "n{session}"),
            Self::Session(session, ExcludedUser::Only(user)) => write!(f, "u{session}-{user}"),
        }
    }
}

/// Parses the output of [`Display`](fmt::Display).
impl FromStr for Exclusion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, rest) = text.split_at_checked(1).ok_or(())?;
        match kind {
            "c" => rest.parse().map(Self::Client),
            "s" => Ok(Self::Session(rest.parse()?, ExcludedUser::Any)),
            "n" => Ok(Self::Session(rest.parse()?, ExcludedUser::Nobody)),
            "u" => {
                let (session, user) = rest.split_once('-').ok_or(())?;
                let user = ExcludedUser::Only(user.parse()?);
                Ok(Self::Session(session.parse()?, user))
            }
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Scope;

    #[test]
    fn relayed_form_can_be_read() {
        let scope = Scope::session("a session of its own").unwrap();
        let session = SessionHash::of(&scope).unwrap();
        for exclusion in [
            Exclusion::Client(ClientId::new(7, 9)),
            Exclusion::Session(session, ExcludedUser::Any),
            Exclusion::Session(session, ExcludedUser::Nobody),
            Exclusion::Session(session, ExcludedUser::Only(UserHash::of("a b"))),
        ] {
            let text = exclusion.to_string();
            assert_eq!(text.parse(), Ok(exclusion), "{text}");
            assert!(!text.contains(' '));
        }
        // Earlier nodes relay a session without a user.
        let any = Exclusion::Session(session, ExcludedUser::Any);
        assert_eq!(format!("s{session}").parse(), Ok(any));
        let cut = format!("u{session}-");
        for text in ["", "c", "s", "x1", "s12", "n", "u", "u-", &cut, "房间"] {
            assert_eq!(text.parse::<Exclusion>(), Err(()), "{text}");
        }
    }

    #[test]
    fn session_of_another_user_is_not_excluded() {
        let alice = ExcludedUser::Only(UserHash::of("alice"));
        for (excluded, user, included) in [
            (alice, Some("alice"), true),
            (alice, Some("Alice"), false),
            (alice, None, false),
            (ExcludedUser::Nobody, None, true),
            (ExcludedUser::Nobody, Some("alice"), false),
            (ExcludedUser::Any, None, true),
            (ExcludedUser::Any, Some("alice"), true),
        ] {
            assert_eq!(excluded.includes(user), included, "{excluded:?} {user:?}");
        }
    }
}
