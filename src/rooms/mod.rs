//! Rooms as values that the store, the broker, sessions and the broadcaster share: numbering, seats, member
//! counts. No I/O.

mod members;
mod numbering;

pub use members::{LocalMembers, PRESENCE_LIST_MAX, RemoteMembers};
pub use numbering::{RoomNumbering, Seat};
