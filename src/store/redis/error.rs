//! The reasons why a node cannot connect to Redis at start-up.

use std::fmt;
use std::io;

/// The reason why a node cannot connect to Redis; its `Display` is one line for the operator.
#[derive(Debug)]
pub(in crate::store) enum ConnectError {
    /// The address is invalid.
    Address(String),
    /// Redis cannot be reached, or rejects commands: the address and the reason.
    Redis(String, String),
    /// A thread cannot be started.
    Thread(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(why) => write!(
                f,
                "--redis: {why}; write redis://host:6379, rediss://user:password@host:6379 or \
                 unix:///run/redis.sock"
            ),
            Self::Redis(address, why) => write!(f, "--redis {address}: {why}"),
            Self::Thread(why) => write!(f, "cannot start a thread: {why}"),
        }
    }
}

impl std::error::Error for ConnectError {}
