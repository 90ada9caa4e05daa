//! The reasons why a node cannot connect to Redis at start-up.

use std::fmt;
use std::io;

/// The reason why a node cannot connect to Redis; its `Display` is one line for the operator.
#[derive(Debug)]
pub(in crate::store) enum ConnectError {
    /// The address is invalid.
    Address(&'static str),
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
                 unix:///run/redis.sock, with # / ? @ % in user and password as %23 %2F %3F %40 %25"
            ),
            Self::Redis(address, why) if is_about_password(why) => write!(
                f,
                "--redis {address}: {why}; check user and password, in which % is written as %25"
            ),
            Self::Redis(address, why) if is_about_reaching(why) => write!(
                f,
                "--redis {address}: {why}; check that Redis runs at this address, and start it first"
            ),
            Self::Redis(address, why) => write!(f, "--redis {address}: {why}"),
            Self::Thread(why) => write!(f, "cannot start a thread: {why}"),
        }
    }
}

/// Returns whether Redis refuses the user and password, or requires one.
fn is_about_password(why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    ["authentication", "wrongpass", "noauth"]
        .iter()
        .any(|word| why.contains(word))
}

/// Returns whether nothing accepts connections at the address: a port that is closed, or a socket file that is missing.
fn is_about_reaching(why: &str) -> bool {
    ["Connection refused", "No such file"]
        .iter()
        .any(|word| why.contains(word))
}

impl std::error::Error for ConnectError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_a_redis_that_is_down_has_a_cure() {
        for (why, cure) in [
            ("Connection refused (os error 111)", "start it first"),
            ("No such file or directory (os error 2)", "start it first"),
            (
                "WRONGPASS invalid username-password pair",
                "check user and password",
            ),
        ] {
            let error = ConnectError::Redis("host:6379".to_owned(), why.to_owned());
            let line = error.to_string();
            assert!(
                line.starts_with(&format!("--redis host:6379: {why}; check ")),
                "{line}"
            );
            assert!(line.contains(cure), "{line}");
        }
    }
}
