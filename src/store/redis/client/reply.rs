//! Replies of Redis, and the errors of commands that got none.

use std::fmt;
use std::time::Duration;

use redis::{ServerError, Value};

/// Time limit for connecting, and for all replies to one batch of commands together.
pub(crate) const REDIS_TIMEOUT: Duration = Duration::from_secs(2);

/// The reason why a command has no reply.
#[derive(Clone, Debug)]
pub(crate) enum CommandError {
    /// The command did not reach Redis, or Redis rejected it.
    NotExecuted(String),
    /// The command was sent, and Redis may have executed it.
    NoReply(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotExecuted(why) | Self::NoReply(why) => f.write_str(why),
        }
    }
}

/// The reply to a command. An error that Redis itself returned is a reply, too: [`Value::ServerError`].
pub(crate) type Reply = Result<Value, CommandError>;

/// Turns an error that Redis returned into a [`CommandError`].
pub(crate) fn accepted(reply: Value) -> Reply {
    match reply {
        Value::ServerError(error) => Err(CommandError::NotExecuted(error_text(&error))),
        value => Ok(value),
    }
}

/// Formats an error as Redis wrote it: a code and a sentence.
pub(crate) fn error_text(error: &redis::ServerError) -> String {
    let details = error.details().unwrap_or_default();
    format!("{} {details}", error.code())
}

/// Returns the errors in a reply: the reply itself, or some of the results of a script.
pub(crate) fn server_errors(reply: &Value) -> impl Iterator<Item = &ServerError> {
    let results = match reply {
        Value::Array(results) => results,
        reply => std::slice::from_ref(reply),
    };
    results.iter().filter_map(|result| match result {
        Value::ServerError(error) => Some(error),
        _ => None,
    })
}
