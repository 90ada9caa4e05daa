//! Whether the store works, and a line in the log each time that changes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines about a store that fails and works by turns are at least this far apart.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Why it does not work.
    reason: Option<String>,
    logged_at: Option<Instant>,
    /// Whether the last line said that it fails.
    logged_failure: bool,
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the operator is told.
    pub(super) fn get(&self) -> Result<(), String> {
        self.lock().reason.clone().map_or(Ok(()), Err)
    }

    pub(super) fn is_good(&self) -> bool {
        self.lock().reason.is_none()
    }

    /// The store did what was asked.
    pub(super) fn succeeded(&self) {
        let mut state = self.lock();
        state.reason = None;
        if state.logged_failure && state.may_log() {
            state.logged_failure = false;
            log::info!("the store works again");
        }
    }

    /// The store could not do what was asked.
    pub(super) fn failed(&self, reason: String) {
        let mut state = self.lock();
        if !state.logged_failure && state.may_log() {
            state.logged_failure = true;
            log::error!("the store cannot be used and publishes are refused: {reason}");
        }
        state.reason = Some(reason);
    }
}

impl State {
    fn may_log(&mut self) -> bool {
        let now = Instant::now();
        let due = self
            .logged_at
            .is_none_or(|at| now.saturating_duration_since(at) >= LOG_INTERVAL);
        if due {
            self.logged_at = Some(now);
        }
        due
    }
}
