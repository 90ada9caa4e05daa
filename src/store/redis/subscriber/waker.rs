//! Wakes a subscriber thread through Redis, because that thread blocks in a read from Redis.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redis::Cmd;

use super::super::client::CommandError;
use super::source::RelaySource;

/// Wakes a subscriber thread. Threads that queue requests at the same time share a wake-up.
#[derive(Debug)]
pub(crate) struct SubscriberWaker {
    is_waking: AtomicBool,
    command: &'static str,
    /// Empty until the subscriber listens. It changes with the slots of the subscriber's server.
    channel: Mutex<String>,
}

impl SubscriberWaker {
    pub(super) fn new(source: &RelaySource) -> Self {
        let command = match source {
            RelaySource::AnyServer => "PUBLISH",
            RelaySource::Shard(_) => "SPUBLISH",
        };
        Self {
            is_waking: AtomicBool::new(false),
            command,
            channel: Mutex::default(),
        }
    }

    /// Sets the channel to which the subscriber listens.
    pub(super) fn set_channel(&self, channel: String) {
        *self.channel.lock() = channel;
    }

    /// Publishes a wake-up through `run`, unless one is under way or the subscriber does not listen yet. The request
    /// must have been queued before.
    pub(crate) fn wake(
        &self,
        run: impl FnOnce(Cmd) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        if self.is_waking.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let Some(command) = self.publish("") else {
            return Ok(());
        };
        let result = run(command);
        if result.is_err() {
            self.is_waking.store(false, Ordering::SeqCst);
        }
        result
    }

    /// Returns the command that publishes a message to the subscriber if it listens. An empty one only wakes it.
    pub(super) fn publish(&self, message: impl redis::ToRedisArgs) -> Option<Cmd> {
        let channel = self.channel.lock();
        let mut command = redis::cmd(self.command);
        command.arg(&*channel).arg(message);
        (!channel.is_empty()).then_some(command)
    }

    /// Records that the subscriber is awake. It must check its queue of requests afterwards.
    pub(super) fn arrived(&self) {
        self.is_waking.store(false, Ordering::SeqCst);
    }
}
