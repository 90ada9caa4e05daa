//! The clocks of a node with Redis: the time of Redis, for deadlines that a script can check, and a steady clock, for
//! the ages of messages and ids.
//!
//! The clock of a host may be set while Redis runs on it. The steady clock differs from the clock of Redis by a *shift*
//! that Redis keeps for all nodes (`scripts/clock.lua`). Each node extrapolates the steady clock with the monotonic
//! clock of its own machine. When the two no longer agree, the clock of Redis was set, and the shift is corrected by
//! the same amount.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue, Value};
use rustix::time::{ClockId, clock_gettime};

use super::client::{CommandError, accepted};
use super::names::Names;
use super::scripts;

/// Least difference that counts as a clock that was set. A smaller one may be the time that Redis took to reply.
const JUMP_MIN: Duration = Duration::from_secs(5);
/// Largest jump of the clock of Redis that loses no data. Keys in Redis expire by that clock, so each key expires this
/// much later than its content.
pub(super) const JUMP_MAX: Duration = Duration::from_secs(70 * 60);

/// The clocks of Redis, extrapolated from the last reading.
#[derive(Default)]
pub(super) struct RedisClock(Mutex<Option<Reading>>);

/// The clocks at one moment.
#[derive(Clone, Copy)]
struct Reading {
    /// The monotonic clock of this machine.
    at: Duration,
    /// The Unix time of Redis, in milliseconds.
    redis_ms: i64,
    /// The steady clock minus the clock of Redis, in milliseconds.
    shift_ms: i64,
}

impl RedisClock {
    /// Reads the clocks, and corrects the shift if the clock of Redis was set. Fails if Redis does not reply.
    pub(super) fn synchronize(
        &self,
        names: &Names,
        run: impl FnOnce(&[Cmd]) -> Result<Vec<Value>, CommandError>,
    ) -> Result<(), CommandError> {
        let mut command = scripts::CLOCK.call(&[names.clock_key()]);
        match *self.0.lock() {
            Some(known) => command.arg(known.shift_ms).arg(known.steady_now()),
            None => command.arg("").arg(""),
        };
        command.arg(JUMP_MIN.as_millis() as u64);
        let reply = accepted(run(&[command])?.pop().unwrap_or_default())?;
        if let Ok((redis_ms, shift_ms)) = <(i64, i64)>::from_redis_value(reply) {
            let previous = self.0.lock().replace(Reading {
                at: monotonic(),
                redis_ms,
                shift_ms,
            });
            let jump_ms = previous.map_or(0, |previous| previous.shift_ms - shift_ms);
            if jump_ms.unsigned_abs() >= JUMP_MIN.as_millis() as u64 {
                let seconds = jump_ms / 1000;
                log::warn!(
                    "the clock of Redis was changed by {seconds} s; the ages of messages are not affected"
                );
            }
        }
        Ok(())
    }

    /// Returns the time that lies `duration` from now, in Unix milliseconds of Redis.
    pub(super) fn after(&self, duration: Duration) -> i64 {
        let now = self.0.lock().map_or(0, |reading| reading.redis_now());
        now + duration.as_millis() as i64
    }

    /// Returns the steady time in milliseconds. All nodes agree on it.
    pub(super) fn steady_now(&self) -> i64 {
        let reading = *self.0.lock();
        reading.map_or_else(unix_ms, |reading| reading.steady_now())
    }
}

impl Reading {
    fn redis_now(&self) -> i64 {
        self.redis_ms + monotonic().saturating_sub(self.at).as_millis() as i64
    }

    fn steady_now(&self) -> i64 {
        self.redis_now() + self.shift_ms
    }
}

/// The time since this machine started, which also counts while the machine is suspended.
fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as i64
}
