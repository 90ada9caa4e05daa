//! The flags of what is kept, where, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ArgPredicate;

use super::values::{bytes, count, seconds};
use crate::config::{Durability, HistoryLimits, SqliteSettings};

/// What is kept. With a database it is more by default.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "History")]
pub(super) struct HistoryFlags {
    /// Keep the history in this SQLite database, so that it outlives the server
    #[arg(long, env = "WSCAST_DB", value_name = "PATH")]
    db: Option<PathBuf>,
    /// What an acknowledged message survives: normal, the end of the process; full, the loss of power
    /// as well, for a sync of the disk at every batch
    #[arg(
        long,
        env = "WSCAST_DURABILITY",
        default_value = "normal",
        value_name = "HOW"
    )]
    durability: Durability,
    /// Messages kept a room; with --db 10000
    #[arg(long, env = "WSCAST_HISTORY_MESSAGES", default_value = "1000", value_name = "N",
          default_value_if("db", ArgPredicate::IsPresent, "10000"), value_parser = count)]
    history_messages: usize,
    /// Bytes of payload kept a room; with --db 16MiB
    #[arg(long, env = "WSCAST_HISTORY_BYTES", default_value = "1MiB", value_name = "BYTES",
          default_value_if("db", ArgPredicate::IsPresent, "16MiB"), value_parser = bytes)]
    history_bytes: usize,
    /// Seconds a message is kept; with --db a week
    #[arg(long, env = "WSCAST_HISTORY_AGE", default_value = "3600", value_name = "SECONDS",
          default_value_if("db", ArgPredicate::IsPresent, "604800"), value_parser = seconds)]
    history_age: Duration,
    /// Bytes of payload kept of all rooms together; with --db 256MiB
    #[arg(long, env = "WSCAST_HISTORY_TOTAL_BYTES", default_value = "64MiB", value_name = "BYTES",
          default_value_if("db", ArgPredicate::IsPresent, "256MiB"), value_parser = bytes)]
    history_total_bytes: usize,
}

impl HistoryFlags {
    pub(super) fn database(&self) -> Option<SqliteSettings> {
        let path = self.db.clone()?;
        let durability = self.durability;
        Some(SqliteSettings { path, durability })
    }

    pub(super) fn limits(&self) -> HistoryLimits {
        HistoryLimits {
            messages: self.history_messages,
            bytes: self.history_bytes,
            age: self.history_age,
            total_bytes: self.history_total_bytes,
        }
    }
}
