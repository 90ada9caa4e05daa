//! The timer of a session's token: a warning before the token expires, then the close.

use std::time::{Duration, Instant};

use crate::auth::Identity;

/// Time for a client that connected without a token to send one.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between the warning and the expiry.
const EXPIRY_WARNING: Duration = Duration::from_secs(30);
/// Sessions whose tokens expire together are closed over this part of the warning, all before the expiry.
const EXPIRY_SPREAD_PART: u32 = 10;

/// The next action that a token requires, if any.
#[derive(Debug)]
pub(super) struct TokenTimer(Option<Deadline>);

#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Instant,
    action: Action,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Warn { close_at: Instant },
    Close,
}

/// An action that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenEvent {
    /// The token expires in this time.
    ExpiresSoon(Duration),
    /// The token has expired, or none arrived in time.
    Expired,
}

impl TokenTimer {
    /// Starts the timer of a client that has yet to send a token.
    pub(super) fn awaiting_token(now: Instant) -> Self {
        Self(Some(Deadline {
            at: now + TOKEN_TIMEOUT,
            action: Action::Close,
        }))
    }

    /// Starts the timer of a client's token. Never fires for a token that does not expire.
    ///
    /// The close comes at a random moment before the expiry, so that a thousand clients whose tokens were created
    /// together do not reconnect together.
    pub(super) fn for_identity(identity: &Identity, now: Instant) -> Self {
        Self(Self::warning(identity, now))
    }

    fn warning(identity: &Identity, now: Instant) -> Option<Deadline> {
        let (left, validity) = (identity.time_left()?, identity.validity?);
        let lifetime = validity.until.saturating_sub(validity.from);
        let warning = EXPIRY_WARNING.min(lifetime / 2);
        let spread = (warning / EXPIRY_SPREAD_PART).mul_f64(rand::random());
        // A date beyond the range of the clock never comes.
        let close_at = now.checked_add(left.saturating_sub(spread))?;
        let at = close_at.checked_sub(warning).unwrap_or(now).max(now);
        Some(Deadline {
            at,
            action: Action::Warn { close_at },
        })
    }

    /// The time of the next event.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.0.map(|deadline| deadline.at)
    }

    /// Returns the event that is due at this time, once.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<TokenEvent> {
        let due = self.0.take_if(|deadline| deadline.at <= now)?;
        match due.action {
            Action::Warn { close_at } => {
                self.0 = Some(Deadline {
                    at: close_at,
                    action: Action::Close,
                });
                let left = close_at.saturating_duration_since(now);
                Some(TokenEvent::ExpiresSoon(left))
            }
            Action::Close => Some(TokenEvent::Expired),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::auth::Validity;

    fn timer(lifetime: Duration) -> (TokenTimer, Instant) {
        let unix_now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut identity = Identity::anyone();
        identity.validity = Some(Validity {
            from: unix_now,
            until: unix_now + lifetime,
        });
        let now = Instant::now();
        (TokenTimer::for_identity(&identity, now), now)
    }

    #[test]
    fn a_session_is_warned_and_then_closed_in_the_last_tenth_of_the_warning() {
        let hour = Duration::from_secs(3600);
        let mut moments = Vec::new();
        for _ in 0..100 {
            let (mut timer, now) = timer(hour);
            assert_eq!(timer.take_due(now + hour - Duration::from_secs(40)), None);
            let warned = timer.take_due(now + hour - Duration::from_secs(29));
            assert!(
                matches!(warned, Some(TokenEvent::ExpiresSoon(_))),
                "{warned:?}"
            );
            let close_at = timer.next_at().unwrap();
            let before_end = (now + hour).saturating_duration_since(close_at);
            assert!(before_end <= Duration::from_millis(3100), "{before_end:?}");
            moments.push(before_end);
            assert_eq!(timer.take_due(now + hour), Some(TokenEvent::Expired));
        }
        moments.sort_unstable();
        assert!(moments[90] > moments[10] + Duration::from_secs(1), "spread");
    }

    #[test]
    fn a_short_token_is_warned_half_way() {
        let (mut timer, now) = timer(Duration::from_secs(4));
        assert_eq!(timer.take_due(now + Duration::from_millis(1500)), None);
        let warned = timer.take_due(now + Duration::from_millis(2100));
        assert!(
            matches!(warned, Some(TokenEvent::ExpiresSoon(_))),
            "{warned:?}"
        );
    }

    #[test]
    fn a_session_without_a_token_is_closed() {
        let now = Instant::now();
        let mut timer = TokenTimer::awaiting_token(now);
        assert_eq!(timer.take_due(now), None);
        assert_eq!(
            timer.take_due(now + TOKEN_TIMEOUT),
            Some(TokenEvent::Expired)
        );
    }

    #[test]
    fn a_token_for_ages_never_fires() {
        let (timer, _) = timer(Duration::from_secs(u64::MAX - 10_000_000_000));
        assert!(timer.next_at().is_none());
    }
}
