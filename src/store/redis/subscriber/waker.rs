//! Wakes the subscriber thread through Redis, because that thread blocks in a read from Redis.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::Cmd;

use super::super::client::CommandError;
use super::super::names::Names;

/// Wakes the subscriber thread. Threads that queue requests at the same time share a wake-up.
#[derive(Debug, Default)]
pub(crate) struct SubscriberWaker(AtomicBool);

impl SubscriberWaker {
    /// Publishes a wake-up through `run`, unless one is under way. The request must have been queued before.
    pub(crate) fn wake(
        &self,
        names: &Names,
        run: impl FnOnce(Cmd) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        if self.0.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let mut command = redis::cmd("PUBLISH");
        command.arg(names.echo_channel()).arg("");
        let result = run(command);
        if result.is_err() {
            self.0.store(false, Ordering::SeqCst);
        }
        result
    }

    /// Records that the subscriber is awake. It must check its queue of requests afterwards.
    pub(super) fn arrived(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
