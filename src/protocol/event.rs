//! Server-Sent Events (HTML standard, §9.2): publications for clients that only read.

use std::time::Duration;

use super::{Epoch, Position, Since};

/// Time after which a client whose stream ended reconnects.
pub const RETRY: Duration = Duration::from_secs(2);

/// Appends one event: `id` is the publication's position, `data` its JSON text.
///
/// A payload is relayed verbatim and may contain line breaks between its tokens. Each line becomes a `data`
/// line of the same event; the client joins them again.
pub fn write_event(out: &mut Vec<u8>, position: Position, json: &[u8]) {
    let Position { epoch, offset } = position;
    out.extend_from_slice(format!("id: {epoch}-{offset}").as_bytes());
    write_data(out, json);
}

/// Appends the part of an event after its id.
pub(super) fn write_data(out: &mut Vec<u8>, json: &[u8]) {
    for line in json.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"\ndata: ");
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b"\n\n");
}

/// Appends the id of a publication without the publication. A client remembers it for its next connection, and reports
/// no event.
pub fn write_event_id(out: &mut Vec<u8>, position: Position) {
    let Position { epoch, offset } = position;
    out.extend_from_slice(format!("id: {epoch}-{offset}\n\n").as_bytes());
}

/// The id of the last event that a client has, after which its stream continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastEventId {
    /// The client names none: the stream starts now.
    Missing,
    /// `0`: the stream starts with the oldest message.
    Zero,
    /// The id of an event of this server.
    Position(Since),
    /// The id is not from this server. An `EventSource` cannot forget it, so it is no error.
    Foreign,
}

impl LastEventId {
    /// Parses an id; any text is one.
    pub fn parse(text: &str) -> Self {
        match text {
            "" => Self::Missing,
            "0" => Self::Zero,
            _ => position(text).map_or(Self::Foreign, Self::Position),
        }
    }
}

fn position(text: &str) -> Option<Since> {
    let (epoch, offset) = text.split_once('-')?;
    let epoch: Epoch = epoch.parse().ok()?;
    let is_number = offset.bytes().all(|byte| byte.is_ascii_digit());
    Some(Since {
        offset: offset.parse().ok().filter(|_| is_number)?,
        epoch: Some(epoch),
    })
}

/// Returns the only event of a stream that is refused for now. The client reconnects after `retry`.
pub fn refused_event(retry: Duration, json: &str) -> Vec<u8> {
    let retry = retry.max(RETRY).as_millis();
    format!("retry: {retry}\nevent: error\ndata: {json}\n\n").into_bytes()
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
    }

    #[test]
    fn any_text_is_an_id() {
        let since = Since {
            offset: 7,
            epoch: Some("00000000000000ff".parse().unwrap()),
        };
        for (text, id) in [
            ("00000000000000ff-7", LastEventId::Position(since)),
            ("", LastEventId::Missing),
            ("0", LastEventId::Zero),
            ("7", LastEventId::Foreign),
            ("00000000000000ff-", LastEventId::Foreign),
            ("00000000000000ff-+7", LastEventId::Foreign),
            ("undefined", LastEventId::Foreign),
        ] {
            assert_eq!(LastEventId::parse(text), id, "{text}");
        }
    }
}
