//! Requests between nodes to close clients.

use serde::{Deserialize, Serialize};

use crate::rooms::ClientSelector;
use crate::store::delivery::Delivery;

#[derive(Serialize, Deserialize)]
struct CloseRequest {
    /// The node that asks. It has closed its own clients already.
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
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
    };
    // Serialization of strings into memory cannot fail.
    serde_json::to_string(&request).unwrap_or_default()
}

/// Closes the clients that another node asks to close.
pub(crate) fn close_requested_clients(message: &[u8], node: &str, delivery: &dyn Delivery) {
    let Ok(request) = serde_json::from_slice::<CloseRequest>(message) else {
        log::debug!("invalid close request of {} bytes", message.len());
        return;
    };
    if request.node == node {
        return;
    }
    let client = request.client.and_then(|id| id.parse().ok());
    match (client, request.user) {
        (Some(client), _) => delivery.close_clients(ClientSelector::Client(client)),
        (None, Some(user)) => delivery.close_clients(ClientSelector::User(user.into())),
        (None, None) => {}
    }
}
