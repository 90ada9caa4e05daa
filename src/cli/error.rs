//! Errors of the command line as one line: setting, value, what to write instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Shortens clap's error, which has several lines, to one.
pub(super) fn one_line(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    // `--port <PORT>` → `--port`
    let setting = context(ContextKind::InvalidArg)
        .and_then(|arg| arg.split_whitespace().next().map(str::to_owned))
        .unwrap_or_else(|| "arguments".to_owned());
    let value = context(ContextKind::InvalidValue).unwrap_or_default();
    match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue if value.is_empty() => {
            format!("{setting}: needs a value; see `wscast --help`")
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let why = std::error::Error::source(error).map(ToString::to_string);
            format!("{setting} {value:?}: {}", instead(&setting, why))
        }
        ErrorKind::MissingRequiredArgument => missing(&setting),
        ErrorKind::InvalidSubcommand => {
            let command = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            format!("{command}: no such command; `wscast --help` lists them")
        }
        ErrorKind::UnknownArgument => {
            let similar = context(ContextKind::SuggestedArg);
            let hint = similar
                .map(|arg| format!("did you mean {arg}? "))
                .unwrap_or_default();
            format!("{setting}: no such setting; {hint}`wscast --help` lists them")
        }
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or("invalid arguments");
            line.trim_start_matches("error: ").to_owned()
        }
    }
}

/// Returns the line for an argument without which a command cannot run; there is one such argument.
fn missing(argument: &str) -> String {
    match argument {
        "<TOKEN>" => "token check: the token is missing; write `wscast token check TOKEN`, or `-` \
                      in place of TOKEN to read it from standard input"
            .to_owned(),
        other => format!("{other} is missing; see `wscast --help`"),
    }
}

/// Returns what to write instead of a wrong value. The error of the setting's parser says it, except for two
/// settings with parsers of other crates.
fn instead(setting: &str, why: Option<String>) -> String {
    match setting {
        "--port" => "write a number from 0 to 65535".to_owned(),
        "--log-level" => "write off, error, warn, info, debug or trace".to_owned(),
        _ => why.unwrap_or_else(|| "not a value for this setting".to_owned()),
    }
}
