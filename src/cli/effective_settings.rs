//! The settings in effect, for `--check-config` and for the comparison after a reload.

use std::borrow::Cow;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::environment::Sources;
use crate::config::RoomRules;

/// The name of the rules for rooms in the line of a reload.
const ROOMS: &str = "[[rooms]]";
/// Column of the origins, unless a setting is longer.
const ORIGIN_COLUMN: usize = 40;

/// The settings in effect, in the order of `--help`.
#[derive(Debug, Default)]
pub struct EffectiveSettings {
    flags: Vec<EffectiveSetting>,
    /// The rules for rooms, in order.
    rooms: Vec<String>,
}

#[derive(Debug)]
struct EffectiveSetting {
    flag: String,
    value: SettingValue,
    /// The flag, variable, line or default that the value comes from.
    origin: String,
}

/// A value that `Debug` does not show, because some are secrets.
#[derive(PartialEq, Eq)]
struct SettingValue {
    /// `None` without a value.
    text: Option<String>,
    is_secret: bool,
}

impl EffectiveSettings {
    pub(super) fn new(
        command: &Command,
        matches: &ArgMatches,
        sources: &Sources,
        rooms: &RoomRules,
    ) -> Self {
        let args = command.get_arguments();
        let settings =
            args.filter(|arg| arg.get_long().is_some() && arg.get_id() != "check_config");
        let setting = |arg: &Arg| EffectiveSetting {
            flag: format!("--{}", arg.get_long().unwrap_or_default()),
            value: SettingValue::new(arg, matches),
            origin: origin(arg.get_id().as_str(), matches, sources),
        };
        Self {
            flags: settings.map(setting).collect(),
            rooms: rooms.describe().collect(),
        }
    }

    /// Returns a line for each setting. Flags accept the values as they are printed, except those with line breaks or other
    /// control characters, which are printed as the settings file writes them.
    pub(super) fn lines(&self) -> String {
        let line = |setting: &EffectiveSetting| {
            let text = format!("{} = {}", setting.flag, setting.value.shown());
            format!("{text:ORIGIN_COLUMN$}  # {}\n", setting.origin)
        };
        let rooms = self.rooms.iter().map(|rule| format!("[[rooms]] {rule}\n"));
        self.flags.iter().map(line).chain(rooms).collect()
    }

    /// Takes over the new values of the settings that `is_reloaded` returns true for. Returns the flags of these settings,
    /// and the flags of the others that have a new value.
    pub fn reload(
        &mut self,
        new: Self,
        is_reloaded: impl Fn(&str) -> bool,
    ) -> (Vec<String>, Vec<String>) {
        let (mut reloaded, mut kept) = (Vec::new(), Vec::new());
        let pairs = self.flags.iter_mut().zip(new.flags);
        for (setting, new) in pairs.filter(|(old, new)| old.value != new.value) {
            if is_reloaded(&new.flag) {
                reloaded.push(new.flag.clone());
                *setting = new;
            } else {
                kept.push(new.flag);
            }
        }
        if self.rooms != new.rooms {
            reloaded.push(ROOMS.to_owned());
            self.rooms = new.rooms;
        }
        (reloaded, kept)
    }
}

/// Returns the origin of a flag's value.
fn origin(id: &str, matches: &ArgMatches, sources: &Sources) -> String {
    let origin = match (sources.origin(id), matches.value_source(id)) {
        (Some(origin), _) => origin,
        (None, Some(ValueSource::CommandLine)) => "flag",
        (None, _) => "default",
    };
    origin.to_owned()
}

impl SettingValue {
    fn new(arg: &Arg, matches: &ArgMatches) -> Self {
        let id = arg.get_id().as_str();
        let text = if arg.get_action().takes_values() {
            let raw = matches.get_raw(id).into_iter().flatten();
            let values: Vec<_> = raw.map(|value| value.to_string_lossy()).collect();
            (!values.is_empty()).then(|| values.join(","))
        } else {
            Some(matches.get_flag(id).to_string())
        };
        Self {
            text,
            is_secret: arg.is_hide_env_values_set(),
        }
    }

    fn shown(&self) -> Cow<'_, str> {
        match &self.text {
            None => "(none)".into(),
            // The URL of Redis may contain a password.
            Some(_) if self.is_secret => "(set)".into(),
            Some(text) if text.contains(char::is_control) => basic_string(text).into(),
            Some(text) => text.into(),
        }
    }
}

/// Returns a text as a basic string of TOML, which is one line.
fn basic_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            _ => quoted.push(c),
        }
    }
    quoted + "\""
}

impl std::fmt::Debug for SettingValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}
