//! The handlers of the HTTP API, a file for each resource.

pub(super) mod batch;
mod body;
pub(super) mod clients;
pub(super) mod deletion;
pub(super) mod health;
pub(super) mod messages;
pub(super) mod metrics;
mod publishing;
pub(super) mod rooms;
pub(super) mod stats;
