//! How many messages may be in flight, and how fast they may follow each other where the server limits the rate.

use std::time::{Duration, Instant};

/// Most messages in flight: enough to keep the server's batches full, and few to send again after an outage.
const WINDOW_MAX: usize = 1024;
/// Messages in flight at the start. Each acknowledgement allows one more.
const WINDOW_START: usize = 64;
/// Messages after which a spacing is tried that is a tenth shorter.
const SPACED_MESSAGES: u32 = 100;
/// A shorter spacing is none.
const SPACING_MIN: Duration = Duration::from_millis(1);

/// The pace of a publisher.
///
/// Once the server has refused a message for its rate, one message is in flight at a time, so that they keep their order.
#[derive(Debug)]
pub(super) struct Pace {
    window: usize,
    window_max: usize,
    /// Time between two messages, if the server limits the rate.
    spacing: Option<Duration>,
    next_at: Instant,
    acknowledged: u32,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            window: WINDOW_START,
            window_max: WINDOW_MAX,
            spacing: None,
            next_at: Instant::now(),
            acknowledged: 0,
        }
    }

    /// Returns the messages that may be in flight.
    pub(super) fn window(&self) -> usize {
        if self.spacing.is_some() {
            return 1;
        }
        self.window
    }

    /// Returns when the next message may be sent; `None` if now.
    pub(super) fn wait_until(&self) -> Option<Instant> {
        (self.next_at > Instant::now()).then_some(self.next_at)
    }

    /// To be called for every message that is sent.
    pub(super) fn sent(&mut self) {
        if let Some(spacing) = self.spacing {
            self.next_at = Instant::now() + spacing;
        }
    }

    /// To be called for every acknowledgement.
    pub(super) fn acknowledged(&mut self) {
        self.window = (self.window + 1).min(self.window_max);
        self.acknowledged += 1;
        if self.acknowledged >= SPACED_MESSAGES {
            self.acknowledged = 0;
            let shorter = self.spacing.map(|spacing| spacing.mul_f64(0.9));
            self.spacing = shorter.filter(|spacing| *spacing >= SPACING_MIN);
        }
    }

    /// To be called when the server refuses a message for its rate and names when to retry.
    pub(super) fn refused(&mut self, retry_after: Duration) {
        self.acknowledged = 0;
        let retry_after = retry_after.max(SPACING_MIN);
        self.spacing = Some(self.spacing.map_or(retry_after, |old| old.max(retry_after)));
        self.next_at = self.next_at.max(Instant::now() + retry_after);
    }

    /// To be called when a message cannot be stored now.
    pub(super) fn pause(&mut self, duration: Duration) {
        self.next_at = self.next_at.max(Instant::now() + duration);
    }

    /// To be called when the server closed the connection because too many messages were refused for their rate.
    pub(super) fn shrink(&mut self) {
        self.window_max = (self.window_max.min(self.window) / 4).max(1);
        self.window = self.window_max;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_publisher_sends_one_at_a_time_until_the_limit_is_gone() {
        let mut pace = Pace::new();
        assert_eq!((pace.window(), pace.wait_until()), (WINDOW_START, None));
        pace.refused(Duration::from_secs(10));
        assert_eq!(pace.window(), 1);
        assert!(pace.wait_until().is_some());
        // 10 s become less than 1 ms after 88 steps of a tenth.
        for _ in 0..100 * SPACED_MESSAGES {
            pace.acknowledged();
        }
        assert_eq!(pace.window(), WINDOW_MAX);
    }
}
