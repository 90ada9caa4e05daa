//! A Redis client with bounded waits, reconnection and Redis Cluster. It knows nothing of rooms.
//!
//! [`RedisClient`] sends each command to the server of its keys. Each server has a connection that fails and recovers
//! on its own ([`connection`]).

mod address;
mod backoff;
mod cluster;
mod config;
mod connection;
mod open_connection;
mod pool;
mod redis_client;
mod reply;
mod script;
mod slots;

pub(crate) use self::backoff::Backoff;
pub(crate) use self::cluster::Address;
pub(crate) use self::config::{ClientConfig, Endpoints};
pub(crate) use self::open_connection::{OpenConnection, open_connection};
pub(crate) use self::pool::ClientPool;
pub(crate) use self::redis_client::RedisClient;
pub(crate) use self::reply::{
    CommandError, REDIS_TIMEOUT, Reply, accepted, error_text, server_errors,
};
pub(crate) use self::script::{Script, Source};
pub(crate) use self::slots::{SlotMap, SlotRange, slot_of_key};
