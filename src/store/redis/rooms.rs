//! The rooms that this node listens to: those that have members here.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::protocol::RoomName;
use crate::rooms::RoomNumbering;

/// What clients' threads join from without asking Redis. Only the thread that listens changes it.
#[derive(Debug, Default)]
pub(super) struct Rooms(Mutex<HashMap<RoomName, Arc<RoomNumbering>>>);

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, HashMap<RoomName, Arc<RoomNumbering>>> {
        self.0.lock()
    }

    pub(super) fn get(&self, room: &RoomName) -> Option<Arc<RoomNumbering>> {
        self.lock().get(room).cloned()
    }

    pub(super) fn set(&self, stream: Arc<RoomNumbering>) {
        self.lock().insert(stream.name().clone(), stream);
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Forgets rooms that nobody holds besides this and the caller; gives their names. Whoever asks for one
    /// after that does not find it.
    pub(super) fn take_idle(&self) -> Vec<RoomName> {
        const HOLDERS_WHEN_IDLE: usize = 2;
        let mut idle = Vec::new();
        self.lock().retain(|room, stream| {
            let is_held = Arc::strong_count(stream) > HOLDERS_WHEN_IDLE;
            if !is_held {
                idle.push(room.clone());
            }
            is_held
        });
        idle
    }
}
