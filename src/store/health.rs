//! The health of a store, with a log line each time it changes.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Least time between two log lines about a store that keeps failing and recovering.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The health of a part of a store.
#[derive(Debug)]
pub(super) struct Health {
    /// The log line when it starts failing; the reason follows.
    failing: &'static str,
    /// The log line when it works again.
    recovered: &'static str,
    state: Mutex<HealthState>,
}

#[derive(Debug, Default)]
struct HealthState {
    /// The reason of the current failure.
    reason: Option<String>,
    logged_at: Option<Instant>,
    /// True if the last log line reported a failure.
    logged_failure: bool,
}

impl Health {
    /// Returns the health of a part that works, with its two log lines.
    pub(super) fn new(failing: &'static str, recovered: &'static str) -> Self {
        Self {
            failing,
            recovered,
            state: Mutex::default(),
        }
    }

    /// The health of the part that stores publishes.
    pub(super) fn of_publishing() -> Self {
        Self::new(
            "the store is unavailable and publishes are refused",
            "the store works again",
        )
    }

    /// Returns the reason of a failure, in words for the operator.
    pub(super) fn check(&self) -> Result<(), String> {
        match &self.state.lock().reason {
            None => Ok(()),
            Some(reason) => Err(format!("{}: {reason}", self.failing)),
        }
    }

    /// Records an operation that succeeded.
    pub(super) fn succeeded(&self) {
        let mut state = self.state.lock();
        state.reason = None;
        if state.logged_failure && state.may_log() {
            state.logged_failure = false;
            log::info!("{}", self.recovered);
        }
    }

    /// Records an operation that failed.
    pub(super) fn failed(&self, reason: String) {
        let mut state = self.state.lock();
        if !state.logged_failure && state.may_log() {
            state.logged_failure = true;
            log::error!("{}: {reason}", self.failing);
        }
        state.reason = Some(reason);
    }
}

impl HealthState {
    fn may_log(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self
            .logged_at
            .is_none_or(|at| now.saturating_duration_since(at) >= LOG_INTERVAL);
        if is_due {
            self.logged_at = Some(now);
        }
        is_due
    }
}
