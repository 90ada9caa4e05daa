//! Storing: a batch goes to Redis together, and each message is numbered there.

use std::sync::Arc;

use redis::{Cmd, FromRedisValue, Value};

use super::super::dedupe::{DEDUPE_IDS_MAX, DEDUPE_WINDOW};
use super::super::error::StoreError;
use super::super::publish::{Publish, Stored};
use super::answer::{Answer, LinkError, REDIS_TIMEOUT, told};
use super::link::Link;
use super::shared::{Shared, position};
use super::{record, scripts};

/// The link that publishes.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Link,
}

/// What became of a batch, and why none or not all of it was stored.
pub(super) struct Appended {
    pub(super) stored: Vec<Result<Stored, StoreError>>,
    pub(super) failure: Option<String>,
}

impl Publisher {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            link: shared.link(),
        }
    }

    /// Finds out whether Redis can be published to.
    pub(super) fn check(&mut self, shared: &Shared) -> Result<(), String> {
        shared.check(&mut self.link).map_err(|why| why.to_string())
    }

    pub(super) fn say(&mut self, commands: &[Cmd]) -> Result<(), LinkError> {
        self.link.run(commands).map(drop)
    }

    pub(super) fn append(&mut self, batch: &[Publish], shared: &Shared) -> Appended {
        // What is learnt with a connection is part of what is sent.
        let answers = match self.link.ready() {
            Ok(()) => {
                let call = |publish| call(publish, shared);
                self.link
                    .run_ready(&batch.iter().map(call).collect::<Vec<Cmd>>())
            }
            Err(why) => vec![Err(why); batch.len()],
        };
        if answers.iter().flatten().any(is_late) {
            // Its clock was set: what comes next is not late by the new one.
            let _noted_by_the_next = shared.check(&mut self.link);
        }
        understand(answers)
    }
}

fn call(publish: &Publish, shared: &Shared) -> Cmd {
    let (room, limits) = (&publish.room, &shared.limits);
    let seen = shared.rooms.get(room).map(|numbering| numbering.position());
    let mut command = shared.call_numbering(&scripts::PUBLISH, room, seen);
    command
        .arg(shared.names.channel(room))
        .arg(record::encode(publish))
        .arg(id(publish))
        .arg(shared.deadline(REDIS_TIMEOUT))
        .arg(limits.messages)
        .arg(limits.bytes)
        .arg(limits.age.as_millis() as u64)
        .arg(DEDUPE_WINDOW.as_millis() as u64)
        .arg(DEDUPE_IDS_MAX / 2);
    command
}

/// The publisher's id and within what it is compared; nothing if it has none. Both may hold any character, so
/// the length of the first says where the second begins.
fn id(publish: &Publish) -> String {
    match (&publish.scope, &publish.id) {
        (Some(scope), Some(id)) => {
            let scope = scope.to_text();
            format!("{}:{scope}{}", scope.len(), id.as_str())
        }
        _ => String::new(),
    }
}

/// Whether the script found that this node no longer waits.
fn is_late(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(why) if why.code() == "LATE")
}

fn understand(answers: Vec<Answer>) -> Appended {
    let mut failure = None;
    let mut refused = |error: StoreError, why: String| {
        failure = Some(why);
        Err(error)
    };
    let stored = answers.into_iter().map(|answer| {
        let answer = match answer {
            Ok(Value::ServerError(why)) => {
                return refused(StoreError::Unavailable, told(&why));
            }
            Ok(answer) => answer,
            Err(LinkError::NotSent(why)) => return refused(StoreError::Unavailable, why),
            Err(LinkError::Unanswered(why)) => return refused(StoreError::Unknown, why),
        };
        let understood = <(String, u64, u8)>::from_redis_value(answer).ok();
        let place = understood
            .and_then(|(epoch, offset, known)| Some((position(&epoch, offset)?, known == 1)));
        match place {
            Some((place, true)) => Ok(Stored::Duplicate(place)),
            Some((place, false)) => Ok(Stored::Relayed(place)),
            None => Err(StoreError::Unknown),
        }
    });
    let stored = stored.collect();
    Appended { stored, failure }
}
