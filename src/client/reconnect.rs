//! When to reconnect: what the close code asks for, with a delay that grows and is random.

use std::time::{Duration, Instant};

use super::error::Lost;

/// Shortest and longest delay before an attempt, the same as those of the JavaScript client.
const DELAY_MIN: Duration = Duration::from_millis(500);
const DELAY_MAX: Duration = Duration::from_secs(30);
/// A connection that stays open this long counts as stable: the delay starts again from its minimum.
const STABLE_AFTER: Duration = Duration::from_secs(5);
/// Further doublings would change nothing.
const DOUBLINGS_MAX: u32 = 16;

/// Counts failures and chooses delays.
#[derive(Debug, Default)]
pub(super) struct Reconnect {
    failures: u32,
    connected_at: Option<Instant>,
}

impl Reconnect {
    /// To be called when a connection is open.
    pub(super) fn connected(&mut self) {
        self.connected_at = Some(Instant::now());
    }

    /// Returns the delay before the next attempt; `None` if the server asks not to reconnect.
    pub(super) fn delay_after(&mut self, lost: &Lost) -> Option<Duration> {
        let was_stable = |at: Instant| at.elapsed() >= STABLE_AFTER;
        if self.connected_at.take().is_some_and(was_stable) {
            self.failures = 0;
        }
        self.failures += 1;
        match lost {
            Lost::Closed(4000..=4099, _) => None,
            // Only the first time, because a server may ask for it again and again.
            Lost::Closed(4200..=4299, _) if self.failures == 1 => Some(Duration::ZERO),
            _ => Some(self.backoff()),
        }
    }

    /// Full jitter spreads the clients of a restarted server over the whole delay.
    fn backoff(&self) -> Duration {
        let longest = DELAY_MIN * (1 << self.failures.min(DOUBLINGS_MAX));
        let spread = longest.min(DELAY_MAX) - DELAY_MIN;
        DELAY_MIN + spread.mul_f64(rand::random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_codes_are_obeyed() {
        let closed = |code| Lost::Closed(code, String::new());
        let mut reconnect = Reconnect::default();
        assert_eq!(reconnect.delay_after(&closed(4200)), Some(Duration::ZERO));
        assert!(reconnect.delay_after(&closed(4200)) >= Some(DELAY_MIN));
        assert_eq!(reconnect.delay_after(&closed(4003)), None);
        for _ in 0..100 {
            let delay = reconnect.delay_after(&closed(1001)).unwrap();
            assert!((DELAY_MIN..=DELAY_MAX).contains(&delay), "{delay:?}");
        }
    }
}
