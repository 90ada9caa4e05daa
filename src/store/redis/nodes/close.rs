//! Requests between nodes to close clients, and to revoke their user.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protocol::CloseCode;
use crate::rooms::ClientSelector;
use crate::store::delivery::Delivery;

use super::super::node_state::NodeState;

#[derive(Serialize, Deserialize)]
struct CloseRequest {
    /// The node that asks. It has closed its own clients already.
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// The time at which the user was revoked, in Unix milliseconds. Earlier versions only close the clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<u64>,
}

/// Returns the message that asks all other nodes to close clients.
pub(crate) fn close_message(clients: &ClientSelector, node: &str) -> String {
    let (client, user) = match clients {
        ClientSelector::Client(client) => (Some(client.to_string()), None),
        ClientSelector::User(user) => (None, Some(user.to_string())),
    };
    let request = CloseRequest {
        node: node.to_owned(),
        client,
        user,
        revoked: None,
    };
    request.to_json()
}

/// Returns the message that notifies all other nodes of a revoked user.
pub(super) fn revoke_message(user: &str, at: Duration, node: &str) -> String {
    let request = CloseRequest {
        node: node.to_owned(),
        client: None,
        user: Some(user.to_owned()),
        revoked: Some(at.as_millis() as u64),
    };
    request.to_json()
}

impl CloseRequest {
    fn to_json(&self) -> String {
        // Serialization of strings into memory cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Closes the clients that another node asks to close, after revoking their user if it asks for that too.
pub(crate) fn act_on_request(message: &[u8], state: &NodeState, delivery: &dyn Delivery) {
    let Ok(request) = serde_json::from_slice::<CloseRequest>(message) else {
        log::debug!("invalid close request of {} bytes", message.len());
        return;
    };
    if request.node == state.names.node {
        return;
    }
    let mut code = CloseCode::Forbidden;
    if let (Some(user), Some(revoked)) = (&request.user, request.revoked) {
        code = CloseCode::Unauthorized;
        let added = state.revocations.add(user, Duration::from_millis(revoked));
        if added.is_err() {
            log::error!("another node revoked a user, and this one has no space for it");
        }
    }
    let client = request.client.and_then(|id| id.parse().ok());
    match (client, request.user) {
        (Some(client), _) => delivery.close_clients(ClientSelector::Client(client), code),
        (None, Some(user)) => delivery.close_clients(ClientSelector::User(user.into()), code),
        (None, None) => {}
    }
}
