//! The flags for several nodes on one Redis.

use super::values::redis_prefix;
use crate::config::RedisSettings;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Nodes")]
pub(in crate::cli) struct NodeFlags {
    /// Share rooms and history with other nodes through this Redis: redis://host:6379, rediss://… with TLS,
    /// or unix:///path. User and password come before an @; separate the nodes of a Redis Cluster by commas
    #[arg(long, env = "WSCAST_REDIS", value_name = "URL", hide_env_values = true)]
    redis: Option<String>,
    /// Prefix of all keys in Redis; several deployments in one database of Redis need different prefixes
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
    /// Returns the settings, if there is a Redis.
    pub(in crate::cli) fn redis(self) -> Option<RedisSettings> {
        self.redis.map(|url| RedisSettings {
            url,
            prefix: self.redis_prefix,
        })
    }
}
