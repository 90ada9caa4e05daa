//! Who is in which room on the other nodes, put together from what each of them says.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::protocol::RoomName;
use crate::rooms::{LocalMembers, PRESENCE_LIST_MAX, RemoteMembers};

use super::member_list;
use super::names::NodeName;

/// Members of a room on one node: how many, and their [`member_list`] unless they are too many.
pub(super) type Members = (usize, Option<Vec<String>>);

/// What a node tells the others.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) node: NodeName,
    /// Whether it leaves.
    #[serde(default)]
    pub(super) leaves: bool,
    /// Whether all it has said before is void.
    #[serde(default)]
    pub(super) anew: bool,
    /// Rooms whose members have changed.
    #[serde(default)]
    pub(super) rooms: HashMap<String, Members>,
}

/// The members of a room as they are told.
pub(super) fn members(local: &LocalMembers) -> Members {
    let list = local.clients.as_deref().map(member_list::encode);
    (local.members, list)
}

/// The other nodes.
#[derive(Debug, Default)]
pub(super) struct View {
    nodes: HashMap<NodeName, HashMap<RoomName, Members>>,
    changed: HashSet<RoomName>,
}

impl View {
    pub(super) fn knows(&self, node: &str) -> bool {
        self.nodes.contains_key(node)
    }

    /// Takes what a node says of some of its rooms.
    pub(super) fn take(&mut self, told: Told) {
        if told.leaves {
            return self.drop_node(&told.node);
        }
        if told.anew {
            self.drop_node(&told.node);
        }
        let rooms = self.nodes.entry(told.node).or_default();
        for (name, members) in told.rooms {
            let Ok(name) = RoomName::parse(&name) else {
                continue;
            };
            self.changed.insert(name.clone());
            match members.0 {
                0 => rooms.remove(&name),
                _ => rooms.insert(name, members),
            };
        }
    }

    /// Forgets all nodes but these.
    pub(super) fn keep_only(&mut self, alive: &[NodeName]) {
        let dead: Vec<NodeName> = self
            .nodes
            .keys()
            .filter(|node| !alive.contains(node))
            .cloned()
            .collect();
        dead.iter().for_each(|node| self.drop_node(node));
    }

    fn drop_node(&mut self, node: &str) {
        if let Some(rooms) = self.nodes.remove(node) {
            self.changed.extend(rooms.into_keys());
        }
    }

    /// Rooms that are another than when this was last asked.
    pub(super) fn take_changed(&mut self) -> Vec<(RoomName, RemoteMembers)> {
        let changed = std::mem::take(&mut self.changed);
        let of_all = |room: RoomName| {
            let elsewhere = self.elsewhere(&room);
            (room, elsewhere)
        };
        changed.into_iter().map(of_all).collect()
    }

    fn elsewhere(&self, room: &RoomName) -> RemoteMembers {
        let mut elsewhere = RemoteMembers::nobody();
        for (members, list) in self.nodes.values().filter_map(|rooms| rooms.get(room)) {
            elsewhere.members += members;
            match (&mut elsewhere.clients, list) {
                (Some(known), Some(list)) if elsewhere.members <= PRESENCE_LIST_MAX => {
                    known.extend(member_list::decode(list));
                }
                (known, _) => *known = None,
            }
        }
        elsewhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ClientId;

    fn told(node: &str, rooms: &[(&str, usize)]) -> Told {
        let member = |n: usize| ClientId::new(1, n as u64).to_string();
        let members = |count: usize| {
            let names = (count <= PRESENCE_LIST_MAX).then(|| (0..count).map(member).collect());
            (count, names)
        };
        Told {
            node: node.to_owned(),
            rooms: rooms
                .iter()
                .map(|(room, count)| ((*room).to_owned(), members(*count)))
                .collect(),
            ..Told::default()
        }
    }

    fn changed(view: &mut View) -> Vec<(String, usize, bool)> {
        let mut changed: Vec<_> = view
            .take_changed()
            .into_iter()
            .map(|(room, e)| (room.to_string(), e.members, e.clients.is_some()))
            .collect();
        changed.sort();
        changed
    }

    #[test]
    fn members_add_up_over_the_nodes_and_go_with_them() {
        let mut view = View::default();
        view.take(told("a", &[("ops", 60), ("dev", 1)]));
        view.take(told("b", &[("ops", 30)]));
        let expected = [("dev".into(), 1, true), ("ops".into(), 90, true)];
        assert_eq!(changed(&mut view), expected);
        view.take(told("b", &[("ops", 50)]));
        assert_eq!(changed(&mut view), [("ops".into(), 110, false)]);
        view.keep_only(&["b".into()]);
        let expected = [("dev".into(), 0, true), ("ops".into(), 50, true)];
        assert_eq!(changed(&mut view), expected);
        assert!(view.knows("b") && !view.knows("a"));
        let leaves = Told {
            node: "b".into(),
            leaves: true,
            ..Told::default()
        };
        view.take(leaves);
        assert_eq!(changed(&mut view), [("ops".into(), 0, true)]);
        assert_eq!(changed(&mut view), []);
    }

    #[test]
    fn what_is_said_anew_voids_what_was_said() {
        let mut view = View::default();
        view.take(told("a", &[("ops", 2), ("dev", 1)]));
        changed(&mut view);
        let anew = Told {
            anew: true,
            ..told("a", &[("ops", 3), ("not a name", 1)])
        };
        view.take(anew);
        let expected = [("dev".into(), 0, true), ("ops".into(), 3, true)];
        assert_eq!(changed(&mut view), expected);
    }
}
