//! The log, on stderr and in an optional file.

mod json;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use simplelog::{CombinedLogger, ConfigBuilder, LevelFilter, SharedLogger, WriteLogger};

use crate::config::{Config, LogFormat};
use crate::os_error;

pub(crate) use self::json::ACCESS_TARGET;
use self::json::{IGNORED_TARGET, JsonLogger};

/// Least time between two lines of one [`ThrottledLog`].
const INTERVAL: Duration = Duration::from_secs(1);

/// A warning that is logged at most once a second, so that a client which can cause it cannot fill the log.
#[derive(Debug, Default)]
pub struct ThrottledLog(Mutex<ThrottleState>);

#[derive(Debug, Default)]
struct ThrottleState {
    last_line: Option<Instant>,
    suppressed: u64,
}

impl ThrottledLog {
    /// Logs the warning. If the last line is too recent, only counts it for the next line.
    pub fn warn(&self, message: impl fmt::Display) {
        let now = Instant::now();
        let mut state = self.0.lock();
        let is_recent = |line| now.duration_since(line) < INTERVAL;
        if state.last_line.is_some_and(is_recent) {
            state.suppressed += 1;
            return;
        }
        state.last_line = Some(now);
        let suppressed = std::mem::take(&mut state.suppressed);
        // A slow log must not block other threads at the lock.
        drop(state);
        match suppressed {
            0 => log::warn!("{message}"),
            more => log::warn!("{message} ({more} more since the last such line)"),
        }
    }
}

/// The file that the log is appended to. Cheap to clone; all clones write to the same file.
#[derive(Clone, Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(Mutex::new(open_log(path)?)),
        })
    }

    /// Opens the path again, because the file may have been renamed. If that fails, the log stays in the old file,
    /// and the error is one line.
    pub fn reopen(&self) -> Result<(), String> {
        let opened = open_log(&self.path);
        *self.file.lock() = opened.map_err(|error| os_error::explain(&self.path, &error))?;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.lock().flush()
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Starts logging and sends panics to the log, each as one line. Returns the log file, if there is one.
///
/// Fails when the log file cannot be opened for appending.
pub fn start(config: &Config) -> io::Result<Option<LogFile>> {
    let path = config.log_file.as_deref();
    let file = path.map(LogFile::open).transpose()?;
    let mut loggers = vec![logger(config.log_format, io::stderr())];
    if let Some(file) = &file {
        loggers.push(logger(config.log_format, file.clone()));
    }
    // Fails if the process has a logger already, as in tests; the first one stays.
    CombinedLogger::init(loggers).ok();
    log::set_max_level(config.log_level);
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    Ok(file)
}

/// Returns a logger that writes all that passes the global level, which a reload may change.
fn logger(format: LogFormat, writer: impl Write + Send + 'static) -> Box<dyn SharedLogger> {
    if format == LogFormat::Json {
        return Box::new(JsonLogger::new(writer));
    }
    let text = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Error)
        .set_thread_mode(simplelog::ThreadLogMode::Names)
        .add_filter_ignore_str(IGNORED_TARGET)
        .build();
    WriteLogger::new(LevelFilter::Trace, text, writer)
}
