//! The rooms that this node is subscribed to: every room with members on this node.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::protocol::RoomName;
use crate::rooms::RoomNumbering;

/// The numberings of the subscribed rooms, which clients' threads join without asking Redis. The subscriber thread
/// alone changes the map.
#[derive(Debug, Default)]
pub(super) struct SubscribedRooms(Mutex<HashMap<RoomName, Arc<RoomNumbering>>>);

impl SubscribedRooms {
    pub(super) fn get(&self, room: &RoomName) -> Option<Arc<RoomNumbering>> {
        self.0.lock().get(room).cloned()
    }

    /// Adds a room, or replaces its numbering after a restart.
    pub(super) fn set(&self, numbering: Arc<RoomNumbering>) {
        self.0.lock().insert(numbering.name().clone(), numbering);
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Removes and returns the rooms of a subscriber whose numbering nobody holds except this map and the subscriber.
    /// From then on [`get`](Self::get) does not find them.
    pub(super) fn take_idle(&self, is_subscribed: impl Fn(&RoomName) -> bool) -> Vec<RoomName> {
        const HOLDERS_WHEN_IDLE: usize = 2;
        let is_idle = |room: &RoomName, numbering: &mut Arc<RoomNumbering>| {
            Arc::strong_count(numbering) <= HOLDERS_WHEN_IDLE && is_subscribed(room)
        };
        let mut rooms = self.0.lock();
        rooms.extract_if(is_idle).map(|(room, _)| room).collect()
    }
}
