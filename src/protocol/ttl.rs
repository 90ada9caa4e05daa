//! The time for which a publisher wants a message to stay in history.

use std::num::NonZeroU32;
use std::time::Duration;

/// Longest time, in seconds: a year.
pub const TTL_SECONDS_MAX: u32 = 31_536_000;

/// The time for which a message stays in history, counted from when it is stored: 1 second to a year.
///
/// A message is dropped earlier if it exceeds another limit of its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(NonZeroU32);

impl Ttl {
    /// Returns `None` for 0 and for more than [`TTL_SECONDS_MAX`].
    pub fn from_seconds(seconds: u64) -> Option<Self> {
        let seconds = u32::try_from(seconds).ok().and_then(NonZeroU32::new)?;
        (seconds.get() <= TTL_SECONDS_MAX).then_some(Self(seconds))
    }

    /// Returns the time.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.get().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttl_is_one_second_to_a_year() {
        assert_eq!(Ttl::from_seconds(0), None);
        assert_eq!(
            Ttl::from_seconds(1).unwrap().duration(),
            Duration::from_secs(1)
        );
        let max = u64::from(TTL_SECONDS_MAX);
        assert!(Ttl::from_seconds(max).is_some());
        assert_eq!(Ttl::from_seconds(max + 1), None);
        assert_eq!(Ttl::from_seconds(1 << 32 | 1), None);
    }
}
