//! A stream of Server-Sent Events for several rooms. The id of each event holds the position in every room, because a
//! client remembers only the last id.

use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};

use super::event::write_data;
use super::{Epoch, LastEventId, Position, RoomName, Since};

/// Most rooms of one stream. It limits the length of an id.
pub(crate) const STREAM_ROOMS_MAX: usize = 32;
/// Bytes of a room's key.
const KEY_BYTES: usize = 6;
const EPOCH_BYTES: usize = 8;
/// Most bytes of an offset.
const OFFSET_BYTES_MAX: usize = 10;
/// The bit of a key's first byte that says that an epoch follows. Without it the epoch is that of the room before.
const EPOCH_FOLLOWS: u8 = 0x80;
/// The first character of an id, which distinguishes it from that of a stream of one room.
const PREFIX: char = 'm';

/// A part of a hash of a room's name. Ids hold it instead of the name, which can be long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoomKey([u8; KEY_BYTES]);

impl RoomKey {
    pub(crate) fn of(room: &RoomName) -> Self {
        let digest = digest(&SHA256, room.as_str().as_bytes());
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(&digest.as_ref()[..KEY_BYTES]);
        key[0] &= !EPOCH_FOLLOWS;
        Self(key)
    }
}

/// Returns the most characters of the id of a stream of this many rooms.
pub(crate) const fn stream_id_chars_max(rooms: usize) -> usize {
    1 + rooms * (KEY_BYTES + EPOCH_BYTES + OFFSET_BYTES_MAX).div_ceil(3) * 4
}

/// Appends the id of a stream of several rooms.
pub(crate) fn write_stream_id(
    out: &mut Vec<u8>,
    positions: impl IntoIterator<Item = (RoomKey, Position)>,
) {
    let mut bytes = Vec::new();
    let mut last_epoch = None;
    for (RoomKey(mut key), Position { epoch, mut offset }) in positions {
        let is_new = last_epoch.replace(epoch) != Some(epoch);
        if is_new {
            key[0] |= EPOCH_FOLLOWS;
        }
        bytes.extend_from_slice(&key);
        if is_new {
            bytes.extend_from_slice(&epoch.to_bytes());
        }
        // Seven bits a byte, the lowest first; the highest bit says that more follow.
        while offset >= 0x80 {
            bytes.push(offset as u8 | 0x80);
            offset >>= 7;
        }
        bytes.push(offset as u8);
    }
    out.push(PREFIX as u8);
    out.extend_from_slice(BASE64URL_NOPAD.encode(&bytes).as_bytes());
}

/// The id of the last event that a client has of a stream of several rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LastStreamId {
    /// The same start for every room. It is not a position.
    Same(LastEventId),
    Positions(Vec<(RoomKey, Position)>),
}

impl LastStreamId {
    /// Parses an id; any text is one.
    pub(crate) fn parse(text: &str) -> Self {
        match LastEventId::parse(text) {
            same @ (LastEventId::Missing | LastEventId::Zero) => Self::Same(same),
            LastEventId::Position(_) | LastEventId::Foreign => {
                parse_positions(text).map_or(Self::Same(LastEventId::Foreign), Self::Positions)
            }
        }
    }

    /// Returns where a room starts. A room that the id does not have starts now.
    pub(crate) fn of_room(&self, room: &RoomName) -> LastEventId {
        match self {
            Self::Same(same) => *same,
            Self::Positions(positions) => {
                let key = RoomKey::of(room);
                let position = positions.iter().find(|(other, _)| *other == key);
                position.map_or(LastEventId::Missing, |(_, position)| {
                    LastEventId::Position(Since {
                        offset: position.offset,
                        epoch: Some(position.epoch),
                    })
                })
            }
        }
    }
}

fn parse_positions(text: &str) -> Option<Vec<(RoomKey, Position)>> {
    let encoded = text.strip_prefix(PREFIX)?;
    if text.len() > stream_id_chars_max(STREAM_ROOMS_MAX) {
        return None;
    }
    let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).ok()?;
    let mut rest = &bytes[..];
    let mut positions = Vec::new();
    let mut last_epoch = None;
    while !rest.is_empty() {
        let mut key: [u8; KEY_BYTES] = *take(&mut rest)?;
        if key[0] & EPOCH_FOLLOWS != 0 {
            key[0] &= !EPOCH_FOLLOWS;
            last_epoch = Some(Epoch::from_bytes(*take(&mut rest)?));
        }
        let offset = take_offset(&mut rest)?;
        let epoch = last_epoch?;
        positions.push((RoomKey(key), Position { epoch, offset }));
    }
    Some(positions)
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(taken)
}

fn take_offset(rest: &mut &[u8]) -> Option<u64> {
    let mut offset = 0u64;
    for group in 0..OFFSET_BYTES_MAX {
        let [byte] = *take(rest)?;
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * group);
        if shifted >> (7 * group) != bits {
            return None;
        }
        offset |= shifted;
        if byte & 0x80 == 0 {
            return Some(offset);
        }
    }
    None
}

/// Publications of one room as Server-Sent Events without their ids, which differ from stream to stream.
#[derive(Debug, Default)]
pub(crate) struct EventBodies {
    bytes: Vec<u8>,
    /// The offset of each publication, and the end of its event in `bytes`.
    ends: Vec<(u64, usize)>,
}

impl EventBodies {
    /// Appends a publication.
    pub(crate) fn push(&mut self, offset: u64, json: &[u8]) {
        write_data(&mut self.bytes, json);
        self.ends.push((offset, self.bytes.len()));
    }

    /// Returns the number of publications.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the length of all events.
    pub(crate) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns each publication's offset and event.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        let ends = self.ends.iter().zip(starts);
        ends.map(|((offset, end), start)| (*offset, &self.bytes[start..*end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    fn id(positions: &[(RoomKey, Position)]) -> String {
        let mut id = Vec::new();
        write_stream_id(&mut id, positions.iter().copied());
        String::from_utf8(id).unwrap()
    }

    #[test]
    fn id_gives_each_room_its_position_whatever_the_order() {
        let (shared, other) = (Epoch::random(), Epoch::random());
        let position = |epoch, offset| Position { epoch, offset };
        let positions = [
            ("a", position(shared, 0)),
            ("b", position(shared, 127)),
            ("房间", position(other, 128)),
            ("d", position(shared, u64::MAX)),
        ];
        let keyed = positions.map(|(name, position)| (RoomKey::of(&room(name)), position));
        let last = LastStreamId::parse(&id(&keyed));
        for (name, position) in positions {
            let since = Since {
                offset: position.offset,
                epoch: Some(position.epoch),
            };
            assert_eq!(last.of_room(&room(name)), LastEventId::Position(since));
        }
        assert_eq!(last.of_room(&room("e")), LastEventId::Missing);
    }

    #[test]
    fn longest_id_is_within_the_limit_and_can_be_read() {
        let positions: Vec<_> = (0..STREAM_ROOMS_MAX)
            .map(|n| {
                let (epoch, offset) = (Epoch::random(), u64::MAX);
                let key = RoomKey::of(&room(&n.to_string()));
                (key, Position { epoch, offset })
            })
            .collect();
        let id = id(&positions);
        let chars_max = stream_id_chars_max(STREAM_ROOMS_MAX);
        assert!(id.len() <= chars_max, "{}", id.len());
        assert_eq!(LastStreamId::parse(&id), LastStreamId::Positions(positions));
    }

    #[test]
    fn any_text_is_an_id() {
        let (epoch, offset) = (Epoch::random(), 7);
        let valid = id(&[(RoomKey::of(&room("a")), Position { epoch, offset })]);
        let cut_off = &valid[..valid.len() - 2];
        let too_long = format!("m{}", "A".repeat(5000));
        let foreign = LastStreamId::Same(LastEventId::Foreign);
        for text in ["m!", "mA", "mAAAAAAAA", "x", "7", cut_off, &too_long] {
            assert_eq!(LastStreamId::parse(text), foreign, "{text}");
        }
        // The id of a stream of one room does not name the room.
        assert_eq!(LastStreamId::parse(&format!("{epoch}-7")), foreign);
        for (text, same) in [("", LastEventId::Missing), ("0", LastEventId::Zero)] {
            assert_eq!(LastStreamId::parse(text), LastStreamId::Same(same));
        }
        assert_eq!(
            LastStreamId::parse("m"),
            LastStreamId::Positions(Vec::new())
        );
    }

    #[test]
    fn bodies_are_the_events_without_their_ids() {
        let mut bodies = EventBodies::default();
        bodies.push(7, b"1\n2");
        bodies.push(9, b"3");
        let events: Vec<_> = bodies.iter().collect();
        let expected = [
            (7, &b"\ndata: 1\ndata: 2\n\n"[..]),
            (9, &b"\ndata: 3\n\n"[..]),
        ];
        assert_eq!(events, expected);
    }
}
