//! Requests of clients: parsing a text frame.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{ErrorCode, Kind, NameError, Refusal, RequestId, RoomName, Since, quote};

/// Deepest nesting of arrays and objects in a client's frame, including the envelope.
///
/// The server relays payloads without parsing them, but members parse them, often recursively.
pub const DEPTH_MAX: usize = 64;

/// Most characters of a key that are repeated in a refusal. Escaping can make a key seven times as long.
const KEY_CHARS_SHOWN: usize = 64;

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
        /// The client's last message, if the client resumes.
        since: Option<Since>,
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

/// The known fields of a request, each as raw JSON text.
#[derive(Default)]
struct Envelope<'a> {
    kind: Option<&'a RawValue>,
    payload: Option<&'a RawValue>,
    room: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    presence: Option<&'a RawValue>,
    since: Option<&'a RawValue>,
    epoch: Option<&'a RawValue>,
    limit: Option<&'a RawValue>,
    token: Option<&'a RawValue>,
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
                let shown: String = key.chars().take(KEY_CHARS_SHOWN).collect();
                let message = format!("the key {shown:?} appears twice; send it once");
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
                    since: self.since()?,
                })
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
                "`type` must be message, custom_event, join, leave, history, presence, auth or ping",
            )),
        }
    }

    fn publish(&self, kind: Kind) -> Result<ClientMessage<'a>, Refusal> {
        let payload = self.payload.ok_or_else(|| missing("payload"))?.get();
        Ok(ClientMessage::Publish(PublishRequest {
            room: self.room()?,
            kind,
            payload,
        }))
    }

    fn room(&self) -> Result<Option<RoomName>, Refusal> {
        let Some(text) = optional_string("room", self.room)? else {
            return Ok(None);
        };
        RoomName::parse(&text)
            .map(Some)
            .map_err(|why| invalid_room(&text, why))
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

fn wrong_type(field: &str, expected: &str) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidField,
        format!("`{field}` must be {expected}"),
    )
}

/// Returns the value of a string field; `null` counts as missing.
fn optional_string<'a>(
    field: &str,
    raw: Option<&'a RawValue>,
) -> Result<Option<Cow<'a, str>>, Refusal> {
    let Some(text) = raw.map(RawValue::get) else {
        return Ok(None);
    };
    // Most strings have no escapes and need no copy.
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

fn optional_number(field: &str, raw: Option<&RawValue>) -> Result<Option<u64>, Refusal> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map_err(|_| wrong_type(field, "a whole number, 0 or more"))
}

/// Counts brackets outside strings. The parser checks later whether they match.
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

    /// Checks every key, known or not, because two parsers may use different values of a duplicate key.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut envelope = Envelope::default();
        let mut others = HashSet::new();
        while let Some(ObjectKey(key)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            let field = match &*key {
                "type" => &mut envelope.kind,
                "payload" => &mut envelope.payload,
                "room" => &mut envelope.room,
                "id" => &mut envelope.id,
                "presence" => &mut envelope.presence,
                "since" => &mut envelope.since,
                "epoch" => &mut envelope.epoch,
                "limit" => &mut envelope.limit,
                "token" => &mut envelope.token,
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

/// A key of an object, borrowed if it contains no escapes.
struct ObjectKey<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for ObjectKey<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = ObjectKey<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<ObjectKey<'de>, E> {
                Ok(ObjectKey(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ObjectKey<'de>, E> {
                Ok(ObjectKey(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_a_long_key_is_short() {
        let key = "\u{7f}".repeat(30_000);
        let text = format!(r#"{{"type":"ping","{key}":1,"{key}":2}}"#);
        let refusal = ClientMessage::parse(&text).unwrap_err().refusal;
        assert_eq!(refusal.code, ErrorCode::DuplicateField);
        assert!(refusal.message.len() < 1024, "{}", refusal.message.len());
    }
}
