//! The work of a load: how many clients, rooms and messages.

use std::time::Duration;

use crate::protocol::RoomName;

/// Messages per second that one publisher sends at most, unless set otherwise: half of what a server takes from one
/// client by default.
const RATE_PER_PUBLISHER: f64 = 50.0;

/// The work of a load.
#[derive(Clone, Debug)]
pub(crate) struct LoadPlan {
    /// The rooms, to which clients and messages go in turn.
    pub(crate) rooms: usize,
    /// The room's name, or the start of the rooms' names. Without it the rooms are new.
    pub(crate) room: Option<RoomName>,
    pub(crate) pacing: Pacing,
    /// Clients of each room that publish in turn; `None` is as many as the rate needs.
    pub(crate) publishers: Option<usize>,
    /// Characters of each payload, which is a text.
    pub(crate) payload_bytes: usize,
    pub(crate) duration: Duration,
}

/// When the next message is published.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pacing {
    /// At fixed times, this many per second in all rooms together.
    PerSecond(f64),
    /// When the publisher receives a message of its own; this many are on their way in each room.
    Outstanding(u64),
}

impl LoadPlan {
    /// Returns the rooms' names. `new` names a new room.
    pub(super) fn room_names(&self, new: &str) -> Vec<String> {
        let name = self
            .room
            .as_ref()
            .map_or_else(|| format!("bench-{new}"), |room| room.as_str().to_owned());
        match self.rooms {
            1 => vec![name],
            rooms => (1..=rooms).map(|room| format!("{name}-{room}")).collect(),
        }
    }

    /// Returns how many clients of a room publish.
    pub(super) fn publishers_per_room(&self) -> usize {
        let needed = match self.pacing {
            Pacing::PerSecond(rate) => {
                (rate / self.rooms as f64 / RATE_PER_PUBLISHER).ceil() as usize
            }
            Pacing::Outstanding(_) => 1,
        };
        self.publishers.unwrap_or(needed).max(1)
    }
}
