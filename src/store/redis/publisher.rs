//! Sends batches to Redis, where a script numbers and stores each message.

use redis::{Cmd, FromRedisValue, Value};

use crate::store::dedupe::{DEDUPE_IDS_MAX, DEDUPE_WINDOW};
use crate::store::error::StoreError;
use crate::store::publish::{Publish, Stored};

use super::client::{CommandError, REDIS_TIMEOUT, RedisClient, Reply, error_text};
use super::node_state::{NodeState, parse_position};
use super::{clock, record, scripts};

/// The client that publishes.
#[derive(Debug)]
pub(super) struct Publisher(RedisClient);

/// The results of a batch.
pub(super) struct Appended {
    /// The result of each publish.
    pub(super) results: Vec<Result<Stored, StoreError>>,
    /// The reason why some or all of the batch were not stored.
    pub(super) failure: Option<String>,
}

impl Publisher {
    pub(super) fn new(state: &NodeState) -> Self {
        Self(state.client())
    }

    /// Checks that Redis replies to the publishing client.
    pub(super) fn check(&mut self, state: &NodeState) -> Result<(), String> {
        state.check(&mut self.0).map_err(|why| why.to_string())
    }

    /// Runs commands on the publishing client.
    pub(super) fn run(&mut self, commands: &[Cmd]) -> Result<(), CommandError> {
        self.0.run(commands).map(drop)
    }

    /// Stores a batch.
    pub(super) fn append(&mut self, batch: &[Publish], state: &NodeState) -> Appended {
        // The calls have arguments that the set-up of a connection learns, so they are built once connected.
        let replies = match self.0.connect() {
            Ok(()) => {
                let calls: Vec<Cmd> = batch.iter().map(|publish| call(publish, state)).collect();
                self.0.run_connected(&calls)
            }
            Err(why) => vec![Err(why); batch.len()],
        };
        if replies.iter().flatten().any(is_late) {
            // The clock of Redis was set. The next batch uses the new time; if this fails, that batch reports it.
            self.check(state).ok();
        }
        Appended::from_replies(replies)
    }
}

fn call(publish: &Publish, state: &NodeState) -> Cmd {
    let (room, limits) = (&publish.room, &state.limits);
    let seen = state.rooms.get(room).map(|numbering| numbering.position());
    let mut command = state.call_numbering_script(&scripts::PUBLISH, room, seen);
    command
        .arg(state.names.room_channel(room))
        .arg(record::encode(publish))
        .arg(dedupe_id(publish))
        .arg(state.deadline(REDIS_TIMEOUT))
        .arg(limits.messages)
        .arg(limits.bytes)
        .arg(limits.age.as_millis() as u64)
        .arg(DEDUPE_WINDOW.as_millis() as u64)
        .arg(DEDUPE_IDS_MAX / 2)
        .arg(state.steady_now())
        .arg(clock::JUMP_MAX.as_millis() as u64);
    command
}

/// Joins scope and id into one text; empty if the publish cannot be deduplicated. Both may contain any character, so
/// the scope is preceded by its length.
fn dedupe_id(publish: &Publish) -> String {
    match (&publish.scope, &publish.id) {
        (Some(scope), Some(id)) => {
            let scope = scope.to_text();
            format!("{}:{scope}{}", scope.len(), id.as_str())
        }
        _ => String::new(),
    }
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

fn parse_stored(reply: Value) -> Option<Stored> {
    let (epoch, offset, duplicate) = <(String, u64, u8)>::from_redis_value(reply).ok()?;
    let position = parse_position(&epoch, offset)?;
    Some(if duplicate == 1 {
        Stored::Duplicate(position)
    } else {
        Stored::Relayed(position)
    })
}
