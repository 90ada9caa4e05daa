//! The other nodes on the same Redis: their heartbeats, the roster of their rooms, and closing clients on all nodes.

mod close;
mod heartbeat;
mod member_list;
mod report;
mod roster;

pub(super) use self::close::{close_message, close_requested_clients};
pub(super) use self::heartbeat::{Heartbeat, RosterEvent, leave_commands};
