//! Numbered messages, and positions to resume from.

use serde_json::Value;

use crate::client::offset_in;

/// Precedes a message's number. It occurs nowhere else in a message.
const MARK: u8 = b'#';
const DIGITS: usize = 8;

/// The place in a room's stream after which a client of wscast resumes.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

impl Position {
    /// Reads the first room of a welcome. `None` for servers other than wscast.
    pub(crate) fn in_welcome(welcome: &[u8]) -> Option<Position> {
        let room = &serde_json::from_slice::<Value>(welcome).ok()?["rooms"][0];
        Some(Position {
            epoch: room["epoch"].as_str()?.to_owned(),
            offset: room["offset"].as_u64()?,
        })
    }

    /// Moves to the offset of this message.
    pub(crate) fn advance(&mut self, message: &[u8]) {
        self.offset = offset_in(message).unwrap_or(self.offset);
    }

    /// Returns the path and query that resume here.
    pub(crate) fn target(&self) -> String {
        format!("/ws?since={}&epoch={}", self.offset, self.epoch)
    }
}

/// Returns a message with this number, which is also its id.
pub(crate) fn message(number: u64) -> String {
    let mark = char::from(MARK);
    format!(r#"{{"type":"message","payload":"{mark}{number:0DIGITS$}","id":"{number}"}}"#)
}

/// Returns the number of a message that was relayed.
pub(crate) fn number_in(frame: &[u8]) -> Option<u64> {
    let at = frame.iter().position(|byte| *byte == MARK)? + 1;
    std::str::from_utf8(frame.get(at..at + DIGITS)?)
        .ok()?
        .parse()
        .ok()
}

/// Returns the number that an acknowledgement names.
pub(crate) fn acknowledged_in(frame: &[u8]) -> Option<u64> {
    let ack: Value = serde_json::from_slice(frame).ok()?;
    if ack["type"] != "ack" {
        return None;
    }
    ack["id"].as_str()?.parse().ok()
}
