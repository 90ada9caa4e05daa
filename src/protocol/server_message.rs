//! What the server itself says, other than relayed publications.

use serde::{Serialize, Serializer};

use super::{ClientId, Frames, Page, Position, Refusal, RequestId, RoomName};

/// A room as the welcome and `joined` describe it.
#[derive(Clone, Debug)]
pub struct RoomState {
    /// Its name.
    pub room: RoomName,
    /// Where the member's stream starts: it receives every later offset.
    pub position: Position,
    /// Whether what was missed since the position the client named was delivered.
    pub recovered: bool,
    /// Members, this one included.
    pub members: usize,
}

/// What the server itself says, other than relayed publications.
#[derive(Clone, Debug)]
pub enum ServerMessage<'a> {
    /// The first frame of every connection: a `message` without a room.
    Welcome {
        /// The operator's text.
        text: &'a str,
        /// The connection's name.
        client: ClientId,
        /// The rooms it is a member of.
        rooms: &'a [RoomState],
    },
    /// Answer to `join`.
    Joined(&'a RoomState),
    /// Answer to `leave`.
    Left(&'a RoomName),
    /// Answer to `presence`, and the updates a member asked for.
    Presence {
        /// Which room.
        room: &'a RoomName,
        /// How many members.
        members: usize,
        /// Who they are, where they are few enough to list.
        clients: Option<&'a [ClientId]>,
    },
    /// Answer to `history`.
    History(&'a Page),
    /// A publish with an id is stored.
    Ack {
        /// Where.
        room: &'a RoomName,
        /// Its place.
        position: Position,
    },
    /// Answer to `auth`.
    Authenticated {
        /// The token's `sub`.
        user: Option<&'a str>,
        /// When it expires, in Unix seconds.
        expires: Option<u64>,
    },
    /// The token ends in this many milliseconds; a new one by `auth` keeps the connection.
    TokenExpiring {
        /// How many.
        in_ms: u64,
    },
    /// Answer to `ping`.
    Pong,
    /// A refused request.
    Error(&'a Refusal),
}

impl ServerMessage<'_> {
    /// One text frame; `id` is that of the request this answers.
    pub fn to_frames(&self, id: Option<&RequestId>) -> Frames {
        let body = Body {
            message: self,
            id: id.map(RequestId::as_str),
        };
        // Plain structs of strings and numbers: serialising them into memory cannot fail.
        Frames::text(&serde_json::to_vec(&body).unwrap_or_default())
    }
}

struct Body<'a> {
    message: &'a ServerMessage<'a>,
    id: Option<&'a str>,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        let room = match self.message {
            ServerMessage::Welcome {
                text,
                client,
                rooms,
            } => {
                map.serialize_entry("type", "message")?;
                map.serialize_entry("payload", text)?;
                map.serialize_entry("from", "server")?;
                map.serialize_entry("client", &client.to_string())?;
                let rooms: Vec<_> = rooms.iter().map(RoomFields::from).collect();
                map.serialize_entry("rooms", &rooms)?;
                None
            }
            ServerMessage::Joined(state) => {
                map.serialize_entry("type", "joined")?;
                map.serialize_entry("payload", &RoomFields::from(*state))?;
                Some(&state.room)
            }
            ServerMessage::Left(room) => {
                map.serialize_entry("type", "left")?;
                map.serialize_entry(
                    "payload",
                    &LeftFields {
                        room: room.as_str(),
                    },
                )?;
                Some(*room)
            }
            ServerMessage::Presence {
                room,
                members,
                clients,
            } => {
                map.serialize_entry("type", "presence")?;
                let clients = clients.map(|clients| {
                    clients
                        .iter()
                        .map(|id| ClientFields {
                            client: id.to_string(),
                        })
                        .collect()
                });
                map.serialize_entry(
                    "payload",
                    &PresenceFields {
                        members: *members,
                        clients,
                    },
                )?;
                Some(*room)
            }
            ServerMessage::History(page) => {
                map.serialize_entry("type", "history")?;
                map.serialize_entry("payload", page)?;
                Some(&page.room)
            }
            ServerMessage::Ack { room, position } => {
                map.serialize_entry("type", "ack")?;
                map.serialize_entry("payload", &PositionFields::new(room, *position))?;
                Some(*room)
            }
            ServerMessage::Authenticated { user, expires } => {
                map.serialize_entry("type", "authenticated")?;
                let (user, expires) = (*user, *expires);
                map.serialize_entry("payload", &IdentityFields { user, expires })?;
                None
            }
            ServerMessage::TokenExpiring { in_ms } => {
                map.serialize_entry("type", "token_expiring")?;
                let expires_in_ms = *in_ms;
                map.serialize_entry("payload", &ExpiryFields { expires_in_ms })?;
                None
            }
            ServerMessage::Pong => {
                map.serialize_entry("type", "pong")?;
                map.serialize_entry("payload", &Empty {})?;
                None
            }
            ServerMessage::Error(refusal) => {
                map.serialize_entry("type", "error")?;
                map.serialize_entry("payload", &ErrorFields::from(*refusal))?;
                None
            }
        };
        if let Some(room) = room {
            map.serialize_entry("room", room.as_str())?;
        }
        if let Some(id) = self.id {
            map.serialize_entry("id", id)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct IdentityFields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
}

#[derive(Serialize)]
struct ExpiryFields {
    expires_in_ms: u64,
}

#[derive(Serialize)]
struct LeftFields<'a> {
    room: &'a str,
}

#[derive(Serialize)]
struct ClientFields {
    client: String,
}

#[derive(Serialize)]
struct PresenceFields {
    members: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<Vec<ClientFields>>,
}

#[derive(Serialize)]
struct PositionFields<'a> {
    room: &'a str,
    epoch: String,
    offset: u64,
}

impl<'a> PositionFields<'a> {
    fn new(room: &'a RoomName, position: Position) -> Self {
        let Position { epoch, offset } = position;
        Self {
            room: room.as_str(),
            epoch: epoch.to_string(),
            offset,
        }
    }
}

#[derive(Serialize)]
struct RoomFields<'a> {
    #[serde(flatten)]
    position: PositionFields<'a>,
    recovered: bool,
    members: usize,
}

impl<'a> From<&'a RoomState> for RoomFields<'a> {
    fn from(state: &'a RoomState) -> Self {
        Self {
            position: PositionFields::new(&state.room, state.position),
            recovered: state.recovered,
            members: state.members,
        }
    }
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl<'a> From<&'a Refusal> for ErrorFields<'a> {
    fn from(refusal: &'a Refusal) -> Self {
        let retry_after_ms = refusal.retry_after.map(|after| after.as_millis() as u64);
        Self {
            code: refusal.code.as_str(),
            message: &refusal.message,
            retry_after_ms,
        }
    }
}
