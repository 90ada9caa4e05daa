//! Reading the settings again while the server runs.

use std::ffi::OsString;
use std::path::PathBuf;

use parking_lot::Mutex;

use wscast::cli::{self, Command, EffectiveSettings, ServerSettings};
use wscast::config::{Config, is_reloaded};

/// Reads the arguments, the variables and the settings file again.
#[derive(Debug)]
pub(crate) struct SettingsReload {
    args: Vec<OsString>,
    file: PathBuf,
    /// The settings that the server runs with.
    running: Mutex<EffectiveSettings>,
}

impl SettingsReload {
    /// Prepares to read the settings of these arguments again.
    pub(crate) fn new(args: Vec<OsString>, file: PathBuf, running: EffectiveSettings) -> Self {
        let running = Mutex::new(running);
        Self {
            args,
            file,
            running,
        }
    }

    /// Reads the settings and passes them to `apply`. Returns the settings that have changed, as one line. If the settings
    /// are invalid, changes nothing and returns the reason.
    pub(crate) fn run(&self, apply: impl Fn(Config)) -> Result<String, String> {
        let ServerSettings {
            config, effective, ..
        } = match cli::parse(self.args.iter().cloned())?.command {
            Command::Serve(settings) => *settings,
            _ => return Err("the command line does not start the server".to_owned()),
        };
        apply(config);
        let (reloaded, kept) = self.running.lock().reload(effective, is_reloaded);
        let path = &self.file;
        let changes = match &reloaded[..] {
            [] => "nothing changed".to_owned(),
            _ => format!("changed {}", reloaded.join(", ")),
        };
        Ok(match &kept[..] {
            [] => format!("settings in {path:?}: {changes}"),
            _ => format!(
                "settings in {path:?}: {changes}; needs a restart: {}",
                kept.join(", ")
            ),
        })
    }
}
