//! The reports that nodes exchange about the members of their rooms.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::rooms::{LocalMembers, UserCount};

use super::super::names::NodeName;
use super::member_list;
use super::user_roster::ReportedUsers;

/// Maximum number of rooms in one report.
const ROOMS_MAX: usize = 200;
/// Bytes of member lists in one report, not counting the last room's list. Redis disconnects a subscriber whose
/// messages it must buffer for long.
const LIST_BYTES: usize = 256 * 1024;

/// The members of a room on one node: their number, and their [list](member_list)
/// unless they are too many.
pub(super) type ReportedMembers = (usize, Option<Vec<String>>);

/// A node's report.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct NodeReport {
    pub(super) node: NodeName,
    /// True if the node shuts down.
    #[serde(default, rename = "leaves")]
    pub(super) is_leaving: bool,
    /// True if the report has all rooms of the node and replaces its earlier reports.
    #[serde(default, rename = "anew")]
    pub(super) is_complete: bool,
    /// Rooms whose members have changed.
    #[serde(default)]
    pub(super) rooms: HashMap<String, ReportedMembers>,
    /// Users whose clients have changed. Nodes without webhooks report none.
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    pub(super) users: ReportedUsers,
}

impl NodeReport {
    /// The report of rooms on the node itself.
    pub(super) fn new(node: &str, rooms: &[LocalMembers], is_complete: bool) -> Self {
        let reported = |local: &LocalMembers| (local.room.to_string(), reported_members(local));
        Self {
            node: node.to_owned(),
            is_leaving: false,
            is_complete,
            rooms: rooms.iter().map(reported).collect(),
            users: HashMap::new(),
        }
    }

    /// The report of users' clients on the node itself.
    pub(super) fn of_users(node: &str, users: &[UserCount]) -> Self {
        let reported = |count: &UserCount| (count.user.to_string(), count.clients);
        Self {
            node: node.to_owned(),
            users: users.iter().map(reported).collect(),
            ..Self::default()
        }
    }

    /// The report of a node that shuts down.
    pub(super) fn leaving(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            is_leaving: true,
            ..Self::default()
        }
    }

    pub(super) fn to_json(&self) -> String {
        // Serialization of strings and numbers into memory cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn reported_members(local: &LocalMembers) -> ReportedMembers {
    let list = local.clients.as_deref().map(member_list::encode);
    (local.members, list)
}

/// Splits rooms into parts for one report each: one empty part if there are no rooms.
pub(super) fn split_rooms(rooms: &[LocalMembers]) -> Vec<&[LocalMembers]> {
    let mut parts = Vec::new();
    let mut rest = rooms;
    let (mut count, mut list_bytes) = (0, 0);
    for local in rooms {
        count += 1;
        list_bytes += local.clients.as_deref().map_or(0, member_list::byte_len);
        if count == ROOMS_MAX || list_bytes >= LIST_BYTES {
            let (part, later) = rest.split_at(count);
            parts.push(part);
            rest = later;
            (count, list_bytes) = (0, 0);
        }
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(rest);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ClientId, PresentClient, RoomName};

    fn rooms(count: usize, user: Option<&str>) -> Vec<LocalMembers> {
        let client = |n: u64| PresentClient::new(ClientId::new(1, n), user.map(Into::into));
        let room = |n: usize| LocalMembers {
            room: RoomName::parse(&format!("ops:{n}")).unwrap(),
            members: 100,
            clients: Some((0..100).map(client).collect()),
        };
        (0..count).map(room).collect()
    }

    #[test]
    fn rooms_are_split_into_reports_by_number_and_by_bytes() {
        let part_sizes = |rooms: &[LocalMembers]| -> Vec<usize> {
            split_rooms(rooms).iter().map(|part| part.len()).collect()
        };
        assert_eq!(part_sizes(&[]), [0]);
        let mut empty = rooms(401, None);
        empty.iter_mut().for_each(|room| room.clients = None);
        assert_eq!(part_sizes(&empty), [200, 200, 1]);
        assert_eq!(part_sizes(&empty[..200]), [200]);

        let named = rooms(100, Some(&"u".repeat(128)));
        let parts = split_rooms(&named);
        assert!(parts.concat() == named, "every room once, in order");
        for part in parts {
            let lists: Vec<_> = part.iter().map(reported_members).collect();
            let bytes = serde_json::to_string(&lists).unwrap().len();
            assert!(bytes < 512 * 1024, "{bytes} bytes");
        }
    }
}
