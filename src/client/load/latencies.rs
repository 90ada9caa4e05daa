//! Latencies in a table of fixed size, with an error of at most 3 %.

use std::time::Duration;

/// Each power of two of microseconds has this many buckets.
const BUCKETS_PER_DOUBLING: usize = 32;
/// Powers of two after the first buckets, each of which is one microsecond wide: up to 2^36 µs, nineteen hours.
const DOUBLINGS: usize = 32;

/// A count of latencies by their size.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    longest: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS_PER_DOUBLING * (DOUBLINGS + 1)],
            count: 0,
            longest: Duration::ZERO,
        }
    }
}

impl Latencies {
    pub(super) fn add(&mut self, latency: Duration) {
        let bucket = bucket_of(latency.as_micros() as u64);
        self.buckets[bucket.min(BUCKETS_PER_DOUBLING * (DOUBLINGS + 1) - 1)] += 1;
        self.count += 1;
        self.longest = self.longest.max(latency);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns the latency that this share of them, from 0 to 1, does not exceed; `None` without any.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        if self.count == 0 {
            return None;
        }
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        // The upper end of the bucket, so that no latency is shown shorter than it was.
        let bucket = bucket.unwrap_or(self.buckets.len() - 1);
        Some(Duration::from_micros(upper_end(bucket)).min(self.longest))
    }

    /// Returns the longest latency; `None` without any.
    pub(crate) fn longest(&self) -> Option<Duration> {
        (self.count > 0).then_some(self.longest)
    }
}

fn bucket_of(micros: u64) -> usize {
    let width = BUCKETS_PER_DOUBLING as u64;
    if micros < width {
        return micros as usize;
    }
    // 1 for 32 to 63 µs, whose buckets are one microsecond wide too.
    let doubling = micros.ilog2() - width.ilog2() + 1;
    let within = (micros >> (doubling - 1)) - width;
    doubling as usize * BUCKETS_PER_DOUBLING + within as usize
}

/// Returns the end of a bucket: the first microsecond after it.
fn upper_end(bucket: usize) -> u64 {
    let (doubling, within) = (
        bucket / BUCKETS_PER_DOUBLING,
        (bucket % BUCKETS_PER_DOUBLING) as u64,
    );
    if doubling == 0 {
        return within + 1;
    }
    (BUCKETS_PER_DOUBLING as u64 + within + 1) << (doubling - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_three_percent_too_long() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        for micros in 1..=100_000 {
            latencies.add(Duration::from_micros(micros));
        }
        for share in [0.01, 0.5, 0.95, 0.99, 1.0] {
            let shown = latencies.quantile(share).unwrap().as_micros() as f64;
            let exact = 100_000.0 * share;
            assert!((exact..=exact * 1.04).contains(&shown), "{share}: {shown}");
        }
        latencies.add(Duration::MAX);
        assert_eq!(latencies.longest(), Some(Duration::MAX));
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for micros in 0..100_000 {
            let bucket = bucket_of(micros);
            assert!(micros < upper_end(bucket), "{micros}");
            assert!(bucket == 0 || micros >= upper_end(bucket - 1), "{micros}");
        }
    }
}
