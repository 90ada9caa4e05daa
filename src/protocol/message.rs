//! What a client says ([`Request`]) and what it is told ([`Publication`], [`ServerMessage`]).

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::io::Write as _;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{ClientId, Epoch, ErrorCode, Frames, NameError, Refusal, RequestId, RoomName};

/// Deepest nesting of arrays and objects in a client's frame, the envelope counted as one.
///
/// We only pass payloads on, but whoever receives them parses them, often by recursion.
pub const DEPTH_MAX: usize = 64;

/// The two types a client publishes; the original protocol knows no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `message`: text for people.
    Message,
    /// `custom_event`: data for programs.
    CustomEvent,
}

impl Kind {
    /// The value of `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::CustomEvent => "custom_event",
        }
    }
}

/// A place in a room's stream: offsets grow by one, a new epoch means that numbering restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which numbering.
    pub epoch: Epoch,
    /// The last message at or before this place; 0 before the first.
    pub offset: u64,
}

/// A frame from a client, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Repeated in the answer.
    pub id: Option<RequestId>,
    /// What is asked.
    pub message: ClientMessage<'a>,
}

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// `message` and `custom_event`.
    Publish(Publish<'a>),
    /// `join`: become a member of a room.
    Join {
        /// Which room.
        room: RoomName,
        /// Whether changes of its membership are wanted too.
        presence: bool,
    },
    /// `leave`: stop being a member.
    Leave {
        /// Which room.
        room: RoomName,
    },
    /// `presence`: who is in the room now.
    Presence {
        /// Which room.
        room: RoomName,
    },
    /// `ping`: are you there? Browsers cannot see ping frames.
    Ping,
}

/// A message to be relayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The room, or the first one joined.
    pub room: Option<RoomName>,
    /// `message` or `custom_event`.
    pub kind: Kind,
    /// The payload's JSON text exactly as the client wrote it.
    pub payload: &'a str,
}

/// A frame that was refused, with the id it bore if that much could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The request's id, for the answer.
    pub id: Option<RequestId>,
    /// Why.
    pub refusal: Refusal,
}

impl<'a> ClientMessage<'a> {
    /// Understands one text frame.
    pub fn parse(text: &'a str) -> Result<Request<'a>, Refused> {
        let envelope = Envelope::parse(text).map_err(|refusal| Refused { id: None, refusal })?;
        let id = envelope
            .id()
            .map_err(|refusal| Refused { id: None, refusal })?;
        match envelope.message() {
            Ok(message) => Ok(Request { id, message }),
            Err(refusal) => Err(Refused { id, refusal }),
        }
    }
}

/// The fields we know, each as its raw JSON text.
#[derive(Default)]
struct Envelope<'a> {
    kind: Option<&'a RawValue>,
    payload: Option<&'a RawValue>,
    room: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    presence: Option<&'a RawValue>,
    duplicate: Option<String>,
}

impl<'a> Envelope<'a> {
    fn parse(text: &'a str) -> Result<Self, Refusal> {
        if nests_deeper_than(text, DEPTH_MAX) {
            let message = format!("nest arrays and objects at most {DEPTH_MAX} deep");
            return Err(Refusal::new(ErrorCode::TooDeep, message));
        }
        let envelope: Self = serde_json::from_str(text).map_err(|error| {
            if error.is_data() {
                let message =
                    "send a JSON object such as {\"type\":\"message\",\"payload\":\"hi\"}";
                Refusal::new(ErrorCode::NotAnObject, message)
            } else {
                Refusal::new(ErrorCode::InvalidJson, format!("not valid JSON: {error}"))
            }
        })?;
        match &envelope.duplicate {
            Some(key) => {
                let message = format!("the key {key:?} stands twice; send it once");
                Err(Refusal::new(ErrorCode::DuplicateField, message))
            }
            None => Ok(envelope),
        }
    }

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
                })
            }
            "leave" => Ok(ClientMessage::Leave {
                room: self.required_room()?,
            }),
            "presence" => Ok(ClientMessage::Presence {
                room: self.required_room()?,
            }),
            "ping" => Ok(ClientMessage::Ping),
            _ => Err(Refusal::new(
                ErrorCode::UnknownType,
                "`type` must be message, custom_event, join, leave, presence or ping",
            )),
        }
    }

    fn publish(&self, kind: Kind) -> Result<ClientMessage<'a>, Refusal> {
        let payload = self.payload.ok_or_else(|| missing("payload"))?.get();
        Ok(ClientMessage::Publish(Publish {
            room: self.room()?,
            kind,
            payload,
        }))
    }

    fn room(&self) -> Result<Option<RoomName>, Refusal> {
        let Some(text) = optional_string("room", self.room)? else {
            return Ok(None);
        };
        RoomName::parse(&text).map(Some).map_err(invalid_room)
    }

    fn required_room(&self) -> Result<RoomName, Refusal> {
        self.room()?.ok_or_else(|| missing("room"))
    }
}

/// The refusal for a text that is no room name, wherever it was given.
pub fn invalid_room(error: NameError) -> Refusal {
    let message = format!(
        "a room's name is 1 to 64 letters, digits, '.', '_', '-' or ':' of any script; {error}"
    );
    Refusal::new(ErrorCode::InvalidRoom, message)
}

fn missing(field: &str) -> Refusal {
    Refusal::new(ErrorCode::MissingField, format!("`{field}` is missing"))
}

fn wrong_type(field: &str, expected: &str) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidField,
        format!("`{field}` must be {expected}"),
    )
}

/// A string field; `null` counts as not given.
fn optional_string<'a>(
    field: &str,
    raw: Option<&'a RawValue>,
) -> Result<Option<Cow<'a, str>>, Refusal> {
    let Some(text) = raw.map(RawValue::get) else {
        return Ok(None);
    };
    // The common case has no escapes and needs no copy.
    match text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(inner) if !inner.contains('\\') => return Ok(Some(Cow::Borrowed(inner))),
        _ => {}
    }
    serde_json::from_str::<Option<String>>(text)
        .map(|text| text.map(Cow::Owned))
        .map_err(|_| wrong_type(field, "a string"))
}

fn optional_bool(field: &str, raw: Option<&RawValue>) -> Result<Option<bool>, Refusal> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map_err(|_| wrong_type(field, "true or false"))
}

/// Counts brackets outside strings; whether they match is left to the parser.
fn nests_deeper_than(text: &str, depth_max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > depth_max {
            return true;
        }
    }
    false
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    /// Every key is looked at, known or not: two readers of a doubled key may each believe another one.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut envelope = Envelope::default();
        let mut others = HashSet::new();
        while let Some(Key(key)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            let field = match &*key {
                "type" => &mut envelope.kind,
                "payload" => &mut envelope.payload,
                "room" => &mut envelope.room,
                "id" => &mut envelope.id,
                "presence" => &mut envelope.presence,
                _ => {
                    if others.contains(&*key) {
                        envelope.duplicate = Some(key.into_owned());
                    } else {
                        others.insert(key.into_owned());
                    }
                    continue;
                }
            };
            if field.replace(value).is_some() {
                envelope.duplicate = Some(key.into_owned());
            }
        }
        Ok(envelope)
    }
}

/// An object's key, borrowed where it holds no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// A message as it was stored and is relayed.
#[derive(Debug)]
pub struct Publication {
    /// Its room.
    pub room: RoomName,
    /// Its place in the room's stream, from 1.
    pub offset: u64,
    /// The publisher's id for it.
    pub id: Option<RequestId>,
    /// Who published it.
    pub from: ClientId,
    /// When it was stored, in Unix milliseconds.
    pub ts: u64,
    /// `message` or `custom_event`.
    pub kind: Kind,
    /// The payload's JSON text, verbatim.
    pub payload: Box<str>,
}

impl Publication {
    /// Appends the JSON text members receive.
    ///
    /// Written by hand because it is the message path; only `id` can hold what JSON must escape.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let (kind, room) = (self.kind.as_str(), self.room.as_str());
        out.reserve(self.payload.len() + 160);
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"payload\":");
        out.extend_from_slice(self.payload.as_bytes());
        out.extend_from_slice(b",\"room\":\"");
        out.extend_from_slice(room.as_bytes());
        let _infallible = write!(
            out,
            "\",\"offset\":{},\"from\":\"{}\",\"ts\":{}",
            self.offset, self.from, self.ts
        );
        if let Some(id) = &self.id {
            out.extend_from_slice(b",\"id\":");
            let _infallible = serde_json::to_writer(&mut *out, id.as_str());
        }
        out.push(b'}');
    }
}

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
    /// A publish with an id is stored.
    Ack {
        /// Where.
        room: &'a RoomName,
        /// Its place.
        position: Position,
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
            ServerMessage::Ack { room, position } => {
                map.serialize_entry("type", "ack")?;
                map.serialize_entry("payload", &PositionFields::new(room, *position))?;
                Some(*room)
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
