//! The other nodes on the same Redis: their heartbeats, the roster of their rooms, and closing clients on all nodes.

mod close;
mod heartbeat;
mod member_list;
mod report;
mod revocations;
mod roster;
mod user_roster;

pub(super) use self::close::{act_on_request, close_message};
pub(super) use self::heartbeat::{Heartbeat, RosterEvent, leave_commands};
pub(super) use self::revocations::{read_revocations, revoke_commands};
