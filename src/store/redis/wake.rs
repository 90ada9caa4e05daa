//! Waking the thread that listens: it waits for Redis and for nothing else, so it is told through Redis.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::Cmd;

use super::answer::LinkError;
use super::names::Names;

/// Whether a call is on its way already: many who want something at once call once.
#[derive(Debug, Default)]
pub(super) struct Wake(AtomicBool);

impl Wake {
    /// Calls through `run`, after what is wanted was put where the thread looks.
    pub(super) fn call(
        &self,
        names: &Names,
        run: impl FnOnce(Cmd) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        if self.0.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let mut command = redis::cmd("PUBLISH");
        command.arg(names.echo()).arg("");
        let called = run(command);
        if called.is_err() {
            self.0.store(false, Ordering::SeqCst);
        }
        called
    }

    /// The thread heard it, and looks after that.
    pub(super) fn heard(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
