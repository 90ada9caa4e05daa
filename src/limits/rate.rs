//! The request rate of one connection, and when a client that exceeds it is disconnected.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::bucket::TokenBucket;
use crate::config::RequestRate;

/// The burst of a rate: the requests and bytes of this many seconds may come at once.
const BURST_SECONDS: u32 = 10;

/// Counts one connection's requests.
#[derive(Debug)]
pub(crate) struct RateMeter {
    requests: Option<TokenBucket>,
    bytes: Option<TokenBucket>,
    /// Refused requests are counted too: a client that does not slow down is disconnected.
    refusals: Option<TokenBucket>,
}

/// A request above the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    /// When the same request would be accepted.
    pub(crate) retry_after: Duration,
    /// True if so many requests were refused that the connection ends.
    pub(crate) is_abuse: bool,
}

impl RateMeter {
    /// Returns a meter that has counted nothing. A frame of `frame_bytes_max` always fits an idle meter.
    pub(crate) fn new(rate: RequestRate, frame_bytes_max: usize, now: Instant) -> Self {
        let frame_bytes_max = u32::try_from(frame_bytes_max).unwrap_or(u32::MAX);
        let bucket = |rate| per_second(rate, 1, now);
        Self {
            requests: rate.requests.map(bucket),
            bytes: rate
                .bytes
                .map(|rate| per_second(rate, frame_bytes_max, now)),
            refusals: rate.requests.or(rate.bytes).map(bucket),
        }
    }

    /// Counts one request of `bytes` bytes, or refuses it.
    pub(crate) fn count(&mut self, bytes: usize, now: Instant) -> Result<(), Exceeded> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let counted =
            take(&mut self.requests, 1, now).and_then(|()| take(&mut self.bytes, bytes, now));
        counted.map_err(|wait| Exceeded {
            retry_after: wait.max(Duration::from_millis(1)),
            is_abuse: take(&mut self.refusals, 1, now).is_err(),
        })
    }
}

/// Returns a bucket that holds the burst of a rate, and at least `capacity_min` tokens.
pub(super) fn per_second(rate: NonZeroU32, capacity_min: u32, now: Instant) -> TokenBucket {
    let capacity = rate.get().saturating_mul(BURST_SECONDS).max(capacity_min);
    TokenBucket::new(capacity, Duration::from_secs(1) / rate.get(), now)
}

/// Takes tokens from a bucket; without a bucket there is no limit.
pub(super) fn take(
    bucket: &mut Option<TokenBucket>,
    count: u32,
    now: Instant,
) -> Result<(), Duration> {
    bucket
        .as_mut()
        .map_or(Ok(()), |bucket| bucket.take(count, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(requests: u32, bytes: u32, now: Instant) -> RateMeter {
        let rate = RequestRate {
            requests: NonZeroU32::new(requests),
            bytes: NonZeroU32::new(bytes),
        };
        RateMeter::new(rate, 1000, now)
    }

    #[test]
    fn burst_of_ten_seconds_of_requests_is_accepted_and_the_next_request_is_refused() {
        let now = Instant::now();
        let mut meter = meter(5, 0, now);
        for n in 0..50 {
            assert_eq!(meter.count(1, now), Ok(()), "{n}");
        }
        let exceeded = meter.count(1, now).unwrap_err();
        assert_eq!(exceeded.retry_after, Duration::from_millis(200));
        let later = now + exceeded.retry_after;
        assert_eq!(meter.count(1, later), Ok(()));
        assert!(!exceeded.is_abuse);
        let refused = (0..100).map(|_| meter.count(1, later).unwrap_err());
        let abuse: Vec<bool> = refused.map(|exceeded| exceeded.is_abuse).collect();
        assert!(!abuse[0] && abuse[99]);
    }

    #[test]
    fn bytes_are_counted_and_the_largest_frame_always_fits_once() {
        let now = Instant::now();
        let mut meter = meter(0, 10, now);
        assert_eq!(meter.count(1000, now), Ok(()));
        let exceeded = meter.count(10, now).unwrap_err();
        assert_eq!(exceeded.retry_after, Duration::from_secs(1));
    }

    #[test]
    fn meter_without_a_rate_refuses_nothing() {
        let now = Instant::now();
        let mut meter = meter(0, 0, now);
        assert!((0..10_000).all(|_| meter.count(1000, now).is_ok()));
    }
}
