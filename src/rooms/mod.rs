//! Rooms as values that the store, the broker, sessions and the broadcaster share: numbering, seats, member
//! counts. No I/O.

mod client_selector;
mod members;
mod numbering;
mod seat;

pub(crate) use client_selector::ClientSelector;
pub(crate) use members::PRESENCE_LIST_MAX;
pub(crate) use members::{LocalMembers, RemoteMembers};
pub(crate) use numbering::RoomNumbering;
pub(crate) use seat::Seat;
