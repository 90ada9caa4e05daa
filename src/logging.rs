//! The log: stderr, and a file where one is asked for.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use simplelog::{CombinedLogger, ConfigBuilder, LevelFilter, SharedLogger, WriteLogger};

use crate::config::Config;

/// Most often the same kind of trouble is logged.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(1);

/// One kind of trouble, which is logged once a second at most, however often it strikes: who can bring it
/// about must not be able to fill the log.
#[derive(Debug, Default)]
pub struct ThrottledLog(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    untold: u64,
}

impl ThrottledLog {
    /// Logs a warning, or counts it for the next line.
    pub fn log(&self, what: impl fmt::Display) {
        let now = Instant::now();
        let mut told = self.0.lock();
        let is_recent = |at| now.duration_since(at) < TROUBLE_INTERVAL;
        if told.at.is_some_and(is_recent) {
            told.untold += 1;
            return;
        }
        told.at = Some(now);
        let untold = std::mem::take(&mut told.untold);
        // A log that is slow holds up nobody else.
        drop(told);
        match untold {
            0 => log::warn!("{what}"),
            more => log::warn!("{what} (and {more} more since the last such line)"),
        }
    }
}

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
