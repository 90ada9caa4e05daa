//! Frames of the server, as a client parses them, and their text on one line.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::protocol::Position;

/// A frame of the server.
#[derive(Debug, Deserialize)]
pub(super) struct ServerFrame<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    pub(super) room: Option<&'a str>,
    pub(super) offset: Option<u64>,
    #[serde(borrow)]
    pub(super) payload: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    /// The rooms of a welcome.
    #[serde(borrow)]
    pub(super) rooms: Option<Vec<EnteredRoom<'a>>>,
}

/// A room that the client is a member of now, in a welcome or the payload of `joined`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct EnteredRoom<'a> {
    pub(super) room: &'a str,
    epoch: &'a str,
    offset: u64,
    pub(super) recovered: bool,
}

/// The payload of an `error`.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorPayload {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) retry_after_ms: Option<u64>,
}

/// The payload of `history`, without its messages.
#[derive(Debug, Deserialize)]
pub(super) struct HistoryPayload {
    pub(super) first: u64,
}

impl<'a> ServerFrame<'a> {
    /// Parses a frame; `None` if it is none of this protocol.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Returns whether this is the first frame of a connection.
    pub(super) fn is_welcome(&self) -> bool {
        self.kind == "message" && self.room.is_none() && self.rooms.is_some()
    }

    /// Returns the payload as a value of its type.
    pub(super) fn payload<T: Deserialize<'a>>(&self) -> Option<T> {
        serde_json::from_str(self.payload?.get()).ok()
    }

    /// Returns the id of the request that this replies to. The ids of this client need no escapes.
    pub(super) fn id(&self) -> Option<&'a str> {
        let text = self.id?.get();
        text.strip_prefix('"')?.strip_suffix('"')
    }
}

impl EnteredRoom<'_> {
    pub(super) fn position(&self) -> Option<Position> {
        Some(Position {
            epoch: self.epoch.parse().ok()?,
            offset: self.offset,
        })
    }
}

/// Returns JSON text on one line and without control characters, which a terminal could act on.
///
/// In JSON, characters below U+0020 stand between tokens only; others that control something stand in strings only.
pub(crate) fn one_line(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\0'..' ' => out.push(' '),
            // Writing to memory cannot fail.
            c if c.is_control() => write!(out, "\\u{:04x}", c as u32).unwrap_or_default(),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_becomes_one_line_with_the_same_value() {
        let json = "{\"a\":\r\n\t1,\"b\":\"\u{9b}31m\u{7f}房\"}";
        let line = one_line(json);
        assert!(!line.contains(char::is_control), "{line}");
        let value = |text| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&line), value(json));
    }

    #[test]
    fn welcome_and_replies_are_parsed() {
        let welcome = r#"{"type":"message","payload":"hi","from":"server","client":"c1-1","rooms":
            [{"room":"ops","epoch":"00000000000000ff","offset":7,"recovered":true,"members":1}]}"#;
        let frame = ServerFrame::parse(welcome).unwrap();
        assert!(frame.is_welcome());
        assert_eq!(frame.rooms.unwrap()[0].position().unwrap().offset, 7);
        let ack = r#"{"type":"ack","payload":{"room":"ops","epoch":"00000000000000ff","offset":8},"room":"ops","id":"12"}"#;
        assert_eq!(ServerFrame::parse(ack).unwrap().id(), Some("12"));
        assert!(ServerFrame::parse("[]").is_none());
    }
}
