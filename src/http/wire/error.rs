//! The reasons to reject a request head.

/// The reason to reject a head; each ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// 400, with the rule that the head breaks.
    Bad(&'static str),
    /// 431.
    TooLarge,
    /// 501: a transfer coding besides `chunked`.
    Coding,
    /// 505.
    Version,
}
