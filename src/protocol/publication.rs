//! Publications: stored messages with their positions, and pages of them.

use std::io::Write as _;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Epoch, RequestId, RoomName};

/// Most messages in one page of history, and most messages that `last` asks for.
pub(crate) const PAGE_MESSAGES_MAX: usize = 1000;
/// Messages in a page when the client gives no limit.
pub(crate) const PAGE_MESSAGES_DEFAULT: usize = 100;
/// Most bytes of payload in one page of history.
pub(crate) const PAGE_BYTES_MAX: usize = 256 * 1024;

/// The two types of publications, the only ones of the original protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `message`: text for people.
    Message,
    /// `custom_event`: data for programs.
    CustomEvent,
}

impl Kind {
    /// Returns the value of `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::CustomEvent => "custom_event",
        }
    }
}

/// A position in a room: offsets grow by one; a new epoch means that numbering restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Position {
    /// The epoch of the offset.
    pub epoch: Epoch,
    /// The offset of the last message at or before this position; 0 before the first message.
    pub offset: u64,
}

/// The last message of a room that a client has, from which it resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// The message's offset; 0 if the client has none.
    pub offset: u64,
    /// The epoch of the offset; `None` means the room's current epoch.
    pub epoch: Option<Epoch>,
}

/// The stored messages that a client asks for when it joins a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// The client's last message, if the client resumes.
    pub since: Option<Since>,
    /// The number of newest messages for a client that does not resume, or that cannot.
    pub last: usize,
}

impl Backlog {
    /// Returns whether the client asks for live messages only.
    pub fn is_none(&self) -> bool {
        self.since.is_none() && self.last == 0
    }
}

/// A stored message, as it is relayed to members.
#[derive(Debug)]
pub struct Publication {
    /// The room it was published to.
    pub room: RoomName,
    /// The offset in the room, from 1.
    pub offset: u64,
    /// The publisher's id of the request.
    pub id: Option<RequestId>,
    /// The publisher: its user, or its client id.
    pub from: Arc<str>,
    /// When it was stored, in Unix milliseconds.
    pub ts: u64,
    /// `message` or `custom_event`.
    pub kind: Kind,
    /// The payload's JSON text, verbatim.
    pub payload: Box<str>,
}

impl Publication {
    /// Appends the JSON text that members receive.
    ///
    /// Written by hand because it is on the message path. Only `from` and `id` may need escaping.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let (kind, room) = (self.kind.as_str(), self.room.as_str());
        out.reserve(self.payload.len() + 160);
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"payload\":");
        out.extend_from_slice(self.payload.as_bytes());
        out.extend_from_slice(b",\"room\":\"");
        out.extend_from_slice(room.as_bytes());
        // Writing to memory cannot fail.
        write!(out, "\",\"offset\":{},\"from\":", self.offset).ok();
        serde_json::to_writer(&mut *out, &*self.from).ok();
        write!(out, ",\"ts\":{}", self.ts).ok();
        if let Some(id) = &self.id {
            out.extend_from_slice(b",\"id\":");
            serde_json::to_writer(&mut *out, id.as_str()).ok();
        }
        out.push(b'}');
    }
}

/// A part of a room's history, as one reply holds it.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// The room's name.
    pub(crate) room: RoomName,
    /// The epoch of all offsets in the page.
    pub(crate) epoch: Epoch,
    /// The oldest offset that is still stored; one past `last` if none is.
    pub(crate) first: u64,
    /// The newest offset.
    pub(crate) last: u64,
    /// True if the page starts right after the requested offset and has no gap. A page that ends with the newest
    /// messages has a gap also if the last ones are gone.
    pub(crate) contiguous: bool,
    /// The messages, in the order of their offsets.
    pub(crate) messages: Vec<Arc<Publication>>,
}

impl Page {
    /// Returns whether `messages` are all that were published after the offset `since` and up to `reached`. They are in
    /// the order of their offsets. Without `since` the page starts with its first message, or has none that was published.
    pub(crate) fn has_all(messages: &[Arc<Publication>], since: Option<u64>, reached: u64) -> bool {
        let first = messages.first().map(|message| message.offset);
        let before_first = first.map_or(0, |offset| offset.saturating_sub(1));
        let expected = reached.checked_sub(since.unwrap_or(before_first));
        expected == Some(messages.len() as u64)
    }

    /// Returns a page without messages; `last` is the room's position.
    pub(crate) fn empty(room: &RoomName, last: Position, since: Option<u64>) -> Self {
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

/// The same JSON for WebSocket and HTTP.
impl Serialize for Page {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("room", &self.room)?;
        map.serialize_entry("epoch", &self.epoch)?;
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
