//! How much one connection may ask in a time, and when it has asked too much for too long.

use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::config::RequestRate;

/// A rate may be used up this many seconds in advance.
pub(super) const BURST_SECONDS: u32 = 10;

type Limiter = RateLimiter<NotKeyed, InMemoryState, Monotonic, NoOpMiddleware<Duration>>;

/// Counts one connection's requests (token buckets, by the generic cell rate algorithm).
#[derive(Debug)]
pub struct RateMeter {
    requests: Option<Limiter>,
    bytes: Option<Limiter>,
    /// What is refused is counted too: who goes on regardless is closed.
    refusals: Option<Limiter>,
}

/// A request that is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// When the same request would not be.
    pub retry_after: Duration,
    /// Whether the connection has been told often enough.
    pub is_abuse: bool,
}

impl RateMeter {
    /// A meter that has counted nothing; `frame_bytes_max` is what one frame may have.
    pub fn new(rate: RequestRate, frame_bytes_max: usize) -> Self {
        let per_second = |rate: NonZeroU32, burst: u32| {
            let burst = NonZeroU32::new(burst).unwrap_or(rate);
            let quota = Quota::per_second(rate).allow_burst(burst);
            RateLimiter::direct_with_clock(quota, Monotonic)
        };
        let burst = |rate: NonZeroU32| rate.get().saturating_mul(BURST_SECONDS);
        let largest = u32::try_from(frame_bytes_max).unwrap_or(u32::MAX);
        Self {
            requests: rate.requests.map(|rate| per_second(rate, burst(rate))),
            bytes: rate
                .bytes
                .map(|rate| per_second(rate, burst(rate).max(largest))),
            refusals: rate
                .requests
                .or(rate.bytes)
                .map(|rate| per_second(rate, burst(rate))),
        }
    }

    /// Counts one request of so many bytes, or says that it is too much.
    pub fn count(&self, bytes: usize) -> Result<(), Exceeded> {
        let requests = self.requests.as_ref().map(|limiter| limiter.check());
        let wait = match requests {
            Some(Err(until)) => until.wait_time_from(Monotonic.now()),
            _ => match self.count_bytes(bytes) {
                None => return Ok(()),
                Some(wait) => wait,
            },
        };
        let refusals = self.refusals.as_ref().map(|limiter| limiter.check());
        Err(Exceeded {
            retry_after: wait.max(Duration::from_millis(1)),
            is_abuse: matches!(refusals, Some(Err(_))),
        })
    }

    /// How long to wait, if these bytes are too many.
    fn count_bytes(&self, bytes: usize) -> Option<Duration> {
        let (limiter, count) = (self.bytes.as_ref()?, u32::try_from(bytes).ok()?);
        match limiter.check_n(NonZeroU32::new(count)?) {
            Ok(Err(until)) => Some(until.wait_time_from(Monotonic.now())),
            // More than the burst cannot be: a frame's size has a bound of its own.
            Ok(Ok(())) | Err(_) => None,
        }
    }
}

/// Time since the first look at it, without the standard clock's features, which would bring futures.
#[derive(Clone, Copy, Debug)]
pub struct Monotonic;

impl Clock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGIN.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(requests: u32, bytes: u32) -> RateMeter {
        let rate = RequestRate {
            requests: NonZeroU32::new(requests),
            bytes: NonZeroU32::new(bytes),
        };
        RateMeter::new(rate, 1000)
    }

    #[test]
    fn ten_seconds_worth_may_come_at_once_and_then_it_is_too_much() {
        let meter = meter(5, 0);
        for n in 0..50 {
            assert_eq!(meter.count(1), Ok(()), "{n}");
        }
        let exceeded = meter.count(1).unwrap_err();
        assert!(exceeded.retry_after <= Duration::from_millis(200));
        assert!(!exceeded.is_abuse);
        let abuse = (0..100).any(|_| meter.count(1).is_err_and(|exceeded| exceeded.is_abuse));
        assert!(abuse);
    }

    #[test]
    fn bytes_are_counted_and_the_largest_frame_always_fits_once() {
        let meter = meter(0, 10);
        assert_eq!(meter.count(1000), Ok(()));
        let exceeded = meter.count(10).unwrap_err();
        assert!(exceeded.retry_after > Duration::from_millis(500));
    }

    #[test]
    fn no_rate_is_no_bound() {
        let meter = meter(0, 0);
        assert!((0..10_000).all(|_| meter.count(1000).is_ok()));
    }
}
