//! Publishing lines to a room: each line is sent, and sent again after an outage, until it is acknowledged.

mod in_flight;
mod input;
mod pace;
mod publisher;

pub(crate) use input::Input;
pub(crate) use publisher::{LinePublisher, PublishProgress};
