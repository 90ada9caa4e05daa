//! Messages that their publishers do not receive: each gets an acknowledgement in place of its message.

mod own_publishes;
mod replacement;

pub(super) use own_publishes::{InPlace, OwnPublishes};
pub(super) use replacement::{PendingPublication, Replacement, replace};
