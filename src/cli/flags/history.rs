//! The flags for the history: how much is kept, how long, and in which file.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ArgPredicate;

use super::values::{count, duration, size};
use crate::config::{Durability, HistoryLimits, SqliteSettings};

/// With a database the defaults are larger.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "History")]
pub(in crate::cli) struct HistoryFlags {
    /// Keep the history in this SQLite database, so that it survives a restart
    #[arg(long, env = "WSCAST_DB", value_name = "PATH")]
    db: Option<PathBuf>,
    /// Events that an acknowledged message survives. normal: the end of the process; full: also a power loss, at the
    /// cost of a disk sync for each batch
    #[arg(
        long,
        env = "WSCAST_DURABILITY",
        default_value = "normal",
        value_name = "LEVEL"
    )]
    durability: Durability,
    /// Messages kept in each room; 10000 with --db
    #[arg(long, env = "WSCAST_HISTORY_MESSAGES", default_value = "1000", value_name = "N",
          default_value_if("db", ArgPredicate::IsPresent, "10000"), value_parser = count)]
    history_messages: usize,
    /// Payload bytes kept in each room; 16MiB with --db
    #[arg(long, env = "WSCAST_HISTORY_BYTES", default_value = "1MiB", value_name = "SIZE",
          default_value_if("db", ArgPredicate::IsPresent, "16MiB"), value_parser = size)]
    history_bytes: usize,
    /// How long a message is kept; 7d with --db
    #[arg(long, env = "WSCAST_HISTORY_AGE", default_value = "1h", value_name = "DURATION",
          default_value_if("db", ArgPredicate::IsPresent, "7d"), value_parser = duration)]
    history_age: Duration,
    /// Payload bytes kept in all rooms together; 256MiB with --db
    #[arg(long, env = "WSCAST_HISTORY_TOTAL_BYTES", default_value = "64MiB", value_name = "SIZE",
          default_value_if("db", ArgPredicate::IsPresent, "256MiB"), value_parser = size)]
    history_total_bytes: usize,
}

impl HistoryFlags {
    pub(in crate::cli) fn database(&self) -> Option<SqliteSettings> {
        let path = self.db.clone()?;
        let durability = self.durability;
        Some(SqliteSettings { path, durability })
    }

    pub(in crate::cli) fn limits(&self) -> HistoryLimits {
        HistoryLimits {
            messages: self.history_messages,
            bytes: self.history_bytes,
            age: self.history_age,
            total_bytes: self.history_total_bytes,
        }
    }
}
