//! Whether the store works, and a line in the log each time that changes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines about a store that fails and works by turns are at least this far apart.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Health {
    /// What the log says while it does not work.
    failing: &'static str,
    /// What it says when that is over.
    working: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Why it does not work.
    reason: Option<String>,
    logged_at: Option<Instant>,
    /// Whether the last line said that it fails.
    logged_failure: bool,
}

impl Health {
    /// Of a store that works so far.
    pub(super) fn new(failing: &'static str, working: &'static str) -> Self {
        Self {
            failing,
            working,
            state: Mutex::default(),
        }
    }

    /// Of what publishes are stored in.
    pub(super) fn of_store() -> Self {
        Self::new(
            "the store cannot be used and publishes are refused",
            "the store works again",
        )
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the operator is told.
    pub(super) fn get(&self) -> Result<(), String> {
        match &self.lock().reason {
            None => Ok(()),
            Some(reason) => Err(format!("{}: {reason}", self.failing)),
        }
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
            log::info!("{}", self.working);
        }
    }

    /// The store could not do what was asked.
    pub(super) fn failed(&self, reason: String) {
        let mut state = self.lock();
        if !state.logged_failure && state.may_log() {
            state.logged_failure = true;
            log::error!("{}: {reason}", self.failing);
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
