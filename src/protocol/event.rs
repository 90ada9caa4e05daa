//! Server-Sent Events (HTML standard, §9.2): publications for clients that only read.

use super::{Epoch, Position, Since};

/// Appends one event: `id` is the publication's position, `data` its JSON text.
///
/// A payload is relayed verbatim and may contain line breaks between its tokens. Each line becomes a `data`
/// line of the same event; the client joins them again.
pub fn write_event(out: &mut Vec<u8>, position: Position, json: &[u8]) {
    let Position { epoch, offset } = position;
    out.extend_from_slice(format!("id: {epoch}-{offset}").as_bytes());
    for line in json.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"\ndata: ");
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b"\n\n");
}

/// Parses the `Last-Event-ID` of a client that reconnects.
pub fn last_event_id(text: &str) -> Option<Since> {
    let (epoch, offset) = text.split_once('-')?;
    let epoch: Epoch = epoch.parse().ok()?;
    Some(Since {
        offset: offset.parse().ok()?,
        epoch: Some(epoch),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_with_line_breaks_stays_one_event() {
        let position = Position {
            epoch: "00000000000000ff".parse().unwrap(),
            offset: 7,
        };
        let mut out = Vec::new();
        write_event(&mut out, position, b"{\"a\":\r\n1,\n\"b\":2}");
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "id: 00000000000000ff-7\ndata: {\"a\":\ndata: \ndata: 1,\ndata: \"b\":2}\n\n"
        );
        let since = last_event_id("00000000000000ff-7").unwrap();
        assert_eq!((since.offset, since.epoch), (7, Some(position.epoch)));
        assert_eq!(last_event_id("7"), None);
    }
}
