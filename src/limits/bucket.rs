//! A token bucket: it allows a burst, then a steady rate (the generic cell rate algorithm).

use std::time::{Duration, Instant};

/// A token bucket. It starts full.
#[derive(Clone, Debug)]
pub(super) struct TokenBucket {
    /// Time in which one token is refilled.
    interval: Duration,
    /// Time in which an empty bucket becomes full.
    refill: Duration,
    /// When the bucket is full again; in the past if it is full now.
    full_at: Instant,
}

impl TokenBucket {
    /// Returns a full bucket that holds `capacity` tokens and refills one each `interval`.
    pub(super) fn new(capacity: u32, interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            refill: interval.saturating_mul(capacity),
            full_at: now,
        }
    }

    /// Takes `count` tokens. If there are fewer, takes none and returns how long until there are enough.
    ///
    /// A count above the capacity never succeeds.
    pub(super) fn take(&mut self, count: u32, now: Instant) -> Result<(), Duration> {
        let wait = self.wait_for(count, now);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.full_at = self.full_at.max(now) + self.interval.saturating_mul(count);
        Ok(())
    }

    /// Returns how long until there are `count` tokens; zero if there are now.
    pub(super) fn wait_for(&self, count: u32, now: Instant) -> Duration {
        let missing = self.full_at.saturating_duration_since(now);
        let missing_then = missing.saturating_add(self.interval.saturating_mul(count));
        missing_then.saturating_sub(self.refill)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn full_bucket_grants_its_capacity_and_then_one_token_each_interval() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(3, SECOND, start);
        assert!((0..3).all(|_| bucket.take(1, start).is_ok()));
        assert_eq!(bucket.take(1, start), Err(SECOND));
        assert_eq!(bucket.take(2, start), Err(2 * SECOND));
        assert_eq!(bucket.take(1, start + SECOND / 4), Err(SECOND * 3 / 4));
        assert_eq!(bucket.take(1, start + SECOND), Ok(()));
        assert_eq!(bucket.take(1, start + SECOND), Err(SECOND));
    }

    #[test]
    fn bucket_never_holds_more_than_its_capacity() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(3, SECOND, start);
        let later = start + 1000 * SECOND;
        assert_eq!(bucket.take(4, later), Err(SECOND));
        assert_eq!(bucket.take(3, later), Ok(()));
        assert_eq!(bucket.wait_for(1, later), SECOND);
    }
}
