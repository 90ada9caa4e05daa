//! What is published and stored: a message, its place in its room's stream, pages of them.

use std::io::Write as _;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Epoch, RequestId, RoomName};

/// Most messages in one page of history.
pub const PAGE_MESSAGES_MAX: usize = 1000;
/// Messages in a page when the client gives no limit.
pub const PAGE_MESSAGES_DEFAULT: usize = 100;
/// Most bytes of payload in one page of history.
pub const PAGE_BYTES_MAX: usize = 256 * 1024;

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

/// The last message of a room that a client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// Its offset; 0 if it has none.
    pub offset: u64,
    /// The numbering it belongs to; not given, the one in force is meant.
    pub epoch: Option<Epoch>,
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
    pub from: Arc<str>,
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
    /// Written by hand because it is the message path; only `from` and `id` can hold what JSON must
    /// escape.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let (kind, room) = (self.kind.as_str(), self.room.as_str());
        out.reserve(self.payload.len() + 160);
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"payload\":");
        out.extend_from_slice(self.payload.as_bytes());
        out.extend_from_slice(b",\"room\":\"");
        out.extend_from_slice(room.as_bytes());
        let _infallible = write!(out, "\",\"offset\":{},\"from\":", self.offset);
        let _infallible = serde_json::to_writer(&mut *out, &*self.from);
        let _infallible = write!(out, ",\"ts\":{}", self.ts);
        if let Some(id) = &self.id {
            out.extend_from_slice(b",\"id\":");
            let _infallible = serde_json::to_writer(&mut *out, id.as_str());
        }
        out.push(b'}');
    }
}

/// As much of a room's history as one answer holds.
#[derive(Clone, Debug)]
pub struct Page {
    /// The room.
    pub room: RoomName,
    /// The numbering of all offsets here.
    pub epoch: Epoch,
    /// The oldest offset that is still stored; one past `last` if none is.
    pub first: u64,
    /// The newest offset.
    pub last: u64,
    /// Whether the page starts right after the offset that was asked for.
    pub contiguous: bool,
    /// The messages, in the order of their offsets.
    pub messages: Vec<Arc<Publication>>,
}

impl Page {
    /// Of a room whose store has nothing; `last` is where its stream is.
    pub fn empty(room: &RoomName, last: Position, since: Option<u64>) -> Self {
        Self {
            room: room.clone(),
            epoch: last.epoch,
            first: last.offset + 1,
            last: last.offset,
            contiguous: since.unwrap_or(0) == last.offset,
            messages: Vec::new(),
        }
    }
}

/// The same for the socket and for HTTP.
impl Serialize for Page {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("room", self.room.as_str())?;
        map.serialize_entry("epoch", &self.epoch.to_string())?;
        map.serialize_entry("first", &self.first)?;
        map.serialize_entry("last", &self.last)?;
        map.serialize_entry("contiguous", &self.contiguous)?;
        let messages = self.messages.iter().map(|message| {
            let mut json = Vec::new();
            message.write_json(&mut json);
            let json = String::from_utf8(json).map_err(serde::ser::Error::custom)?;
            RawValue::from_string(json).map_err(serde::ser::Error::custom)
        });
        let messages = messages.collect::<Result<Vec<_>, S::Error>>()?;
        map.serialize_entry("messages", &messages)?;
        map.end()
    }
}
