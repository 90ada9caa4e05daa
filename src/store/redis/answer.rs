//! What becomes of a command.

use std::fmt;
use std::time::Duration;

use redis::Value;

/// Time for a connection to be made, and for all answers to what was sent on one.
pub(super) const REDIS_TIMEOUT: Duration = Duration::from_secs(2);

/// Why commands were not answered.
#[derive(Clone, Debug)]
pub(super) enum LinkError {
    /// They did not reach Redis.
    NotSent(String),
    /// They may have.
    Unanswered(String),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) | Self::Unanswered(why) => f.write_str(why),
        }
    }
}

/// What became of a command. What Redis refuses is answered.
pub(super) type Answer = Result<Value, LinkError>;

/// An answer that is no refusal.
pub(super) fn accepted(answer: Value) -> Result<Value, LinkError> {
    match answer {
        Value::ServerError(why) => Err(LinkError::NotSent(told(&why))),
        value => Ok(value),
    }
}

/// A refusal in the words of Redis: a code and a sentence.
pub(super) fn told(refusal: &redis::ServerError) -> String {
    let (code, sentence) = (refusal.code(), refusal.details().unwrap_or_default());
    format!("{code} {sentence}")
}
