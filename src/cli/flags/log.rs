//! The flags for the log.

use std::path::PathBuf;

use log::LevelFilter;

use super::values::switch;
use crate::config::LogFormat;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Logging")]
pub(in crate::cli) struct LogFlags {
    /// Most detailed level that is logged: off, error, warn, info, debug or trace
    #[arg(
        id = "log_level",
        long = "log-level",
        env = "WSCAST_LOG_LEVEL",
        default_value = "info",
        value_name = "LEVEL"
    )]
    pub(in crate::cli) level: LevelFilter,
    /// Append the log to this file, besides stderr
    #[arg(
        id = "log_file",
        long = "log-file",
        env = "WSCAST_LOG_FILE",
        value_name = "PATH"
    )]
    pub(in crate::cli) file: Option<PathBuf>,
    /// Format of the log's lines: text, or json for one JSON object on each line
    #[arg(
        id = "log_format",
        long = "log-format",
        env = "WSCAST_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub(in crate::cli) format: LogFormat,
    /// Log each HTTP request, and the end of each WebSocket and event stream, at info
    #[arg(
        id = "access_log",
        long = "access-log",
        env = "WSCAST_ACCESS_LOG",
        value_parser = switch,
        action = clap::ArgAction::SetTrue
    )]
    pub(in crate::cli) access: bool,
}
