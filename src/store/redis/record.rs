//! The format of a message in Redis: a line of JSON with kind, publisher and id, then the payload unchanged.

use std::sync::Arc;

use crate::protocol::{Epoch, Kind, Position, Publication, RequestId, RoomName};

use crate::rooms::Exclusion;
use crate::store::publish::Publish;

/// Encodes a message.
pub(super) fn encode(publish: &Publish) -> Vec<u8> {
    let id = publish.id.as_ref().map(RequestId::as_str);
    let head = (publish.kind.as_str(), &*publish.from, id);
    // Serialization of strings into memory cannot fail.
    let mut record = serde_json::to_vec(&head).unwrap_or_default();
    record.push(b'\n');
    record.extend_from_slice(publish.payload.as_bytes());
    record
}

/// Decodes a message. `None` if the record was not written by wscast.
pub(super) fn decode(room: &RoomName, offset: u64, ts: u64, record: &[u8]) -> Option<Publication> {
    let text = std::str::from_utf8(record).ok()?;
    let (head, payload) = text.split_once('\n')?;
    let (kind, from, id): (String, String, Option<String>) = serde_json::from_str(head).ok()?;
    let kind = match kind.as_str() {
        "message" => Kind::Message,
        "custom_event" => Kind::CustomEvent,
        _ => return None,
    };
    Some(Publication {
        room: room.clone(),
        offset,
        id: match id {
            Some(id) => Some(RequestId::parse(&id).ok()?),
            None => None,
        },
        from: Arc::from(from),
        ts,
        kind,
        payload: payload.into(),
    })
}

/// A message of a room's channel.
#[derive(Debug)]
pub(super) struct PublishedRecord<'a> {
    pub(super) position: Position,
    /// When it was stored, in Unix milliseconds.
    pub(super) ts: u64,
    /// The members that do not receive it. Nodes of earlier versions ignore this.
    pub(super) except: Option<Exclusion>,
    pub(super) record: &'a [u8],
}

/// Splits a message of a room's channel.
pub(super) fn split_published(published: &[u8]) -> Option<PublishedRecord<'_>> {
    let end = published.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&published[..end]).ok()?;
    let mut words = head.split(' ');
    let epoch: Epoch = words.next()?.parse().ok()?;
    let offset = words.next()?.parse().ok()?;
    let ts = words.next()?.parse().ok()?;
    Some(PublishedRecord {
        position: Position { epoch, offset },
        ts,
        except: words.next().and_then(|word| word.parse().ok()),
        record: &published[end + 1..],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ClientId;

    #[test]
    fn record_keeps_every_byte_of_the_payload() {
        let room = RoomName::lobby();
        let payload = "{\"a\":\r\n1e400,\n\"b\":\"\\u0000\"}";
        let publish = Publish {
            room: room.clone(),
            from: Arc::from("alice \"the\nfirst\""),
            kind: Kind::CustomEvent,
            payload: payload.into(),
            id: Some(RequestId::parse("an\nid").unwrap()),
            scope: None,
            ttl: None,
            except: None,
            received: std::time::Instant::now(),
        };
        let publication = decode(&room, 7, 9, &encode(&publish)).unwrap();
        assert_eq!(&*publication.payload, payload);
        assert_eq!(&*publication.from, "alice \"the\nfirst\"");
        assert_eq!(publication.id, publish.id);
        assert_eq!((publication.offset, publication.ts), (7, 9));
        assert_eq!(publication.kind, Kind::CustomEvent);
    }

    #[test]
    fn members_that_do_not_receive_a_message_are_relayed_beside_it() {
        let except = Exclusion::Client(ClientId::new(7, 9));
        for (word, except) in [
            (format!(" {except}"), Some(except)),
            (String::new(), None),
            (" of a later version".to_owned(), None),
        ] {
            let text = format!("00000000000000ff 5 17{word}\nrecord");
            let published = split_published(text.as_bytes()).unwrap();
            assert_eq!((published.position.offset, published.ts), (5, 17));
            assert_eq!(
                (published.except, published.record),
                (except, &b"record"[..])
            );
        }
    }

    #[test]
    fn malformed_records_are_rejected() {
        let room = RoomName::lobby();
        for bad in [
            "",
            "\n",
            "[]\n1",
            "[\"join\",\"a\",null]\n1",
            "[\"message\",\"a\",null]",
        ] {
            assert!(decode(&room, 1, 1, bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(decode(&room, 1, 1, b"[\"message\",\"a\",null]\n\xff").is_none());
        for bad in [
            "",
            "0 1 2",
            "00000000000000ff 1\nx",
            "00000000000000ff x 1\nx",
        ] {
            assert!(split_published(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }
}
