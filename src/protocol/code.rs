//! The two stable vocabularies a client acts on: refusals of one request, ends of a connection.

use std::borrow::Cow;
use std::time::Duration;

/// Why one request was refused; the connection stays open. Clients match on the text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The frame is not JSON.
    InvalidJson,
    /// The frame is JSON, but not an object.
    NotAnObject,
    /// JSON nested deeper than [`DEPTH_MAX`](super::DEPTH_MAX).
    TooDeep,
    /// The same key stands twice in the object.
    DuplicateField,
    /// A field this type needs is not there.
    MissingField,
    /// A field has the wrong JSON type or is out of its bounds.
    InvalidField,
    /// `type` is none that a client may send.
    UnknownType,
    /// The room's name is outside its alphabet or length.
    InvalidRoom,
    /// The request's `id` is empty or too long.
    InvalidId,
    /// The client is not a member of the room it names.
    NotInRoom,
    /// The client, or the server, has as many rooms as it may have.
    TooManyRooms,
    /// The room has as many members as it may have.
    RoomFull,
    /// The message does not fit the outbound bound once it is wrapped.
    MessageTooLarge,
    /// A binary frame came where only text is spoken.
    BinaryUnsupported,
    /// The broker did not take the message; nothing was published.
    StorageUnavailable,
    /// The server is closing down.
    ShuttingDown,
    /// There is no token, or it grants nothing.
    Unauthorized,
    /// The token does not grant this.
    Forbidden,
    /// More than a connection may ask in this time.
    RateLimited,
}

impl ErrorCode {
    /// The code as it stands in `payload.code`.
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
            Self::BinaryUnsupported => "binary_unsupported",
            Self::StorageUnavailable => "storage_unavailable",
            Self::ShuttingDown => "shutting_down",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate_limited",
        }
    }
}

/// A refused request: the code a program matches and the sentence a person reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What a program matches.
    pub code: ErrorCode,
    /// What a person can act on.
    pub message: Cow<'static, str>,
    /// When it is worth trying again, where that is known.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal that says what to do instead.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }
}

/// Why a connection ends (RFC 6455 §7.4 and the IANA registry below 4000, ours from 4000 on).
///
/// The range tells a client what to do: 4000–4099 stay away, 4100–4199 reconnect with backoff,
/// 4200–4299 reconnect at once; all others reconnect with backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// 1000: the client closed, or echoed its own close.
    Normal,
    /// 1001: the server is going away.
    GoingAway,
    /// 1002: the client broke RFC 6455.
    Protocol,
    /// 1007: a text message was not UTF-8.
    InvalidData,
    /// 1009: a message over the bound.
    TooBig,
    /// 1011: the server failed.
    InternalError,
    /// 1013: the server cannot say now what was missed.
    TryAgainLater,
    /// 4001: no token, or one that grants nothing or has expired.
    Unauthorized,
    /// 4003: closed by an operator, or not allowed what it wants.
    Forbidden,
    /// 4100: the client does not read what it is sent.
    SlowConsumer,
    /// 4101: the client went on asking for more than it may, or its address had too many tokens refused.
    RateLimited,
    /// 4102: the client's address has too many connections.
    TooManyConnections,
    /// 4103: a room it asked for on connecting has as many members as it may have.
    RoomFull,
    /// 4200: the numbering of a room restarted, or messages of it were lost to this server.
    Restarted,
}

impl CloseCode {
    /// The number in the Close frame.
    pub fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::Protocol => 1002,
            Self::InvalidData => 1007,
            Self::TooBig => 1009,
            Self::InternalError => 1011,
            Self::TryAgainLater => 1013,
            Self::Unauthorized => 4001,
            Self::Forbidden => 4003,
            Self::SlowConsumer => 4100,
            Self::RateLimited => 4101,
            Self::TooManyConnections => 4102,
            Self::RoomFull => 4103,
            Self::Restarted => 4200,
        }
    }

    /// The reason in the Close frame: at most 123 bytes (RFC 6455 §5.5).
    pub fn reason(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::GoingAway => "server is going away",
            Self::Protocol => "protocol error",
            Self::InvalidData => "text is not UTF-8",
            Self::TooBig => "message too big",
            Self::InternalError => "internal error",
            Self::TryAgainLater => "try again later",
            Self::Unauthorized => "token needed, bad or expired",
            Self::Forbidden => "forbidden",
            Self::SlowConsumer => "slow consumer",
            Self::RateLimited => "rate limited",
            Self::TooManyConnections => "too many connections",
            Self::RoomFull => "room is full",
            Self::Restarted => "a room has restarted",
        }
    }
}
