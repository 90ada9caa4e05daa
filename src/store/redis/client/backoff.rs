//! Exponential backoff with jitter.

use std::time::{Duration, Instant};

/// Wait after the first failure.
const WAIT_MIN: Duration = Duration::from_millis(50);
/// Upper bound of the wait.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The time of the next retry. The wait doubles with each failure; a random half of it keeps nodes from retrying
/// together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    retry_at: Option<Instant>,
    reason: String,
}

impl Backoff {
    /// Returns the reason of the last failure if it is too early to retry.
    pub(crate) fn blocks(&self, now: Instant) -> Option<&str> {
        let is_early = self.retry_at.is_some_and(|at| now < at);
        is_early.then_some(&*self.reason)
    }

    /// The reason of the last failure; empty if there was none since the last success.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// Records a success: the next failure starts with the shortest wait.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Records a failure.
    pub(crate) fn failed(&mut self, reason: String, now: Instant) {
        let longest = WAIT_MIN
            .saturating_mul(1 << self.failures.min(10))
            .min(WAIT_MAX);
        self.failures += 1;
        self.retry_at = Some(now + longest.mul_f64(rand::random_range(0.5..=1.0)));
        self.reason = reason;
    }

    /// Time until the next retry.
    pub(crate) fn remaining(&self, now: Instant) -> Duration {
        self.retry_at
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_doubles_up_to_the_maximum_and_restarts_after_a_success() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let mut before = Duration::ZERO;
        for _ in 0..12 {
            backoff.failed("down".to_owned(), now);
            let remaining = backoff.remaining(now);
            assert!(
                remaining >= before / 2 && remaining <= WAIT_MAX,
                "{remaining:?}"
            );
            before = remaining;
        }
        assert!(before >= WAIT_MAX / 2);
        assert_eq!(backoff.blocks(now), Some("down"));
        backoff.succeeded();
        assert_eq!(backoff.blocks(now), None);
    }
}
