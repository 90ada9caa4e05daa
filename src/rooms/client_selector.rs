//! The clients that an operator closes, on this node and on the others.

use std::sync::Arc;

use crate::protocol::ClientId;

/// A set of connected clients.
#[derive(Clone, Debug)]
pub(crate) enum ClientSelector {
    /// The client with this id.
    Client(ClientId),
    /// Every client whose token names this user.
    User(Arc<str>),
}
