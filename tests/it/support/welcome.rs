//! The first frame of a session.

use std::ops::Deref;

use serde_json::Value;

/// A welcome, which says which rooms the client is in and where their numbering stands.
pub struct Welcome(Value);

/// A room as a welcome or `joined` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomState {
    pub room: String,
    pub epoch: String,
    pub offset: u64,
    pub members: u64,
    /// `None` where the client did not ask to resume.
    pub recovered: Option<bool>,
    /// Only where the client asked for the newest messages.
    pub live_after: Option<u64>,
}

impl Welcome {
    pub(super) fn new(frame: Value) -> Self {
        Self(frame)
    }

    /// Returns the state of one room; panics if the client is not in it.
    pub fn room(&self, name: &str) -> RoomState {
        let mut rooms = self.rooms().into_iter();
        let room = rooms.find(|state| state.room == name);
        room.unwrap_or_else(|| panic!("no room {name} in {}", self.0))
    }

    /// Returns all rooms, in the order in which the client named them.
    pub fn rooms(&self) -> Vec<RoomState> {
        let rooms = self.0["rooms"].as_array().expect("rooms in the welcome");
        rooms.iter().map(RoomState::parse).collect()
    }
}

impl Deref for Welcome {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl RoomState {
    fn parse(state: &Value) -> Self {
        let text = |name: &str| state[name].as_str().map(str::to_owned);
        let number = |name: &str| state[name].as_u64();
        let missing = |name: &str| -> ! { panic!("no {name} in {state}") };
        Self {
            room: text("room").unwrap_or_else(|| missing("room")),
            epoch: text("epoch").unwrap_or_else(|| missing("epoch")),
            offset: number("offset").unwrap_or_else(|| missing("offset")),
            members: number("members").unwrap_or_else(|| missing("members")),
            recovered: state["recovered"].as_bool(),
            live_after: number("live_after"),
        }
    }
}
