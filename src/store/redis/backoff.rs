//! When something that failed is tried again.

use std::time::{Duration, Instant};

/// First and longest wait until a connection that could not be made is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);

/// A wait that doubles, at random between half of it and all,
/// so that nodes do not come back together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Instant>,
    why: String,
}

impl Backoff {
    /// Why it is too early.
    pub(super) fn waits(&self, now: Instant) -> Option<&str> {
        let waits = self.until.is_some_and(|until| now < until);
        waits.then_some(&*self.why)
    }

    /// Why it failed last.
    pub(super) fn why(&self) -> &str {
        &self.why
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub(super) fn failed(&mut self, why: String, now: Instant) {
        let longest = RETRY_FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(RETRY_LONGEST);
        self.failures += 1;
        self.until = Some(now + longest.mul_f64(rand::random_range(0.5..=1.0)));
        self.why = why;
    }

    /// How long until it is tried again.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_longest_and_starts_again_after_a_success() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let mut before = Duration::ZERO;
        for _ in 0..12 {
            backoff.failed("down".to_owned(), now);
            let left = backoff.left(now);
            assert!(left >= before / 2 && left <= RETRY_LONGEST, "{left:?}");
            before = left;
        }
        assert!(before >= RETRY_LONGEST / 2);
        assert_eq!(backoff.waits(now), Some("down"));
        backoff.succeeded();
        assert_eq!(backoff.waits(now), None);
    }
}
