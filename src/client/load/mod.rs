//! A load generator: many clients of a server, what they receive, and how late it is.
//!
//! Reading must cost less than the server's work. Therefore all sockets belong to one thread with an epoll, frames are
//! counted by their headers, and of each payload only the start is looked at. A few threads open the connections,
//! because a handshake over a long distance takes several round trips.

mod client;
mod clients;
mod figures;
mod frame_starts;
mod generator;
mod latencies;
mod message;
mod opener;
mod plan;
mod search;

pub(crate) use figures::LoadFigures;
pub(crate) use generator::{LoadGenerator, LoadProgress, LoadState};
pub(crate) use message::PAYLOAD_BYTES_MIN;
pub(crate) use plan::{LoadPlan, Pacing};
pub(crate) use search::{SearchResult, find_clients};
