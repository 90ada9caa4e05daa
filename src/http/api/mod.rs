//! The handlers of the HTTP API, a file for each resource.

pub(super) mod clients;
pub(super) mod health;
pub(super) mod messages;
pub(super) mod metrics;
pub(super) mod rooms;
pub(super) mod stats;
