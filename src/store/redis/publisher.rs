//! Sends batches to Redis, where a script numbers and stores each message.

use redis::{Cmd, ServerErrorKind, Value};

use crate::store::error::StoreError;
use crate::store::publish::{Publish, Stored};

use super::acknowledged::AcknowledgedPositions;
use super::client::{CommandError, RedisClient, Reply, error_text};
use super::node_state::NodeState;
use super::publish_call::{self, CallRooms, parse_stored};

/// The client that publishes.
#[derive(Debug)]
pub(super) struct Publisher {
    client: RedisClient,
    call_rooms: CallRooms,
    acknowledged: AcknowledgedPositions,
}

/// The results of a batch.
pub(super) struct Appended {
    /// The result of each publish.
    pub(super) results: Vec<Result<Stored, StoreError>>,
    /// The reason why some or all of the batch were not stored.
    pub(super) failure: Option<String>,
}

impl Publisher {
    pub(super) fn new(state: &NodeState) -> Self {
        let call_rooms = match state.is_cluster() {
            true => CallRooms::One,
            false => CallRooms::Many,
        };
        Self {
            client: state.client(),
            call_rooms,
            acknowledged: AcknowledgedPositions::default(),
        }
    }

    /// Checks that Redis replies to the publishing client.
    pub(super) fn check(&mut self, state: &NodeState) -> Result<(), String> {
        state.check(&mut self.client).map_err(|why| why.to_string())
    }

    /// Runs commands on the publishing client.
    pub(super) fn run(&mut self, commands: &[Cmd]) -> Result<(), CommandError> {
        self.client.run(commands).map(drop)
    }

    /// Stores a batch.
    pub(super) fn append(&mut self, batch: &[Publish], state: &NodeState) -> Appended {
        // The calls have arguments that the set-up of a connection learns, so they are built once connected.
        let replies = match self.client.connect() {
            Ok(()) => self.call(batch, state),
            Err(why) => vec![Err(why); batch.len()],
        };
        if replies.iter().flatten().any(is_late) {
            // The clock of Redis was set. The next batch uses the new time; if this fails, that batch reports it.
            self.check(state).ok();
        }
        let appended = Appended::from_replies(replies);
        for (publish, result) in batch.iter().zip(&appended.results) {
            if let Ok(Stored::Relayed(position)) = result {
                self.acknowledged.record(&publish.room, *position);
            }
        }
        appended
    }

    /// Calls the script for a batch and returns the reply for each message.
    fn call(&mut self, batch: &[Publish], state: &NodeState) -> Vec<Reply> {
        let no_reply = || Err(CommandError::NoReply("no reply".to_owned()));
        let mut replies: Vec<Reply> = batch.iter().map(|_| no_reply()).collect();
        self.call_for(0..batch.len(), batch, state, &mut replies);
        if self.call_rooms == CallRooms::Many && replies.iter().flatten().any(is_cross_slot) {
            // The address leads to a cluster that does not say so. It has not executed these calls.
            self.call_rooms = CallRooms::One;
            let refused = |index: &usize| replies[*index].as_ref().is_ok_and(is_cross_slot);
            let refused: Vec<usize> = (0..batch.len()).filter(refused).collect();
            self.call_for(refused, batch, state, &mut replies);
        }
        replies
    }

    fn call_for(
        &mut self,
        indexes: impl IntoIterator<Item = usize>,
        batch: &[Publish],
        state: &NodeState,
        replies: &mut [Reply],
    ) {
        let calls = publish_call::divide(batch, indexes, self.call_rooms);
        let commands: Vec<Cmd> = calls
            .iter()
            .map(|call| call.command(batch, state, &self.acknowledged))
            .collect();
        for (call, reply) in calls.iter().zip(self.client.run_connected(&commands)) {
            for (index, reply) in call.indexes().zip(call.replies(reply)) {
                replies[index] = reply;
            }
        }
    }
}

/// Returns whether the server rejected a call because its keys are in several slots.
fn is_cross_slot(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::CrossSlot))
}

/// Returns whether the script rejected a publish because its deadline had passed.
fn is_late(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "LATE")
}

impl Appended {
    fn from_replies(replies: Vec<Reply>) -> Self {
        let mut failure = None;
        let results = replies.into_iter().map(|reply| {
            let (error, reason) = match reply {
                Ok(Value::ServerError(error)) => (StoreError::Unavailable, error_text(&error)),
                Ok(reply) => return parse_stored(reply).ok_or(StoreError::Unknown),
                Err(CommandError::NotExecuted(reason)) => (StoreError::Unavailable, reason),
                Err(CommandError::NoReply(reason)) => (StoreError::Unknown, reason),
            };
            failure = Some(reason);
            Err(error)
        });
        let results = results.collect();
        Self { results, failure }
    }
}
