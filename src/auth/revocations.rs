//! Revoked users: every token of such a user that was issued until then is refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::rights::Identity;
use super::time::unix_time;

/// Time for which a revocation is kept. A token that is valid for longer would be accepted again afterwards.
pub(crate) const REVOCATION_KEPT: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// Most users whose revocations are kept.
pub(crate) const REVOCATIONS_MAX: usize = 100_000;

/// The revoked users, each with the time of the revocation since the Unix epoch. A store that survives restarts also
/// keeps them.
#[derive(Debug, Default)]
pub(crate) struct Revocations(RwLock<HashMap<Arc<str>, Duration>>);

/// The limit of revocations is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyRevocations;

impl Revocations {
    /// Revokes a user. Returns whether that is new: false if the user was revoked at this time or later.
    pub(crate) fn add(&self, user: &str, at: Duration) -> Result<bool, TooManyRevocations> {
        let mut users = self.0.write();
        if let Some(known) = users.get_mut(user) {
            let is_new = *known < at;
            *known = at.max(*known);
            return Ok(is_new);
        }
        if users.len() >= REVOCATIONS_MAX {
            let oldest = oldest_kept(unix_time());
            users.retain(|_, at| *at >= oldest);
        }
        if users.len() >= REVOCATIONS_MAX {
            return Err(TooManyRevocations);
        }
        users.insert(user.into(), at);
        Ok(true)
    }

    /// Returns whether the identity's token was issued before its user was revoked. A token that does not say when it was
    /// issued may have been.
    pub(crate) fn include(&self, identity: &Identity) -> bool {
        let Some(user) = &identity.user else {
            return false;
        };
        let users = self.0.read();
        let revoked = users.get(user).copied();
        revoked.is_some_and(|at| {
            at >= oldest_kept(unix_time()) && identity.issued.is_none_or(|issued| issued <= at)
        })
    }

    /// Returns the number of revoked users.
    pub(crate) fn len(&self) -> usize {
        self.0.read().len()
    }
}

/// Returns the time of the oldest revocation that is kept.
pub(crate) fn oldest_kept(now: Duration) -> Duration {
    now.saturating_sub(REVOCATION_KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(user: &str, issued: Option<Duration>) -> Identity {
        Identity {
            user: Some(user.into()),
            issued,
            ..Identity::anyone()
        }
    }

    #[test]
    fn tokens_of_a_revoked_user_are_refused_if_they_are_older() {
        let revocations = Revocations::default();
        let now = unix_time();
        assert_eq!(revocations.add("alice", now), Ok(true));
        assert_eq!(revocations.add("alice", now), Ok(false));
        let second = Duration::from_secs(1);
        for (issued, is_refused) in [
            (Some(now - second), true),
            (Some(now), true),
            (None, true),
            (Some(now + second), false),
        ] {
            assert_eq!(revocations.include(&identity("alice", issued)), is_refused);
            assert!(!revocations.include(&identity("bob", issued)));
        }
        assert!(!revocations.include(&Identity::anyone()));
        // A later one counts, and an earlier one that arrives late changes nothing.
        assert_eq!(revocations.add("alice", now + second), Ok(true));
        assert_eq!(revocations.add("alice", now), Ok(false));
        assert!(revocations.include(&identity("alice", Some(now + second))));
    }

    #[test]
    fn revocations_are_bounded_and_expire() {
        let revocations = Revocations::default();
        let now = unix_time();
        let expired = now - REVOCATION_KEPT - Duration::from_secs(1);
        assert_eq!(revocations.add("old", expired), Ok(true));
        assert!(!revocations.include(&identity("old", None)));
        for n in 1..REVOCATIONS_MAX {
            assert_eq!(revocations.add(&n.to_string(), now), Ok(true));
        }
        assert_eq!(revocations.add("alice", now), Ok(true), "takes the place");
        assert_eq!(revocations.add("bob", now), Err(TooManyRevocations));
        assert_eq!(revocations.add("alice", now + REVOCATION_KEPT), Ok(true));
        assert_eq!(revocations.len(), REVOCATIONS_MAX);
    }
}
