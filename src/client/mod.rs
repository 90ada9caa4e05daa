//! A client of a wscast server: connects, reads rooms and resumes, publishes each message once; and the load of many
//! clients.
//!
//! A single thread does everything: it polls the socket together with the input or output of the command. Nothing here
//! writes to a terminal or knows a flag.

mod connection;
mod error;
mod frame;
mod load;
mod publishing;
mod reconnect;
mod room;
mod subscriber;
mod wait;
mod welcome;

pub(crate) use connection::{ServerAccess, ServerAddress};
pub(crate) use error::ClientError;
pub(crate) use frame::one_line;
pub(crate) use load::{
    LoadFigures, LoadGenerator, LoadPlan, LoadProgress, LoadState, PAYLOAD_BYTES_MIN, Pacing,
    SearchResult, find_clients,
};
pub(crate) use publishing::{Input, LinePublisher, PublishProgress};
pub(crate) use room::Start;
pub(crate) use subscriber::{Output, RoomSubscriber};
