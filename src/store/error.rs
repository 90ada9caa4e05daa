//! The errors of a store: for a client's request, and for the operator when a store cannot be opened.

use std::fmt;

use crate::protocol::{ErrorCode, Refusal};

/// An error of a request to the store; its `Display` is for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// The limit of rooms is reached.
    TooManyRooms,
    /// The store cannot be written or read. Nothing was stored.
    Unavailable,
    /// The remote store cannot be reached.
    Unreachable,
    /// The store did not reply in time, or failed in the middle. The message may have been stored.
    Unknown,
    /// The broker thread has ended.
    Stopped,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "the store is unavailable",
            Self::Unreachable => "the store cannot be reached",
            Self::Unknown => "the store failed, and whether it stored the message is unknown",
            Self::TooManyRooms => "the server has reached its limit of rooms",
            Self::Stopped => "the server is shutting down",
        })
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let (code, message) = match error {
            StoreError::TooManyRooms => (
                ErrorCode::TooManyRooms,
                "the server has reached its limit of rooms; use an existing room or try later",
            ),
            StoreError::Unavailable => (
                ErrorCode::StorageUnavailable,
                "the store is unavailable and nothing was published; try again later",
            ),
            StoreError::Unreachable => (
                ErrorCode::StorageUnavailable,
                "the store cannot be reached; try again later",
            ),
            StoreError::Unknown => (
                ErrorCode::StorageUnavailable,
                "the store failed and the message may have been published; send it again with the same id",
            ),
            StoreError::Stopped => (ErrorCode::ShuttingDown, "the server is shutting down"),
        };
        Self::new(code, message)
    }
}

/// The reason why a store cannot be opened: one line for the operator that names the setting.
#[derive(Debug)]
pub(crate) struct OpenError(String);

impl OpenError {
    pub(super) fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}
