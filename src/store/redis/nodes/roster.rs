//! The roster: the rooms and members of every other node, by their reports.

use std::collections::{HashMap, HashSet};

use crate::protocol::RoomName;
use crate::rooms::{PRESENCE_LIST_MAX, RemoteMembers, UserCount};

use super::super::names::NodeName;
use super::member_list;
use super::report::{NodeReport, ReportedMembers};
use super::user_roster::UserRoster;

/// The other nodes.
#[derive(Debug, Default)]
pub(super) struct Roster {
    nodes: HashMap<NodeName, HashMap<RoomName, ReportedMembers>>,
    changed: HashSet<RoomName>,
    users: UserRoster,
}

impl Roster {
    pub(super) fn knows(&self, node: &str) -> bool {
        self.nodes.contains_key(node)
    }

    /// Applies a node's report.
    pub(super) fn apply(&mut self, report: NodeReport) {
        if report.is_leaving {
            return self.remove(&report.node);
        }
        if report.is_complete {
            self.remove(&report.node);
        }
        self.users.apply(&report.node, report.users);
        let rooms = self.nodes.entry(report.node).or_default();
        for (name, members) in report.rooms {
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

    /// Removes all nodes but these.
    pub(super) fn retain_nodes(&mut self, live: &[NodeName]) {
        let is_dead = |node: &&NodeName| !live.contains(node);
        let dead: Vec<NodeName> = self.nodes.keys().filter(is_dead).cloned().collect();
        dead.iter().for_each(|node| self.remove(node));
    }

    fn remove(&mut self, node: &str) {
        if let Some(rooms) = self.nodes.remove(node) {
            self.changed.extend(rooms.into_keys());
        }
        self.users.remove(node);
    }

    /// Returns the rooms whose remote members have changed since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<(RoomName, RemoteMembers)> {
        let changed = std::mem::take(&mut self.changed);
        let with_members = |room: RoomName| {
            let members = self.members_of(&room);
            (room, members)
        };
        changed.into_iter().map(with_members).collect()
    }

    /// Returns the users whose clients on other nodes have changed since the last call.
    pub(super) fn take_changed_users(&mut self) -> Vec<UserCount> {
        self.users.take_changed()
    }

    fn members_of(&self, room: &RoomName) -> RemoteMembers {
        let mut total = RemoteMembers::nobody();
        for (members, list) in self.nodes.values().filter_map(|rooms| rooms.get(room)) {
            total.members += members;
            match (&mut total.clients, list) {
                (Some(listed), Some(list)) if total.members <= PRESENCE_LIST_MAX => {
                    listed.extend(member_list::decode(list));
                }
                (listed, _) => *listed = None,
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ClientId;

    fn report(node: &str, rooms: &[(&str, usize)]) -> NodeReport {
        let member = |n: usize| ClientId::new(1, n as u64).to_string();
        let members = |count: usize| {
            let names = (count <= PRESENCE_LIST_MAX).then(|| (0..count).map(member).collect());
            (count, names)
        };
        NodeReport {
            node: node.to_owned(),
            rooms: rooms
                .iter()
                .map(|(room, count)| ((*room).to_owned(), members(*count)))
                .collect(),
            ..NodeReport::default()
        }
    }

    fn changed(roster: &mut Roster) -> Vec<(String, usize, bool)> {
        let mut changed: Vec<_> = roster
            .take_changed()
            .into_iter()
            .map(|(room, e)| (room.to_string(), e.members, e.clients.is_some()))
            .collect();
        changed.sort();
        changed
    }

    #[test]
    fn members_add_up_over_nodes_and_disappear_with_their_node() {
        let mut roster = Roster::default();
        roster.apply(report("a", &[("ops", 60), ("dev", 1)]));
        roster.apply(report("b", &[("ops", 30)]));
        let expected = [("dev".into(), 1, true), ("ops".into(), 90, true)];
        assert_eq!(changed(&mut roster), expected);
        roster.apply(report("b", &[("ops", 50)]));
        assert_eq!(changed(&mut roster), [("ops".into(), 110, false)]);
        roster.retain_nodes(&["b".into()]);
        let expected = [("dev".into(), 0, true), ("ops".into(), 50, true)];
        assert_eq!(changed(&mut roster), expected);
        assert!(roster.knows("b") && !roster.knows("a"));
        let leaving = NodeReport {
            node: "b".into(),
            is_leaving: true,
            ..NodeReport::default()
        };
        roster.apply(leaving);
        assert_eq!(changed(&mut roster), [("ops".into(), 0, true)]);
        assert_eq!(changed(&mut roster), []);
    }

    #[test]
    fn complete_report_replaces_earlier_reports() {
        let mut roster = Roster::default();
        roster.apply(report("a", &[("ops", 2), ("dev", 1)]));
        changed(&mut roster);
        let complete = NodeReport {
            is_complete: true,
            ..report("a", &[("ops", 3), ("not a name", 1)])
        };
        roster.apply(complete);
        let expected = [("dev".into(), 0, true), ("ops".into(), 3, true)];
        assert_eq!(changed(&mut roster), expected);
    }
}
