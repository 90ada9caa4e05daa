//! The two stable sets of codes that clients act on: errors of a request, and close codes of a connection.

use std::borrow::Cow;
use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

/// The reason why one request was refused. The connection stays open, except after a frame that is larger than
/// `--max-message-bytes`, which ends it with 1009. Clients match on [`as_str`](Self::as_str).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The frame is not JSON.
    InvalidJson,
    /// The frame is JSON, but not an object.
    NotAnObject,
    /// The JSON is nested deeper than [`DEPTH_MAX`](super::DEPTH_MAX).
    TooDeep,
    /// The object contains the same key twice.
    DuplicateField,
    /// A field that this type needs is missing.
    MissingField,
    /// A field has the wrong JSON type or a value outside its range.
    InvalidField,
    /// The `type` is not one that a client may send.
    UnknownType,
    /// The room's name contains a forbidden character or has a wrong length.
    InvalidRoom,
    /// The request's `id` is empty or too long.
    InvalidId,
    /// The client is not a member of the room it names.
    NotInRoom,
    /// The client or the server has reached its limit of rooms.
    TooManyRooms,
    /// The room has reached its limit of members.
    RoomFull,
    /// The message, with its envelope, does not fit an outbox.
    MessageTooLarge,
    /// The state of a member has too many bytes.
    StateTooLarge,
    /// The frame is binary; only text frames are accepted.
    BinaryUnsupported,
    /// The message could not be stored and was not published.
    StorageUnavailable,
    /// The server is shutting down.
    ShuttingDown,
    /// The token is missing or refused.
    Unauthorized,
    /// The token's key cannot be fetched now.
    KeysUnavailable,
    /// The token does not grant this right.
    Forbidden,
    /// The backend that knows clients gives no usable answer.
    AuthUnavailable,
    /// The connection sends more than its rate allows.
    RateLimited,
}

impl ErrorCode {
    /// Returns the value of `payload.code`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::NotAnObject => "not_an_object",
            Self::TooDeep => "too_deep",
            Self::DuplicateField => "duplicate_field",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::UnknownType => "unknown_type",
            Self::InvalidRoom => "invalid_room",
            Self::InvalidId => "invalid_id",
            Self::NotInRoom => "not_in_room",
            Self::TooManyRooms => "too_many_rooms",
            Self::RoomFull => "room_full",
            Self::MessageTooLarge => "message_too_large",
            Self::StateTooLarge => "state_too_large",
            Self::BinaryUnsupported => "binary_unsupported",
            Self::StorageUnavailable => "storage_unavailable",
            Self::ShuttingDown => "shutting_down",
            Self::Unauthorized => "unauthorized",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Forbidden => "forbidden",
            Self::AuthUnavailable => "auth_unavailable",
            Self::RateLimited => "rate_limited",
        }
    }
}

/// The refusal of a request: a code for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code that a program matches.
    pub code: ErrorCode,
    /// A sentence that says what to do instead.
    pub message: Cow<'static, str>,
    /// The time after which a retry may succeed, if it is known.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Returns a refusal without a time for a retry.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }
}

/// The payload of an `error`.
impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = if self.retry_after.is_some() { 3 } else { 2 };
        let mut map = serializer.serialize_struct("Refusal", fields)?;
        map.serialize_field("code", self.code.as_str())?;
        map.serialize_field("message", &self.message)?;
        if let Some(retry_after) = self.retry_after {
            map.serialize_field("retry_after_ms", &(retry_after.as_millis() as u64))?;
        }
        map.end()
    }
}

/// The reason why a connection ends: RFC 6455 §7.4 and the IANA registry below 4000, wscast's own from 4000.
///
/// The range says what a client does next. 4000–4099: do not reconnect. 4100–4199: reconnect with backoff.
/// 4200–4299: reconnect at once. All others: reconnect with backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseCode {
    /// 1001: the server is shutting down.
    GoingAway,
    /// 1002: the client violated RFC 6455.
    Protocol,
    /// 1007: a text message is not UTF-8.
    InvalidData,
    /// 1009: a message is larger than the limit.
    TooBig,
    /// 1011: the server failed.
    InternalError,
    /// 1013: the store cannot be read now, or the backend that knows clients gives no usable answer.
    TryAgainLater,
    /// 4000: the address with which a page connected is wrong.
    BadRequest,
    /// 4001: the token is missing, refused, expired or revoked.
    Unauthorized,
    /// 4003: an operator closed the connection, or the token does not grant the right, or the page's origin is not
    /// allowed.
    Forbidden,
    /// 4004: the path with which a page connected is not that of a WebSocket.
    NotFound,
    /// 4100: the client reads too slowly.
    SlowConsumer,
    /// 4101: the client kept exceeding its rate, or too many tokens from its address were refused.
    RateLimited,
    /// 4102: the client's address has too many connections.
    TooManyConnections,
    /// 4103: a room named on connect has reached its limit of members.
    RoomFull,
    /// 4104: the server, or its store, cannot take the client into a room named on connect.
    Unavailable,
    /// 4200: a room's numbering restarted, or this node missed messages of the room.
    Restarted,
}

impl CloseCode {
    /// Returns the number in the Close frame.
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::Protocol => 1002,
            Self::InvalidData => 1007,
            Self::TooBig => 1009,
            Self::InternalError => 1011,
            Self::TryAgainLater => 1013,
            Self::BadRequest => 4000,
            Self::Unauthorized => 4001,
            Self::Forbidden => 4003,
            Self::NotFound => 4004,
            Self::SlowConsumer => 4100,
            Self::RateLimited => 4101,
            Self::TooManyConnections => 4102,
            Self::RoomFull => 4103,
            Self::Unavailable => 4104,
            Self::Restarted => 4200,
        }
    }

    /// Returns the usual reason in the Close frame.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::GoingAway => "server is shutting down",
            Self::Protocol => "protocol error",
            Self::InvalidData => "text is not UTF-8",
            Self::TooBig => "message is too large",
            Self::InternalError => "internal error",
            Self::TryAgainLater => "try again later",
            Self::BadRequest => "bad request",
            Self::Unauthorized => "token is missing, refused, expired or revoked",
            Self::Forbidden => "forbidden",
            Self::NotFound => "no such path",
            Self::SlowConsumer => "slow consumer",
            Self::RateLimited => "rate limited",
            Self::TooManyConnections => "too many connections",
            Self::RoomFull => "room is full",
            Self::Unavailable => "unavailable",
            Self::Restarted => "numbering of a room restarted",
        }
    }
}
