//! The progress of a load on a terminal, and Ctrl-C.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::text::{count, milliseconds};
use crate::client::{LoadProgress, LoadState};

/// Exit code after a second signal, less the signal's number, as shells have it.
const EXIT_SIGNAL: i32 = 128;

/// Shows progress, and notices SIGINT and SIGTERM.
pub(super) struct Watch {
    is_stopped: Arc<AtomicBool>,
    is_terminal: bool,
    has_line: bool,
    duration: Duration,
}

impl Watch {
    pub(super) fn new(duration: Duration) -> io::Result<Self> {
        let is_stopped = Arc::<AtomicBool>::default();
        for signal in [SIGINT, SIGTERM] {
            // The order matters: only a second signal finds the flag set.
            flag::register_conditional_shutdown(
                signal,
                EXIT_SIGNAL + signal,
                Arc::clone(&is_stopped),
            )?;
            flag::register(signal, Arc::clone(&is_stopped))?;
        }
        Ok(Self {
            is_stopped,
            is_terminal: io::stderr().is_terminal(),
            has_line: false,
            duration,
        })
    }
}

impl LoadProgress for Watch {
    fn report(&mut self, state: LoadState) {
        if !self.is_terminal {
            return;
        }
        let line = match state {
            LoadState::Opening { open, wanted } => {
                format!("connecting: {open} of {wanted} clients")
            }
            LoadState::Measuring {
                elapsed,
                deliveries_per_second,
                p95,
            } => format!(
                "measuring: {} s of {} s, {} deliveries per second, p95 {}",
                elapsed.as_secs(),
                self.duration.as_secs_f64(),
                count(deliveries_per_second),
                milliseconds(p95)
            ),
        };
        // A closed stderr changes nothing.
        write!(io::stderr(), "\r{line}\x1b[K").ok();
        self.has_line = true;
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.has_line {
            // Removes the progress. A closed stderr changes nothing.
            write!(io::stderr(), "\r\x1b[K").ok();
        }
    }
}
