//! The users of every other node, by their reports. There are none unless webhooks report users.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::auth::parse_user;
use crate::rooms::UserCount;

use super::super::names::NodeName;

/// The start of the field that holds a user's number of clients, among the fields of a node's rooms. A room's name has no
/// space.
const FIELD_PREFIX: &str = "user ";

/// The number of clients of each user that a report names.
pub(super) type ReportedUsers = HashMap<String, usize>;

/// The users of the other nodes.
#[derive(Debug, Default)]
pub(super) struct UserRoster {
    nodes: HashMap<NodeName, HashMap<Arc<str>, usize>>,
    changed: HashSet<Arc<str>>,
}

impl UserRoster {
    /// Applies the users of a node's report. A number of 0 means that the user has left the node.
    pub(super) fn apply(&mut self, node: &str, reported: ReportedUsers) {
        if reported.is_empty() {
            return;
        }
        let users = self.nodes.entry(node.to_owned()).or_default();
        for (name, clients) in reported {
            let Some(user) = parse_user(&name) else {
                continue;
            };
            self.changed.insert(Arc::clone(&user));
            match clients {
                0 => users.remove(&user),
                clients => users.insert(user, clients),
            };
        }
    }

    pub(super) fn remove(&mut self, node: &str) {
        if let Some(users) = self.nodes.remove(node) {
            self.changed.extend(users.into_keys());
        }
    }

    /// Returns the users whose clients on other nodes have changed since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<UserCount> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let count = |user: Arc<str>| {
            let nodes = self.nodes.values();
            let clients = nodes.filter_map(|users| users.get(&user)).sum();
            UserCount { user, clients }
        };
        changed.map(count).collect()
    }
}

/// Returns the field of a user.
pub(super) fn field(user: &str) -> String {
    format!("{FIELD_PREFIX}{user}")
}

/// Returns the users among the fields of a node, and removes them from the fields.
pub(super) fn take_users(fields: &mut HashMap<String, String>) -> ReportedUsers {
    let users = fields.extract_if(|field, _| field.starts_with(FIELD_PREFIX));
    let parse = |(field, clients): (String, String)| {
        let user = field.strip_prefix(FIELD_PREFIX)?.to_owned();
        Some((user, clients.parse().ok()?))
    };
    users.filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(users: &[(&str, usize)]) -> ReportedUsers {
        let owned = |(user, clients): &(&str, usize)| ((*user).to_owned(), *clients);
        users.iter().map(owned).collect()
    }

    fn changed(roster: &mut UserRoster) -> Vec<(String, usize)> {
        let changed = roster.take_changed().into_iter();
        let mut changed: Vec<_> = changed
            .map(|count| (count.user.to_string(), count.clients))
            .collect();
        changed.sort();
        changed
    }

    #[test]
    fn clients_add_up_over_nodes_and_disappear_with_their_node() {
        let mut roster = UserRoster::default();
        roster.apply("a", reported(&[("ann", 1), ("bob", 2), ("a\nb", 1)]));
        roster.apply("b", reported(&[("ann", 3)]));
        assert_eq!(changed(&mut roster), [("ann".into(), 4), ("bob".into(), 2)]);
        roster.apply("a", reported(&[("bob", 0)]));
        assert_eq!(changed(&mut roster), [("bob".into(), 0)]);
        roster.remove("a");
        assert_eq!(changed(&mut roster), [("ann".into(), 3)]);
        assert_eq!(changed(&mut roster), []);
    }

    #[test]
    fn fields_of_users_are_told_from_those_of_rooms() {
        let fields = [
            ("ops", "[1,[]]"),
            ("user ann", "2"),
            ("user x y", "1"),
            ("user bad", "?"),
        ];
        let mut fields: HashMap<String, String> = fields
            .map(|(field, value)| (field.to_owned(), value.to_owned()))
            .into();
        assert_eq!(field("ann"), "user ann");
        assert_eq!(take_users(&mut fields), reported(&[("ann", 2), ("x y", 1)]));
        assert_eq!(fields.into_keys().collect::<Vec<_>>(), ["ops"]);
    }
}
