//! What nodes that share a store tell each other of their rooms.

use crate::protocol::{ClientId, RoomName};

/// Most members of a room whose names are listed; a larger room shows only their number.
pub const PRESENCE_LIST_MAX: usize = 100;

/// Members that a room has on other nodes, as those last said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteMembers {
    /// How many.
    pub members: usize,
    /// ClientSelector, unless some node has too many to list.
    pub clients: Option<Vec<ClientId>>,
}

/// Members that a room has on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalMembers {
    /// The room.
    pub room: RoomName,
    /// How many; none if it is empty now.
    pub members: usize,
    /// ClientSelector, unless they are too many to list.
    pub clients: Option<Vec<ClientId>>,
}

impl RemoteMembers {
    /// No member, which is what a room has until another node says otherwise.
    pub fn nobody() -> Self {
        Self {
            members: 0,
            clients: Some(Vec::new()),
        }
    }
}
