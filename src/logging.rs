//! The log: stderr, and a file where one is asked for.

use std::fs::OpenOptions;
use std::io;

use simplelog::{CombinedLogger, ConfigBuilder, LevelFilter, SharedLogger, WriteLogger};

use crate::config::Config;

/// Starts logging and sends panics to the log, each as one line.
///
/// Fails when the log file cannot be opened for appending.
pub fn start(config: &Config) -> io::Result<()> {
    let format = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Error)
        .set_thread_mode(simplelog::ThreadLogMode::Names)
        .add_filter_ignore_str("tungstenite")
        .build();
    let level = config.log_level;
    let mut loggers: Vec<Box<dyn SharedLogger>> =
        vec![WriteLogger::new(level, format.clone(), io::stderr())];
    if let Some(path) = &config.log_file {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        loggers.push(WriteLogger::new(level, format, file));
    }
    // A second start in one process keeps the first logger, which is what tests want.
    let _already_started = CombinedLogger::init(loggers);
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    Ok(())
}
