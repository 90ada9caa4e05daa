//! How long a message travels: the publisher writes its clock into the payload, a reader looks there.
//!
//! Publisher and readers are one process, so one monotonic clock serves both ends. The time includes
//! what the load generator takes until it gets to the client's socket.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Starts a stamp; nothing else in the benchmark's messages contains it.
const MARK: u8 = b'@';

/// Digits of a stamp: nanoseconds of `CLOCK`, enough for eleven days.
const DIGITS: usize = 15;

static CLOCK: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A payload of `bytes` with room for a stamp.
pub(crate) fn unstamped(bytes: usize) -> String {
    let filling = "x".repeat(bytes.saturating_sub(1 + DIGITS));
    format!("{}{:0DIGITS$}{filling}", char::from(MARK), 0)
}

/// Where in a message the digits of its stamp are.
pub(crate) fn stamp_at(message: &[u8]) -> Option<usize> {
    Some(message.iter().position(|byte| *byte == MARK)? + 1)
}

/// Writes the time over the digits that `place` begins with.
pub(crate) fn stamp(place: &mut [u8]) {
    let digits = format!("{:0DIGITS$}", CLOCK.elapsed().as_nanos());
    place[..DIGITS].copy_from_slice(&digits.as_bytes()[..DIGITS]);
}

/// How long ago the message was stamped, if it was.
pub(crate) fn since_stamp(message: &[u8]) -> Option<Duration> {
    let digits = message.get(stamp_at(message)?..)?.get(..DIGITS)?;
    let nanos = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(CLOCK.elapsed().saturating_sub(Duration::from_nanos(nanos)))
}

/// The least duration that `percent` of them do not exceed, in milliseconds.
pub(crate) fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted
        .get(rank - 1)
        .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
}
