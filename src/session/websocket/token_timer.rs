//! The timer of a session's token: a warning before the token expires, then the close.
//!
//! A token expires by the wall clock, which may be set, and which keeps running while the machine is suspended.
//! Sessions wait by the monotonic clock, so the timer compares the wall clock again from time to time.

use std::time::{Duration, Instant};

use crate::auth::Identity;
use crate::session::TOKEN_CHECK_INTERVAL;

/// Time for a client that connected without a token to send one.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between the warning and the expiry.
const EXPIRY_WARNING: Duration = Duration::from_secs(30);
/// Sessions whose tokens expire together are closed at random times in the last tenth of the warning.
const EXPIRY_SPREAD_PART: u32 = 10;

/// Waits for the next event of a token, if there is one.
#[derive(Debug)]
pub(super) struct TokenTimer(Option<Waiting>);

#[derive(Clone, Copy, Debug)]
enum Waiting {
    /// For the first token, until this time.
    ForToken(Instant),
    /// For the token to expire.
    ForExpiry(Expiry),
}

/// The events of a token by the wall clock, as time since the Unix epoch.
#[derive(Clone, Copy, Debug)]
struct Expiry {
    warn_at: Duration,
    close_at: Duration,
    is_warned: bool,
    /// When to compare the wall clock again.
    check_at: Instant,
}

/// An event that is due.
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
        Self(Some(Waiting::ForToken(now + TOKEN_TIMEOUT)))
    }

    /// Starts the timer of a client's token. Never fires for a client without one. `unix_now` is the wall clock.
    ///
    /// The close comes at a random moment before the expiry, so that a thousand clients whose tokens were created
    /// together do not reconnect together.
    pub(super) fn for_identity(identity: &Identity, now: Instant, unix_now: Duration) -> Self {
        let expiry = identity.validity.map(|validity| {
            let lifetime = validity.until.saturating_sub(validity.from);
            let warning = EXPIRY_WARNING.min(lifetime / 2);
            let spread = (warning / EXPIRY_SPREAD_PART).mul_f64(rand::random());
            let close_at = validity.until.saturating_sub(spread);
            let mut expiry = Expiry {
                warn_at: close_at.saturating_sub(warning),
                close_at,
                is_warned: false,
                check_at: now,
            };
            expiry.schedule_check(now, unix_now);
            Waiting::ForExpiry(expiry)
        });
        Self(expiry)
    }

    /// The time by which [`take_due`](Self::take_due) is to be called.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.0.map(|waiting| match waiting {
            Waiting::ForToken(until) => until,
            Waiting::ForExpiry(expiry) => expiry.check_at,
        })
    }

    /// Returns the event that is due, once.
    pub(super) fn take_due(&mut self, now: Instant, unix_now: Duration) -> Option<TokenEvent> {
        match self.0.as_mut()? {
            Waiting::ForToken(until) if now < *until => None,
            Waiting::ForExpiry(expiry) if unix_now < expiry.close_at => {
                let is_due = !expiry.is_warned && unix_now >= expiry.warn_at;
                expiry.is_warned |= is_due;
                expiry.schedule_check(now, unix_now);
                is_due.then(|| TokenEvent::ExpiresSoon(expiry.close_at - unix_now))
            }
            _ => {
                self.0 = None;
                Some(TokenEvent::Expired)
            }
        }
    }
}

impl Expiry {
    /// Schedules the next check: at the next event, or earlier if that is far away. A check that is due soon anyway
    /// stays, so that a busy client does not schedule one for each of its pings.
    fn schedule_check(&mut self, now: Instant, unix_now: Duration) {
        let next_event = if self.is_warned {
            self.close_at
        } else {
            self.warn_at
        };
        let left = next_event.saturating_sub(unix_now);
        let latest = now + left.min(TOKEN_CHECK_INTERVAL);
        let is_distant = self.check_at > now + TOKEN_CHECK_INTERVAL / 2 && self.check_at <= latest;
        if !is_distant {
            self.check_at = latest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Validity;

    const UNIX_NOW: Duration = Duration::from_secs(1_800_000_000);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn timer(lifetime: Duration) -> (TokenTimer, Instant) {
        let mut identity = Identity::anyone();
        identity.validity = Some(Validity {
            from: UNIX_NOW,
            until: UNIX_NOW + lifetime,
        });
        let now = Instant::now();
        (TokenTimer::for_identity(&identity, now, UNIX_NOW), now)
    }

    #[test]
    fn a_session_is_warned_and_then_closed_in_the_last_tenth_of_the_warning() {
        let hour = seconds(3600);
        let mut moments = Vec::new();
        for _ in 0..100 {
            let (mut timer, now) = timer(hour);
            let mut due_after = |passed| timer.take_due(now + passed, UNIX_NOW + passed);
            assert_eq!(due_after(hour - seconds(40)), None);
            let warned = due_after(hour - seconds(29));
            assert!(
                matches!(warned, Some(TokenEvent::ExpiresSoon(_))),
                "{warned:?}"
            );
            assert_eq!(due_after(hour - seconds(28)), None, "warned once");
            let close_at = timer.next_at().unwrap();
            let before_end = (now + hour).saturating_duration_since(close_at);
            assert!(before_end <= Duration::from_millis(3100), "{before_end:?}");
            moments.push(before_end);
            let event = timer.take_due(now + hour, UNIX_NOW + hour);
            assert_eq!(event, Some(TokenEvent::Expired));
            assert_eq!(timer.next_at(), None);
        }
        moments.sort_unstable();
        assert!(moments[90] > moments[10] + seconds(1), "spread");
    }

    #[test]
    fn a_short_token_is_warned_half_way() {
        let (mut timer, now) = timer(seconds(4));
        let mut due_after = |passed| timer.take_due(now + passed, UNIX_NOW + passed);
        assert_eq!(due_after(Duration::from_millis(1500)), None);
        let warned = due_after(Duration::from_millis(2100));
        assert!(
            matches!(warned, Some(TokenEvent::ExpiresSoon(_))),
            "{warned:?}"
        );
    }

    #[test]
    fn a_session_without_a_token_is_closed() {
        let now = Instant::now();
        let mut timer = TokenTimer::awaiting_token(now);
        // The wall clock does not matter.
        assert_eq!(timer.take_due(now, seconds(u64::MAX)), None);
        let event = timer.take_due(now + TOKEN_TIMEOUT, seconds(0));
        assert_eq!(event, Some(TokenEvent::Expired));
    }

    #[test]
    fn the_wall_clock_is_compared_twice_a_minute() {
        let (mut timer, mut now) = timer(seconds(u64::MAX - 10_000_000_000));
        for _ in 0..10 {
            let next = timer.next_at().unwrap();
            assert!(next <= now + seconds(30), "{:?}", next - now);
            now = next;
            assert_eq!(timer.take_due(now, UNIX_NOW), None);
        }
    }

    #[test]
    fn a_session_is_closed_when_the_wall_clock_was_set_beyond_the_expiry() {
        for jump in [seconds(3600), seconds(100_000_000)] {
            let (mut timer, now) = timer(seconds(3600));
            assert_eq!(
                timer.take_due(now + seconds(1), UNIX_NOW + seconds(1)),
                None
            );
            let event = timer.take_due(now + seconds(2), UNIX_NOW + jump);
            assert_eq!(event, Some(TokenEvent::Expired));
        }
        // A clock that was set back makes the token valid for longer.
        let (mut timer, now) = timer(seconds(60));
        let event = timer.take_due(now + seconds(90), UNIX_NOW - seconds(3600));
        assert_eq!(event, None);
    }
}
