//! `--check-config`: the settings in effect.

use clap::{ArgMatches, Command};

/// Returns a line for each setting. Flags accept the values as they are printed.
pub(super) fn effective_settings(command: &Command, matches: &ArgMatches) -> String {
    let mut out = String::new();
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        let (Some(flag), false) = (arg.get_long(), id == "check_config") else {
            continue;
        };
        if !arg.get_action().takes_values() {
            out += &format!("--{flag} = {}\n", matches.get_flag(id));
            continue;
        }
        let raw = matches.get_raw(id).into_iter().flatten();
        let values: Vec<_> = raw.map(|value| value.to_string_lossy()).collect();
        let value = if values.is_empty() {
            "(none)".to_owned()
        } else if arg.is_hide_env_values_set() {
            // The URL may contain a password.
            "(set)".to_owned()
        } else {
            values.join(",")
        };
        out += &format!("--{flag} = {value}\n");
    }
    out
}
