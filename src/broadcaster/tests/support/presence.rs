//! Lists of members.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use crate::protocol::{ClientId, PresentClient};

/// The wall clock of all tests.
pub(in crate::broadcaster::tests) const UNIX_TIME: Duration =
    Duration::from_millis(1_795_954_151_800);

/// Returns `count` clients without a user on another node.
pub(in crate::broadcaster::tests) fn remote_clients(count: u64) -> Vec<PresentClient> {
    let id = |n| ClientId::new(9, n);
    (1..=count).map(|n| without_user(id(n))).collect()
}

/// Returns a client as lists of members show it.
pub(in crate::broadcaster::tests) fn with_user(client: ClientId, user: &str) -> PresentClient {
    PresentClient {
        user: Some(user.into()),
        ..without_user(client)
    }
}

/// Returns a client without a user as lists of members show it.
pub(in crate::broadcaster::tests) fn without_user(client: ClientId) -> PresentClient {
    PresentClient {
        since: Some(UNIX_TIME.as_millis() as u64),
        ..PresentClient::new(client, None)
    }
}

/// Returns the client ids in a presence message, in the order sent.
pub(in crate::broadcaster::tests) fn listed(presence: &Value) -> Vec<String> {
    let clients = presence["payload"]["clients"].as_array();
    let id = |client: &Value| client["client"].as_str().expect("an id").to_owned();
    clients.expect("a list").iter().map(id).collect()
}

/// Indexes values by a key that must be unique.
pub(in crate::broadcaster::tests) fn by_key<K: std::hash::Hash + Eq, V>(
    values: impl IntoIterator<Item = V>,
    key: impl Fn(&V) -> K,
) -> HashMap<K, V> {
    let mut indexed = HashMap::new();
    for value in values {
        let previous = indexed.insert(key(&value), value);
        assert!(previous.is_none(), "a key that exists twice");
    }
    indexed
}
