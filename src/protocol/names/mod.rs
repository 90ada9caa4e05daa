//! Names: rooms in any script, and the identifiers of requests, clients, epochs and publish ids.

mod identifiers;
mod room_name;

pub use identifiers::{ClientId, Epoch, RequestId, Scope};
pub use room_name::{NameError, RoomName};
