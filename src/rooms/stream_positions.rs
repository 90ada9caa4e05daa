//! The positions of a client that reads several rooms through one event stream.

use parking_lot::{Mutex, MutexGuard};

use crate::protocol::{
    Position, RoomKey, RoomName, RoomState, stream_id_chars_max, write_stream_id,
};

use super::numbering::RoomNumbering;

/// The client's position in each of its rooms. The client's thread and the broadcaster both send it messages.
#[derive(Debug)]
pub(crate) struct StreamPositions {
    rooms: Mutex<Vec<RoomPosition>>,
    id_bytes_max: usize,
}

#[derive(Debug)]
struct RoomPosition {
    name: RoomName,
    key: RoomKey,
    position: Position,
}

/// The positions, locked. Events are pushed to the client before the lock is released, so that their ids only rise.
pub(crate) struct LockedPositions<'a>(MutexGuard<'a, Vec<RoomPosition>>);

impl StreamPositions {
    /// The positions at which the rooms are now.
    pub(crate) fn new<'a>(rooms: impl Iterator<Item = &'a RoomNumbering>) -> Self {
        let rooms = rooms.map(|numbering| RoomPosition {
            name: numbering.name().clone(),
            key: RoomKey::of(numbering.name()),
            position: numbering.position(),
        });
        let rooms: Vec<RoomPosition> = rooms.collect();
        Self {
            id_bytes_max: "id: ".len() + stream_id_chars_max(rooms.len()),
            rooms: Mutex::new(rooms),
        }
    }

    /// Sets the position at which the client starts in a room.
    pub(crate) fn start(&self, state: &RoomState) {
        let mut rooms = self.rooms.lock();
        let room = rooms.iter_mut().find(|room| room.name == state.room);
        if let Some(room) = room {
            room.position = state.position;
        }
    }

    /// Returns the most bytes of the id of an event.
    pub(crate) fn id_bytes_max(&self) -> usize {
        self.id_bytes_max
    }

    pub(crate) fn lock(&self) -> LockedPositions<'_> {
        LockedPositions(self.rooms.lock())
    }
}

impl LockedPositions<'_> {
    /// Sets the offset of the last message of a room.
    pub(crate) fn advance(&mut self, room: &RoomName, offset: u64) {
        let room = self.0.iter_mut().find(|known| known.name == *room);
        if let Some(room) = room {
            room.position.offset = offset;
        }
    }

    /// Appends the line of an event with all positions, without its end.
    pub(crate) fn write_id(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"id: ");
        write_stream_id(out, self.0.iter().map(|room| (room.key, room.position)));
    }
}
