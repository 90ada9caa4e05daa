//! The connected users: how many clients each has, on this node and on the others.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::rooms::UserCount;

/// The users with a client on any node. Empty unless the presence of users is of interest.
#[derive(Default)]
pub(super) struct ConnectedUsers {
    users: HashMap<Arc<str>, UserClients>,
    /// Users whose local clients changed since they were last requested. `None` until the first request, because a
    /// server without other nodes makes none.
    changed: Option<HashSet<Arc<str>>>,
}

/// The number of a user's clients.
#[derive(Clone, Copy, Default)]
struct UserClients {
    local: usize,
    remote: usize,
}

impl UserClients {
    fn is_present(self) -> bool {
        self.local + self.remote > 0
    }
}

impl ConnectedUsers {
    /// Counts a client that connected. Returns whether it is the user's first on any node.
    pub(super) fn add(&mut self, user: &Arc<str>) -> bool {
        let became_present = self.update(user, |clients| clients.local += 1).is_some();
        if let Some(changed) = &mut self.changed {
            changed.insert(Arc::clone(user));
        }
        became_present
    }

    /// Counts a client that disconnected. Returns whether it was the user's last on any node.
    pub(super) fn remove(&mut self, user: &Arc<str>) -> bool {
        let change = self.update(user, |clients| {
            clients.local = clients.local.saturating_sub(1)
        });
        if let Some(changed) = &mut self.changed {
            changed.insert(Arc::clone(user));
        }
        change.is_some()
    }

    /// Sets the number of clients on other nodes. Returns whether the user is present now, if that changed.
    pub(super) fn set_remote(&mut self, user: &Arc<str>, remote: usize) -> Option<bool> {
        self.update(user, |clients| clients.remote = remote)
    }

    /// Changes a user's numbers. Returns whether the user is present now, if that changed.
    fn update(&mut self, user: &Arc<str>, change: impl FnOnce(&mut UserClients)) -> Option<bool> {
        let entry = self.users.entry(Arc::clone(user));
        let (before, after) = match entry {
            Entry::Occupied(mut known) => {
                let before = *known.get();
                change(known.get_mut());
                let after = *known.get();
                if !after.is_present() {
                    known.remove();
                }
                (before, after)
            }
            Entry::Vacant(unknown) => {
                let mut after = UserClients::default();
                change(&mut after);
                if after.is_present() {
                    unknown.insert(after);
                }
                (UserClients::default(), after)
            }
        };
        let is_present = after.is_present();
        (before.is_present() != is_present).then_some(is_present)
    }

    /// Returns the users with clients on any node.
    pub(super) fn present(&self) -> impl Iterator<Item = &Arc<str>> {
        self.users.keys()
    }

    /// Returns the users whose local clients changed since the last call, or all with local clients. Starts the record
    /// of changes on the first call.
    pub(super) fn take_changed(&mut self, all: bool) -> Vec<UserCount> {
        let changed = self.changed.replace(HashSet::new()).unwrap_or_default();
        let local = |user: &Arc<str>| UserCount {
            user: Arc::clone(user),
            clients: self.users.get(user).map_or(0, |clients| clients.local),
        };
        if all {
            let everyone = self.users.keys().map(local);
            return everyone.filter(|user| user.clients > 0).collect();
        }
        changed.iter().map(local).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_is_present_from_the_first_client_on_any_node_to_the_last() {
        let (mut users, alice) = (ConnectedUsers::default(), Arc::<str>::from("alice"));
        assert!(users.add(&alice));
        assert!(!users.add(&alice));
        assert_eq!(users.set_remote(&alice, 2), None);
        assert!(!users.remove(&alice));
        assert!(!users.remove(&alice));
        assert_eq!(users.present().count(), 1);
        assert_eq!(users.set_remote(&alice, 0), Some(false));
        assert_eq!(users.present().count(), 0);
        assert!(!users.remove(&alice), "one more end than starts");
        assert_eq!(users.set_remote(&alice, 1), Some(true));
        assert_eq!(users.set_remote(&alice, 0), Some(false));
        assert!(users.users.is_empty());
    }

    #[test]
    fn changed_users_are_returned_once_with_their_local_clients() {
        let (mut users, alice) = (ConnectedUsers::default(), Arc::<str>::from("alice"));
        users.add(&alice);
        users.set_remote(&Arc::from("bob"), 1);
        let local = |clients| {
            let user = Arc::clone(&alice);
            vec![UserCount { user, clients }]
        };
        assert_eq!(users.take_changed(true), local(1));
        assert_eq!(users.take_changed(false), []);
        users.add(&alice);
        assert_eq!(users.take_changed(false), local(2));
        users.remove(&alice);
        users.remove(&alice);
        assert_eq!(users.take_changed(false), local(0));
        assert_eq!(users.take_changed(true), []);
    }
}
