//! The store: numbers publications and keeps their history, in memory, in SQLite or in Redis.
//!
//! [`open`] chooses one by the settings. A store never touches members or sockets: a store that other nodes share
//! passes their publications to a [`Delivery`].

mod api;
mod dedupe;
mod delivery;
mod directory;
mod error;
#[cfg(any(feature = "redis", feature = "sqlite"))]
mod health;
mod memory;
#[cfg(any(feature = "redis", feature = "sqlite"))]
mod pool;
mod publish;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::path::Path;
use std::sync::Arc;

use crate::auth::Revocations;
use crate::config::{Config, LiveConfig, RedisSettings, SqliteSettings};
use crate::metrics::Metrics;

use self::memory::Memory;

pub(crate) use self::api::{Deleted, Deletion, HistoryQuery, Lease, NodeStatus, Store, Usage};
pub(crate) use self::delivery::{Acknowledgement, Delivery};
pub(crate) use self::error::{OpenError, StoreError};
pub(crate) use self::publish::{Publish, Stored};

/// Opens the store that the settings name: Redis, SQLite, or memory if they name neither.
pub(crate) fn open(
    config: &LiveConfig,
    delivery: &Arc<dyn Delivery>,
    revocations: &Arc<Revocations>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<dyn Store>, OpenError> {
    let settings = config.get();
    if let Some(settings) = &settings.redis {
        return open_redis(settings, config, delivery, revocations, metrics);
    }
    if let Some(settings) = &settings.database {
        return open_sqlite(settings, config, revocations, metrics);
    }
    Ok(Arc::new(Memory::new(config, Arc::clone(metrics))))
}

/// Checks the settings of the store as [`open`] does, but opens no file and connects to no server.
pub(crate) fn check(config: &Config) -> Result<(), OpenError> {
    config.redis.as_ref().map_or(Ok(()), check_redis)
}

#[cfg(feature = "redis")]
fn check_redis(settings: &RedisSettings) -> Result<(), OpenError> {
    redis::Redis::check(settings).map_err(OpenError::new)
}

#[cfg(not(feature = "redis"))]
fn check_redis(_: &RedisSettings) -> Result<(), OpenError> {
    Err(OpenError::new(WITHOUT_REDIS))
}

#[cfg(feature = "redis")]
fn open_redis(
    settings: &RedisSettings,
    config: &LiveConfig,
    delivery: &Arc<dyn Delivery>,
    revocations: &Arc<Revocations>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<dyn Store>, OpenError> {
    let (delivery, metrics) = (Arc::clone(delivery), Arc::clone(metrics));
    let revocations = Arc::clone(revocations);
    let redis = redis::Redis::connect(settings, config, delivery, revocations, metrics);
    Ok(Arc::new(redis.map_err(OpenError::new)?))
}

#[cfg(not(feature = "redis"))]
fn open_redis(
    _: &RedisSettings,
    _: &LiveConfig,
    _: &Arc<dyn Delivery>,
    _: &Arc<Revocations>,
    _: &Arc<Metrics>,
) -> Result<Arc<dyn Store>, OpenError> {
    Err(OpenError::new(WITHOUT_REDIS))
}

#[cfg(not(feature = "redis"))]
const WITHOUT_REDIS: &str =
    "--redis: this wscast was built without Redis; build it with --features redis";

#[cfg(feature = "sqlite")]
fn open_sqlite(
    settings: &SqliteSettings,
    config: &LiveConfig,
    revocations: &Arc<Revocations>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<dyn Store>, OpenError> {
    let sqlite = sqlite::Sqlite::open(settings, config, revocations, Arc::clone(metrics));
    Ok(Arc::new(sqlite.map_err(OpenError::new)?))
}

#[cfg(not(feature = "sqlite"))]
fn open_sqlite(
    settings: &SqliteSettings,
    _: &LiveConfig,
    _: &Arc<Revocations>,
    _: &Arc<Metrics>,
) -> Result<Arc<dyn Store>, OpenError> {
    let path = &settings.path;
    Err(OpenError::new(format_args!(
        "--db {path:?}: this wscast was built without SQLite; build it with --features sqlite"
    )))
}

/// Copies the SQLite database at `from` to the new file `to`, also while a server uses it. The error is one line.
#[cfg(feature = "sqlite")]
pub(crate) fn back_up(from: &Path, to: &Path) -> Result<(), String> {
    sqlite::back_up(from, to)
}

/// Fails, because this build has no SQLite.
#[cfg(not(feature = "sqlite"))]
pub(crate) fn back_up(_: &Path, _: &Path) -> Result<(), String> {
    Err("backup: this wscast was built without SQLite; build it with --features sqlite".to_owned())
}
