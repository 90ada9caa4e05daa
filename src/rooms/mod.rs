//! Rooms as values that the store, the broker, sessions and the broadcaster share: numbering, seats, member
//! counts, and changes of presence. No I/O.

mod client_selector;
mod exclusion;
mod members;
mod numbering;
mod presence_changes;
mod seat;
mod stream_positions;

pub(crate) use client_selector::ClientSelector;
pub(crate) use exclusion::{ExcludedUser, Exclusion};
pub(crate) use members::PRESENCE_LIST_MAX;
pub(crate) use members::{LocalMembers, RemoteMembers, UserCount};
pub(crate) use numbering::RoomNumbering;
pub(crate) use presence_changes::{PresenceChanges, PresenceKinds, PresenceSubject, TakenChanges};
pub(crate) use seat::Seat;
pub(crate) use stream_positions::StreamPositions;
