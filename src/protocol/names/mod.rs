//! Names: rooms in any script, and the identifiers of requests, clients, epochs and publish ids.

mod identifiers;
mod name_pattern;
mod room_name;
mod user_room;

pub use identifiers::{ClientId, Epoch, RequestId, Scope, SessionHash, UserHash};
pub use room_name::{NameError, RoomName};
pub(crate) use user_room::is_user;
