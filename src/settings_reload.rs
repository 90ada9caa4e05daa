//! Reading the settings again while the server runs.

use std::ffi::OsString;
use std::path::PathBuf;

use log::Level;
use parking_lot::Mutex;

use wscast::cli::{self, Command, EffectiveSettings, Invocation, ServerSettings};
use wscast::config::{Config, is_reloaded};

/// Reads the arguments, the variables and the settings file again.
#[derive(Debug)]
pub(crate) struct SettingsReload {
    args: Vec<OsString>,
    file: PathBuf,
    /// The settings that the server runs with.
    running: Mutex<EffectiveSettings>,
    /// The database that the server runs with. Another one needs a restart.
    database: Option<PathBuf>,
}

impl SettingsReload {
    /// Prepares to read the settings of these arguments again.
    pub(crate) fn new(
        args: Vec<OsString>,
        file: PathBuf,
        running: EffectiveSettings,
        database: Option<PathBuf>,
    ) -> Self {
        let running = Mutex::new(running);
        Self {
            args,
            file,
            running,
            database,
        }
    }

    /// Reads the settings and passes them to `apply`. Returns the settings that have changed, as one line. If the settings
    /// are invalid, changes nothing and returns the reason.
    pub(crate) fn run(&self, apply: impl Fn(Config)) -> Result<String, String> {
        let args = || self.args.iter().cloned();
        let wanted = server_settings(cli::parse(args())?)?;
        let wanted = wanted.config.database.map(|database| database.path);
        let mut again = cli::parse_again(args(), self.database.as_deref())?;
        let notices = std::mem::take(&mut again.notices);
        let ServerSettings {
            config, effective, ..
        } = server_settings(again)?;
        apply(config);
        let warnings = notices.iter().filter(|notice| notice.level <= Level::Warn);
        warnings.for_each(|notice| log::warn!("{}", notice.text));
        let (reloaded, mut kept) = self.running.lock().reload(effective, is_reloaded);
        if wanted != self.database {
            kept.push("--db".to_owned());
        }
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

fn server_settings(invocation: Invocation) -> Result<ServerSettings, String> {
    match invocation.command {
        Command::Serve(settings) => Ok(*settings),
        _ => Err("the command line does not start the server".to_owned()),
    }
}
