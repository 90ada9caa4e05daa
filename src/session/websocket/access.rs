//! What one client may do, for how long, and when it must be told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::Identity;
use crate::protocol::{ErrorCode, Refusal};

/// Time a client that came without a token has to send one.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long before its end a client is told that its token expires.
const EXPIRY_WARNING: Duration = Duration::from_secs(30);
/// Clients whose tokens end together are closed over this part of the warning, and all before the end.
const EXPIRY_SPREAD_PART: u32 = 10;

/// A client's identity, once it has one, and its next appointment.
#[derive(Debug)]
pub(super) struct Access {
    identity: Option<Arc<Identity>>,
    next: Option<Appointment>,
}

#[derive(Clone, Copy, Debug)]
struct Appointment {
    at: Instant,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Warn { close_at: Instant },
    Close,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The client is to be told that its token ends in this time.
    Warning(Duration),
    /// The connection is to be closed: no token came, or its time is up.
    Close,
}

impl Access {
    /// Of a client that is known, or that has yet to send its token.
    pub(super) fn new(identity: Option<Arc<Identity>>) -> Self {
        let now = Instant::now();
        let next = match &identity {
            Some(identity) => warning(identity, now),
            None => Some(Appointment {
                at: now + TOKEN_TIMEOUT,
                what: What::Close,
            }),
        };
        Self { identity, next }
    }

    /// Who it is; refuses while that is not known.
    pub(super) fn identity(&self) -> Result<&Arc<Identity>, Refusal> {
        self.identity.as_ref().ok_or_else(|| {
            let message = "send your token first: {\"type\":\"auth\",\"token\":\"…\"}";
            Refusal::new(ErrorCode::Unauthorized, message)
        })
    }

    pub(super) fn is_known(&self) -> bool {
        self.identity.is_some()
    }

    /// When something is due next.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next.map(|next| next.at)
    }

    /// What is due at this moment, if anything is.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        let due = self.next.filter(|next| next.at <= now)?;
        match due.what {
            What::Warn { close_at } => {
                self.next = Some(Appointment {
                    at: close_at,
                    what: What::Close,
                });
                Some(Due::Warning(close_at.saturating_duration_since(now)))
            }
            What::Close => {
                self.next = None;
                Some(Due::Close)
            }
        }
    }
}

/// The warning, and after it the close: at a random moment, so that a thousand tokens minted together
/// do not make a thousand clients come back together, and never after the token's end.
fn warning(identity: &Identity, now: Instant) -> Option<Appointment> {
    let (left, validity) = (identity.time_left()?, identity.validity?);
    let lifetime = validity.until.saturating_sub(validity.from);
    let warning = EXPIRY_WARNING.min(lifetime / 2);
    let spread = (warning / EXPIRY_SPREAD_PART).mul_f64(rand::random());
    // A date so far off that the clock cannot hold it never comes.
    let close_at = now.checked_add(left.saturating_sub(spread))?;
    let at = close_at.checked_sub(warning).unwrap_or(now).max(now);
    Some(Appointment {
        at,
        what: What::Warn { close_at },
    })
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::auth::Validity;

    fn known(lifetime: Duration) -> (Access, Instant) {
        let unix_now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut identity = Identity::anyone();
        identity.validity = Some(Validity {
            from: unix_now,
            until: unix_now + lifetime,
        });
        (Access::new(Some(Arc::new(identity))), Instant::now())
    }

    #[test]
    fn a_token_is_warned_of_and_then_closed_within_the_last_tenth_of_the_warning() {
        let hour = Duration::from_secs(3600);
        let mut moments = Vec::new();
        for _ in 0..100 {
            let (mut access, now) = known(hour);
            assert_eq!(access.take_due(now + hour - Duration::from_secs(40)), None);
            let warned = access.take_due(now + hour - Duration::from_secs(29));
            assert!(matches!(warned, Some(Due::Warning(_))), "{warned:?}");
            let close_at = access.next_at().unwrap();
            let before_end = (now + hour).saturating_duration_since(close_at);
            assert!(before_end <= Duration::from_millis(3100), "{before_end:?}");
            moments.push(before_end);
            assert_eq!(access.take_due(now + hour), Some(Due::Close));
        }
        moments.sort_unstable();
        assert!(moments[90] > moments[10] + Duration::from_secs(1), "spread");
    }

    #[test]
    fn a_short_token_is_warned_of_half_way() {
        let (mut access, now) = known(Duration::from_secs(4));
        assert_eq!(access.take_due(now + Duration::from_millis(1500)), None);
        let warned = access.take_due(now + Duration::from_millis(2100));
        assert!(matches!(warned, Some(Due::Warning(_))), "{warned:?}");
    }

    #[test]
    fn a_token_must_come_in_time() {
        let mut access = Access::new(None);
        assert!(access.identity().is_err());
        assert_eq!(access.take_due(Instant::now()), None);
        let late = Instant::now() + TOKEN_TIMEOUT;
        assert_eq!(access.take_due(late), Some(Due::Close));
    }

    #[test]
    fn a_token_for_ages_needs_no_appointment() {
        let (access, _) = known(Duration::from_secs(u64::MAX - 10_000_000_000));
        assert!(access.next_at().is_none());
    }
}
