//! The flags of several nodes that share a store.

use clap::Args;

use super::values::redis_prefix;
use crate::config::RedisSettings;

/// Where the others are found.
#[derive(Debug, Args)]
#[command(next_help_heading = "Nodes")]
pub(super) struct NodeFlags {
    /// Share rooms and history with other nodes through this Redis: redis://host:6379, rediss://… with TLS,
    /// unix:///path; user and password before an @; several of a Redis Cluster separated by commas
    #[arg(long, env = "WSCAST_REDIS", value_name = "URL", hide_env_values = true)]
    redis: Option<String>,
    /// What all names in Redis begin with, for several deployments on one
    #[arg(
        long,
        env = "WSCAST_REDIS_PREFIX",
        default_value = "wscast",
        value_name = "TEXT",
        value_parser = redis_prefix
    )]
    redis_prefix: String,
}

impl NodeFlags {
    /// What the program needs of it.
    pub(super) fn redis(self) -> Option<RedisSettings> {
        self.redis.map(|url| RedisSettings {
            url,
            prefix: self.redis_prefix,
        })
    }
}
