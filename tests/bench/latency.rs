//! Measures the latency of messages. The publisher writes the time into the payload, and readers compare it.
//!
//! Publisher and readers are one process, so one monotonic clock serves both. The latency includes the time until the
//! load generator reads the client's socket.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Precedes a stamp.
const MARK: u8 = b'@';

/// Digits of a stamp, which counts nanoseconds of `CLOCK`. They are enough for eleven days.
const DIGITS: usize = 15;

static CLOCK: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Returns a payload of `bytes` with space for a stamp.
pub(crate) fn payload_with_empty_stamp(bytes: usize) -> String {
    let filling = "x".repeat(bytes.saturating_sub(1 + DIGITS));
    format!("{}{:0DIGITS$}{filling}", char::from(MARK), 0)
}

/// Returns the position of the stamp's digits in a message or a frame, whose header may contain the mark's byte.
pub(crate) fn stamp_at(message: &[u8]) -> Option<usize> {
    let is_stamp = |bytes: &[u8]| bytes[0] == MARK && bytes[1..].iter().all(u8::is_ascii_digit);
    Some(message.windows(1 + DIGITS).position(is_stamp)? + 1)
}

/// Writes the current time over the digits at the start of `target`.
pub(crate) fn write_stamp(target: &mut [u8]) {
    let digits = format!("{:0DIGITS$}", CLOCK.elapsed().as_nanos());
    target[..DIGITS].copy_from_slice(&digits.as_bytes()[..DIGITS]);
}

/// Returns the age of a message that has a stamp.
pub(crate) fn age_of(message: &[u8]) -> Option<Duration> {
    let digits = message.get(stamp_at(message)?..)?.get(..DIGITS)?;
    let nanos = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(CLOCK.elapsed().saturating_sub(Duration::from_nanos(nanos)))
}

/// Returns the least duration that `percent` of the durations do not exceed, in milliseconds. NaN without any.
pub(crate) fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted
        .get(rank - 1)
        .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
}
