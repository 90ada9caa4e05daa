//! What one node asks of all others: to close clients.

use serde::{Deserialize, Serialize};

use crate::rooms::ClientSelector;

use super::super::delivery::Delivery;

#[derive(Serialize, Deserialize)]
struct Close {
    /// ClientSelector asks, and has done it already.
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
}

/// The text that asks for it.
pub(super) fn close(who: &ClientSelector, node: &str) -> String {
    let (client, user) = match who {
        ClientSelector::Client(client) => (Some(client.to_string()), None),
        ClientSelector::User(user) => (None, Some(user.to_string())),
    };
    let close = Close {
        node: node.to_owned(),
        client,
        user,
    };
    // Strings serialised into memory cannot fail.
    serde_json::to_string(&close).unwrap_or_default()
}

/// Does what another node asks.
pub(super) fn obey(told: &[u8], node: &str, delivery: &dyn Delivery) {
    let Ok(close) = serde_json::from_slice::<Close>(told) else {
        log::debug!("not understood: {} bytes", told.len());
        return;
    };
    if close.node == node {
        return;
    }
    let client = close.client.and_then(|name| name.parse().ok());
    let who = match (client, close.user) {
        (Some(client), _) => ClientSelector::Client(client),
        (None, Some(user)) => ClientSelector::User(user.into()),
        (None, None) => return,
    };
    delivery.close_clients(who);
}
