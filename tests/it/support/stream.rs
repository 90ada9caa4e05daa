//! A bare connection that speaks WebSocket by hand: for clients that stall, flood or break the rules.

use serde_json::{Value, json};

use super::raw::{RawConnection, frame};

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;

/// The fields after the payload fit into this many bytes at the end of a relayed message.
const TAIL_BYTES: usize = 160;

impl RawConnection {
    /// Completes the handshake and gives the welcome.
    pub fn enter(&mut self, target: &str) -> Value {
        self.upgrade(target);
        let welcome = self.next();
        assert_eq!(welcome["from"], "server", "{welcome}");
        welcome
    }

    /// Publishes text to the first room joined.
    pub fn say(&mut self, text: &str) {
        self.send(said(text));
    }

    /// The next text frame; pings are passed over.
    pub fn next(&mut self) -> Value {
        let text = self.next_bytes();
        serde_json::from_slice(&text).expect("JSON")
    }

    /// The offset of the next text frame, a relayed message. Its payload is not looked at, so that a
    /// scenario of a million messages spends its time in the server.
    pub fn next_offset(&mut self) -> u64 {
        let text = self.next_bytes();
        offset_of(&text)
    }

    /// Reads messages until a Close and gives its code. Their offsets must go on after `last`.
    pub fn close_code_after_offset(&mut self, mut last: u64) -> u16 {
        loop {
            let frame = self.frame().expect("closed without a Close frame");
            match frame.opcode {
                TEXT => {
                    last += 1;
                    assert_eq!(offset_of(&frame.payload), last);
                }
                CLOSE => {
                    self.assert_closed();
                    return frame.close_code();
                }
                PING => {}
                _ => panic!("unexpected {frame:?}"),
            }
        }
    }

    fn next_bytes(&mut self) -> Vec<u8> {
        loop {
            let frame = self.frame().expect("closed instead of a text frame");
            match frame.opcode {
                TEXT => return frame.payload,
                PING => {}
                _ => panic!("expected a text frame, got {frame:?}"),
            }
        }
    }
}

/// The frame in which a client says something to the first room it joined.
pub fn said(text: &str) -> Vec<u8> {
    let request = json!({"type": "message", "payload": text}).to_string();
    frame(true, TEXT, request.as_bytes())
}

fn offset_of(message: &[u8]) -> u64 {
    let tail = &message[message.len().saturating_sub(TAIL_BYTES)..];
    let tail = String::from_utf8_lossy(tail);
    let offset = tail.rsplit_once(r#","offset":"#).and_then(|(_, rest)| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    });
    offset.unwrap_or_else(|| panic!("no offset in …{tail}"))
}
