//! Requests of clients: parsing a text frame.

use std::borrow::Cow;

use super::envelope::{Envelope, optional_bool, optional_number, optional_string, wrong_type};
use super::{
    Backlog, ErrorCode, Kind, MemberState, NameError, PAGE_MESSAGES_MAX, Refusal, RequestId,
    RoomName, Since, StateChange, TTL_SECONDS_MAX, Ttl, quote,
};

/// A parsed request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRequest<'a> {
    /// The request's id, repeated in the reply.
    pub id: Option<RequestId>,
    /// The content of the request.
    pub message: ClientMessage<'a>,
}

/// The content of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// `message` and `custom_event`.
    Publish(PublishRequest<'a>),
    /// `join`: become a member of a room.
    Join {
        /// The room's name.
        room: RoomName,
        /// True if the client subscribes to presence updates.
        presence: bool,
        /// The stored messages that the client asks for.
        backlog: Backlog,
        /// The state that the client shows in the room.
        state: StateChange,
    },
    /// `state`: show another state in a room.
    State {
        /// The room's name.
        room: RoomName,
        /// The state to show; `None` to show none.
        state: Option<MemberState>,
    },
    /// `history`: stored messages of a room.
    History {
        /// The room's name.
        room: RoomName,
        /// The page starts after this offset; without it, the newest page is meant.
        since: Option<u64>,
        /// Most messages in the page.
        limit: Option<usize>,
    },
    /// `leave`: end the membership of a room.
    Leave {
        /// The room's name.
        room: RoomName,
    },
    /// `presence`: list the members of a room.
    Presence {
        /// The room's name.
        room: RoomName,
    },
    /// `auth`: set the client's identity, or renew it.
    Auth {
        /// A JSON Web Token.
        token: Cow<'a, str>,
    },
    /// `ping`: check the connection. Browsers cannot send ping frames.
    Ping,
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishRequest<'a> {
    /// The room; `None` means the first room that the client joined.
    pub room: Option<RoomName>,
    /// `message` or `custom_event`.
    pub kind: Kind,
    /// The payload's JSON text, verbatim.
    pub payload: &'a str,
    /// How long the message stays in history; `None` means as long as the room's limits allow.
    pub ttl: Option<Ttl>,
    /// False if the publisher receives only an acknowledgement, in place of the message.
    pub echo: bool,
}

impl<'a> PublishRequest<'a> {
    /// Parses a message that is published over HTTP, in the same form as in a frame. Returns it and its id.
    pub(crate) fn parse(text: &'a str) -> Result<(Self, Option<RequestId>), Refusal> {
        let not_a_message = || {
            let why = "`type` must be message or custom_event";
            Refusal::new(ErrorCode::UnknownType, why)
        };
        match ClientMessage::parse(text) {
            Ok(ClientRequest {
                id,
                message: ClientMessage::Publish(message),
            }) => Ok((message, id)),
            Ok(_) => Err(not_a_message()),
            Err(error) if error.refusal.code == ErrorCode::UnknownType => Err(not_a_message()),
            Err(error) => Err(error.refusal),
        }
    }
}

/// A refused frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The request's id, if it could be read, for the reply.
    pub id: Option<RequestId>,
    /// The reason.
    pub refusal: Refusal,
}

impl<'a> ClientMessage<'a> {
    /// Parses one text frame.
    pub fn parse(text: &'a str) -> Result<ClientRequest<'a>, ParseError> {
        // RFC 8259 §8.1 lets a parser ignore a byte order mark, which some encoders of .NET and Windows write.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let envelope = Envelope::parse(text).map_err(|refusal| ParseError { id: None, refusal })?;
        let id = envelope
            .id()
            .map_err(|refusal| ParseError { id: None, refusal })?;
        match envelope.message() {
            Ok(message) => Ok(ClientRequest { id, message }),
            Err(refusal) => Err(ParseError { id, refusal }),
        }
    }
}

/// The fields as values.
impl<'a> Envelope<'a> {
    fn id(&self) -> Result<Option<RequestId>, Refusal> {
        let Some(text) = optional_string("id", self.id)? else {
            return Ok(None);
        };
        RequestId::parse(&text).map(Some).map_err(|error| {
            let message = format!("`id` must be 1 to 64 bytes of text; {error}");
            Refusal::new(ErrorCode::InvalidId, message)
        })
    }

    fn message(&self) -> Result<ClientMessage<'a>, Refusal> {
        let kind = optional_string("type", self.kind)?.ok_or_else(|| missing("type"))?;
        match &*kind {
            "message" => self.publish(Kind::Message),
            "custom_event" => self.publish(Kind::CustomEvent),
            "join" => {
                let presence = optional_bool("presence", self.presence)?.unwrap_or(false);
                Ok(ClientMessage::Join {
                    room: self.required_room()?,
                    presence,
                    backlog: self.backlog()?,
                    state: StateChange::parse(self.state)?,
                })
            }
            "state" => {
                let room = self.required_room()?;
                match StateChange::parse(self.state)? {
                    StateChange::Set(state) => Ok(ClientMessage::State { room, state }),
                    StateChange::Keep => Err(missing("state")),
                }
            }
            "history" => Ok(ClientMessage::History {
                room: self.required_room()?,
                since: optional_number("since", self.since)?,
                limit: optional_number("limit", self.limit)?.map(|limit| limit as usize),
            }),
            "leave" => Ok(ClientMessage::Leave {
                room: self.required_room()?,
            }),
            "presence" => Ok(ClientMessage::Presence {
                room: self.required_room()?,
            }),
            "auth" => Ok(ClientMessage::Auth {
                token: optional_string("token", self.token)?.ok_or_else(|| missing("token"))?,
            }),
            "ping" => Ok(ClientMessage::Ping),
            _ => Err(Refusal::new(
                ErrorCode::UnknownType,
                "`type` must be message, custom_event, join, leave, history, presence, state, auth or ping",
            )),
        }
    }

    fn publish(&self, kind: Kind) -> Result<ClientMessage<'a>, Refusal> {
        let payload = self.payload.ok_or_else(|| missing("payload"))?.get();
        Ok(ClientMessage::Publish(PublishRequest {
            room: self.room()?,
            kind,
            payload,
            ttl: self.ttl()?,
            echo: optional_bool("echo", self.echo)?.unwrap_or(true),
        }))
    }

    fn ttl(&self) -> Result<Option<Ttl>, Refusal> {
        let Some(raw) = self.ttl.filter(|raw| raw.get() != "null") else {
            return Ok(None);
        };
        let ttl = raw.get().parse().ok().and_then(Ttl::from_seconds);
        ttl.map(Some).ok_or_else(|| {
            let expected = format!("a whole number of seconds, 1 to {TTL_SECONDS_MAX}");
            wrong_type("ttl", &expected)
        })
    }

    fn room(&self) -> Result<Option<RoomName>, Refusal> {
        let Some(text) = optional_string("room", self.room)? else {
            return Ok(None);
        };
        RoomName::parse(&text)
            .map(Some)
            .map_err(|why| invalid_room(&text, why))
    }

    fn backlog(&self) -> Result<Backlog, Refusal> {
        let last = optional_number("last", self.last)?.unwrap_or(0);
        let last = usize::try_from(last).ok();
        let last = last.filter(|last| *last <= PAGE_MESSAGES_MAX);
        Ok(Backlog {
            since: self.since()?,
            last: last.ok_or_else(|| {
                wrong_type("last", &format!("a whole number, 0 to {PAGE_MESSAGES_MAX}"))
            })?,
        })
    }

    fn since(&self) -> Result<Option<Since>, Refusal> {
        let epoch = optional_string("epoch", self.epoch)?;
        let epoch = epoch.map(|text| text.parse()).transpose();
        let epoch = epoch.map_err(|()| wrong_type("epoch", "an epoch that the server sent"))?;
        let offset = optional_number("since", self.since)?;
        Ok(offset.map(|offset| Since { offset, epoch }))
    }

    fn required_room(&self) -> Result<RoomName, Refusal> {
        self.room()?.ok_or_else(|| missing("room"))
    }
}

/// Returns the refusal of a text that is not a room name. The mistake comes first, because a close reason has no
/// space for the whole text.
pub(crate) fn invalid_room(text: &str, error: NameError) -> Refusal {
    let text = quote(text);
    let message = format!(
        "`room` must not be {text}: {error}; a name is 1 to 64 letters, digits, '.', '_', '-' or ':' of any script"
    );
    Refusal::new(ErrorCode::InvalidRoom, message)
}

fn missing(field: &str) -> Refusal {
    Refusal::new(ErrorCode::MissingField, format!("`{field}` is missing"))
}
