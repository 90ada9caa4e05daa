//! Storing: a batch goes to Redis together, and each message is numbered there.

use std::sync::Arc;

use redis::{Cmd, FromRedisValue, Value};

use super::super::dedupe::{DEDUPE_IDS_MAX, DEDUPE_WINDOW};
use super::super::{BrokerError, Place, Publish, Stored};
use super::link::{Link, LinkError, REDIS_TIMEOUT, told};
use super::shared::{Shared, position};
use super::{record, scripts};

/// The link that publishes.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Link,
}

/// What became of a batch, and why none or not all of it was stored.
pub(super) struct Appended {
    pub(super) stored: Vec<Result<Stored, BrokerError>>,
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
        let failed = |error: BrokerError, why: String| Appended {
            stored: batch.iter().map(|_| Err(error)).collect(),
            failure: Some(why),
        };
        let call = |publish| call(publish, shared);
        let ready = self.link.ready();
        let answers =
            ready.and_then(|()| self.link.run(&batch.iter().map(call).collect::<Vec<Cmd>>()));
        match answers {
            Ok(answers) => understand(batch, answers),
            Err(LinkError::NotSent(why)) => failed(BrokerError::Unavailable, why),
            Err(LinkError::Unanswered(why)) => failed(BrokerError::Unknown, why),
        }
    }
}

fn call(publish: &Publish, shared: &Shared) -> Cmd {
    let (stream, limits) = (&publish.stream, &shared.limits);
    let room = stream.name();
    let mut command = shared.call_numbering(&scripts::PUBLISH, room, Some(stream.position()));
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

fn understand(batch: &[Publish], answers: Vec<Value>) -> Appended {
    let mut failure = None;
    let mut stored = Vec::with_capacity(batch.len());
    for (publish, answer) in batch.iter().zip(answers) {
        if let Value::ServerError(why) = &answer {
            failure = Some(told(why));
            stored.push(Err(BrokerError::Unavailable));
            continue;
        }
        let understood = <(String, u64, u8)>::from_redis_value(answer).ok();
        let place = understood.and_then(|(epoch, offset, known)| {
            let room = publish.stream.name().clone();
            let position = position(&epoch, offset)?;
            Some((Place { room, position }, known == 1))
        });
        stored.push(match place {
            Some((place, true)) => Ok(Stored::Duplicate(place)),
            Some((place, false)) => Ok(Stored::Relayed(place)),
            None => Err(BrokerError::Unknown),
        });
    }
    Appended { stored, failure }
}
