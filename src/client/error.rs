//! The reasons why a client ends, and why one connection is lost.

use std::fmt;

/// The reason why a client ends. Its text is one line.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// The server cannot be reached, or is not able to take clients now. A later attempt may succeed.
    Unreachable(String),
    /// The server refuses this client: its token, room or address. A later attempt would be refused too.
    Refused(String),
    /// Something else failed, such as a file.
    Failed(String),
    /// The reader of the output has closed it, which is no error.
    OutputClosed,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) | Self::Refused(why) | Self::Failed(why) => f.write_str(why),
            Self::OutputClosed => f.write_str("the output was closed"),
        }
    }
}

/// The reason why a connection was lost.
#[derive(Clone, Debug)]
pub(super) enum Lost {
    /// The server closed it with this code and reason.
    Closed(u16, String),
    /// It broke, or nothing was received for too long.
    Broken(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(code, reason) => write!(f, "the server closed with {code}: {reason}"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}
