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

use crate::config::{Config, RedisSettings, SqliteSettings};
use crate::metrics::Metrics;

use self::memory::Memory;

pub(crate) use self::api::{HistoryQuery, NodeStatus, Store, Usage};
pub(crate) use self::delivery::Delivery;
pub(crate) use self::error::{OpenError, StoreError};
pub(crate) use self::publish::{Publish, Stored};

/// Opens the store that the settings name: Redis, SQLite, or memory if they name neither.
pub(crate) fn open(
    config: &Config,
    delivery: &Arc<dyn Delivery>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<dyn Store>, OpenError> {
    if let Some(settings) = &config.redis {
        return open_redis(settings, config, delivery, metrics);
    }
    if let Some(settings) = &config.database {
        return open_sqlite(settings, config, metrics);
    }
    let (limits, rooms_max) = (config.history.clone(), config.limits.max_rooms);
    let memory = Memory::new(limits, rooms_max, Arc::clone(metrics));
    Ok(Arc::new(memory))
}

#[cfg(feature = "redis")]
fn open_redis(
    settings: &RedisSettings,
    config: &Config,
    delivery: &Arc<dyn Delivery>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<dyn Store>, OpenError> {
    let (limits, rooms_max) = (config.history.clone(), config.limits.max_rooms);
    let (delivery, metrics) = (Arc::clone(delivery), Arc::clone(metrics));
    let redis = redis::Redis::connect(settings, limits, rooms_max, delivery, metrics);
    Ok(Arc::new(redis.map_err(OpenError::new)?))
}

#[cfg(not(feature = "redis"))]
fn open_redis(
    _: &RedisSettings,
    _: &Config,
    _: &Arc<dyn Delivery>,
    _: &Arc<Metrics>,
) -> Result<Arc<dyn Store>, OpenError> {
    let reason = "--redis: this wscast was built without Redis; build it with --features redis";
    Err(OpenError::new(reason))
}

#[cfg(feature = "sqlite")]
fn open_sqlite(
    settings: &SqliteSettings,
    config: &Config,
    metrics: &Arc<Metrics>,
) -> Result<Arc<dyn Store>, OpenError> {
    let (limits, rooms_max) = (config.history.clone(), config.limits.max_rooms);
    let sqlite = sqlite::Sqlite::open(settings, limits, rooms_max, Arc::clone(metrics));
    Ok(Arc::new(sqlite.map_err(OpenError::new)?))
}

#[cfg(not(feature = "sqlite"))]
fn open_sqlite(
    settings: &SqliteSettings,
    _: &Config,
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
