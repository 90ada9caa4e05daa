//! The clock of Redis, for deadlines that a script can check.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue, Value};

use super::client::{CommandError, accepted};

/// The time of a single Redis server, extrapolated with this machine's monotonic clock.
pub(super) struct RedisClock {
    started: Instant,
    /// The Unix time of Redis at `started`, in milliseconds.
    offset_ms: AtomicI64,
}

impl RedisClock {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            offset_ms: AtomicI64::new(0),
        }
    }

    /// Reads the time of Redis. Fails if Redis does not reply.
    pub(super) fn synchronize(
        &self,
        run: impl FnOnce(&[Cmd]) -> Result<Vec<Value>, CommandError>,
    ) -> Result<(), CommandError> {
        let reply = run(&[redis::cmd("TIME")])?.pop().unwrap_or_default();
        if let Ok((seconds, micros)) = <(i64, i64)>::from_redis_value(accepted(reply)?) {
            let unix_ms = seconds * 1000 + micros / 1000;
            let offset_ms = unix_ms - self.elapsed_ms();
            self.offset_ms.store(offset_ms, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Returns the time that lies `duration` from now, in Unix milliseconds of Redis.
    pub(super) fn after(&self, duration: Duration) -> i64 {
        let now = self.offset_ms.load(Ordering::Relaxed) + self.elapsed_ms();
        now + duration.as_millis() as i64
    }

    fn elapsed_ms(&self) -> i64 {
        self.started.elapsed().as_millis() as i64
    }
}
