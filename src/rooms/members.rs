//! Member counts of a room: on this node and on the others.

use std::sync::Arc;

use crate::protocol::{PresentClient, RoomName};

/// Maximum number of members that are listed. A larger room reports only its count.
///
/// A user has at most 128 bytes and a state 256, so a list has less than 64 KiB of JSON.
pub(crate) const PRESENCE_LIST_MAX: usize = 100;

/// The members of a room on other nodes, by the last heartbeat of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RemoteMembers {
    /// The number of members.
    pub(crate) members: usize,
    /// The members; `None` if a node has too many to list.
    pub(crate) clients: Option<Vec<PresentClient>>,
}

/// The members of a room on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalMembers {
    pub(crate) room: RoomName,
    /// The number of members; 0 if the last one has left.
    pub(crate) members: usize,
    /// The members; `None` if there are too many to list.
    pub(crate) clients: Option<Vec<PresentClient>>,
}

/// A user with clients on one node, or on several together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserCount {
    pub(crate) user: Arc<str>,
    /// The number of clients; 0 if the last one has disconnected.
    pub(crate) clients: usize,
}

impl RemoteMembers {
    /// No members: the value until another node reports some.
    pub(crate) fn nobody() -> Self {
        Self {
            members: 0,
            clients: Some(Vec::new()),
        }
    }
}
