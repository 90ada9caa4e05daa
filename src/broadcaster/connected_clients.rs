//! The connected clients, whether they are members of a room or not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::outbox::Outbox;
use crate::protocol::{ClientId, RoomName};

/// The connected clients, by id.
pub(super) type ConnectedClients = HashMap<ClientId, ConnectedClient>;

/// A connected client.
pub(super) struct ConnectedClient {
    pub(super) outbox: Arc<Outbox>,
    /// The `sub` of the client's token, if it has one.
    pub(super) user: Option<Arc<str>>,
    /// The rooms it is a member of. A room that restarted stays here until the client's connection ends.
    pub(super) rooms: Vec<RoomName>,
    pub(super) connected: Instant,
}
