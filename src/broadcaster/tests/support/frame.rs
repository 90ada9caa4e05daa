//! A frame that a client received.

use serde_json::Value;

/// A frame that a client received.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::broadcaster::tests) enum ReceivedFrame {
    Text(Value),
    /// A Close frame with this code.
    Close(u16),
}

/// Removes the first frame from `bytes`: unmasked and whole, as the server sends every frame (RFC 6455 §5.2).
pub(super) fn parse_frame(bytes: &mut &[u8]) -> ReceivedFrame {
    let (opcode, length_byte) = (bytes[0] & 0x0F, bytes[1]);
    let (header, length) = match length_byte {
        126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
        127 => {
            let length = bytes[2..10].iter().fold(0, |n, b| n << 8 | usize::from(*b));
            (10, length)
        }
        short => (2, usize::from(short)),
    };
    let payload = &bytes[header..header + length];
    *bytes = &bytes[header + length..];
    match opcode {
        0x1 => ReceivedFrame::Text(serde_json::from_slice(payload).expect("JSON")),
        0x8 => ReceivedFrame::Close(u16::from_be_bytes([payload[0], payload[1]])),
        other => panic!("unexpected opcode {other}"),
    }
}
