//! Messages of the server other than relayed publications.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{ClientId, Epoch, Frames, MemberState, Page, Position, Refusal, RequestId, RoomName};

/// The `from` of messages of the server itself.
pub(crate) const SERVER: &str = "server";

/// A room's state, as the welcome and `joined` report it to a member.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RoomState {
    /// The room's name.
    pub(crate) room: RoomName,
    /// The position at which the member joined; it receives every later offset.
    #[serde(flatten)]
    pub(crate) position: Position,
    /// True if every message since the position that the client named is delivered.
    pub(crate) recovered: bool,
    /// The offset up to which the newest stored messages come first, if the client asked for them by `last`. Messages
    /// that the store no longer has are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) live_after: Option<u64>,
    /// Number of members, this one included.
    pub(crate) members: usize,
}

/// A member of a room in a list of members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PresentClient {
    /// The client's id.
    pub(crate) client: ClientId,
    /// The `sub` of the client's token, if it has one: the same for every client of one user.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "serialize_text"
    )]
    pub(crate) user: Option<Arc<str>>,
    /// When it joined the room, in Unix milliseconds. `None` if its node is of a version that does not report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<u64>,
    /// The state that it shows in the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<MemberState>,
}

impl PresentClient {
    /// Returns a client of which only id and user are known.
    pub(crate) fn new(client: ClientId, user: Option<Arc<str>>) -> Self {
        Self {
            client,
            user,
            since: None,
            state: None,
        }
    }
}

fn serialize_text<S: Serializer>(text: &Option<Arc<str>>, to: S) -> Result<S::Ok, S::Error> {
    text.as_deref().serialize(to)
}

/// A message of the server other than a relayed publication.
#[derive(Clone, Debug)]
pub(crate) enum ServerMessage<'a> {
    /// The first frame of every connection: a `message` without a room.
    Welcome {
        /// The operator's text.
        text: &'a str,
        /// The client's id.
        client: ClientId,
        /// The rooms that the client is a member of.
        rooms: &'a [RoomState],
    },
    /// The reply to `join`.
    Joined(&'a RoomState),
    /// The reply to `leave`.
    Left(&'a RoomName),
    /// The reply to `state`.
    StateSet(&'a RoomName),
    /// The reply to `presence`, and the updates for members that asked for them.
    Presence {
        /// The room's name.
        room: &'a RoomName,
        /// Number of members.
        members: usize,
        /// The members, if they are few enough to be listed.
        clients: Option<&'a [PresentClient]>,
    },
    /// The reply to `history`.
    History(&'a Page),
    /// The reply to a publish with an id, once it is stored.
    Ack {
        /// The room it was published to.
        room: &'a RoomName,
        /// The position it was stored at.
        position: Position,
        /// True if the reply is sent in place of the message.
        in_place: bool,
    },
    /// The reply to `auth`.
    Authenticated {
        /// The token's `sub`.
        user: Option<&'a str>,
        /// When the token expires, in Unix seconds.
        expires: Option<u64>,
    },
    /// The token expires soon; a new one by `auth` keeps the connection open.
    TokenExpiring {
        /// Milliseconds until then.
        in_ms: u64,
    },
    /// The reply to `ping`.
    Pong,
    /// The reply to a refused request.
    Error(&'a Refusal),
}

impl ServerMessage<'_> {
    /// Returns one text frame; `id` is the id of the request that it replies to.
    pub(crate) fn to_frames(&self, id: Option<&RequestId>) -> Frames {
        match *self {
            Self::Welcome {
                text,
                client,
                rooms,
            } => text_frame(&WelcomeFrame {
                kind: "message",
                payload: text,
                from: SERVER,
                client,
                rooms,
            }),
            Self::Joined(state) => reply("joined", state, Some(&state.room), id),
            Self::Left(room) => reply("left", &RoomPayload { room }, Some(room), id),
            Self::StateSet(room) => reply("state", &RoomPayload { room }, Some(room), id),
            Self::Presence {
                room,
                members,
                clients,
            } => {
                let payload = PresencePayload { members, clients };
                reply("presence", &payload, Some(room), id)
            }
            Self::History(page) => reply("history", page, Some(&page.room), id),
            Self::Ack {
                room,
                position,
                in_place,
            } => {
                let Position { epoch, offset } = position;
                let payload = AckPayload {
                    room,
                    epoch,
                    offset,
                    echo: in_place.then_some(false),
                };
                reply("ack", &payload, Some(room), id)
            }
            Self::Authenticated { user, expires } => {
                let payload = AuthenticatedPayload { user, expires };
                reply("authenticated", &payload, None, id)
            }
            Self::TokenExpiring { in_ms } => {
                let expires_in_ms = in_ms;
                reply(
                    "token_expiring",
                    &ExpiringPayload { expires_in_ms },
                    None,
                    id,
                )
            }
            Self::Pong => reply("pong", &EmptyPayload {}, None, id),
            Self::Error(refusal) => reply("error", refusal, None, id),
        }
    }
}

fn reply(
    kind: &'static str,
    payload: &impl Serialize,
    room: Option<&RoomName>,
    id: Option<&RequestId>,
) -> Frames {
    text_frame(&ReplyFrame {
        kind,
        payload,
        room,
        id: id.map(RequestId::as_str),
    })
}

fn text_frame(message: &impl Serialize) -> Frames {
    // Cannot fail: these are plain structs of strings and numbers, written to memory.
    Frames::text(&serde_json::to_vec(message).unwrap_or_default())
}

#[derive(Serialize)]
struct WelcomeFrame<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    payload: &'a str,
    from: &'static str,
    client: ClientId,
    rooms: &'a [RoomState],
}

#[derive(Serialize)]
struct ReplyFrame<'a, P> {
    #[serde(rename = "type")]
    kind: &'static str,
    payload: &'a P,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a RoomName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

#[derive(Serialize)]
struct RoomPayload<'a> {
    room: &'a RoomName,
}

#[derive(Serialize)]
struct PresencePayload<'a> {
    members: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<&'a [PresentClient]>,
}

#[derive(Serialize)]
struct AckPayload<'a> {
    room: &'a RoomName,
    epoch: Epoch,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    echo: Option<bool>,
}

#[derive(Serialize)]
struct AuthenticatedPayload<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
}

#[derive(Serialize)]
struct ExpiringPayload {
    expires_in_ms: u64,
}

#[derive(Serialize)]
struct EmptyPayload {}
