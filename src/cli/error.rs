//! Errors of the command line as one line: setting, value, what to write instead.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Words of other programs for the commands of this one.
const OTHER_WORDS: [(&str, &str); 14] = [
    ("publish", "pub"),
    ("send", "pub"),
    ("subscribe", "sub"),
    ("tail", "sub"),
    ("run", "serve"),
    ("start", "serve"),
    ("listen", "serve"),
    ("daemon", "serve"),
    ("load", "bench"),
    ("stress", "bench"),
    ("ping", "healthcheck"),
    ("health", "healthcheck"),
    ("manual", "man"),
    ("jwt", "token"),
];
/// Flags of the commands that are clients of a server, where they stand before the command.
const CLIENT_FLAGS: [&str; 6] = [
    "--url",
    "--token",
    "--ca-file",
    "--json",
    "--last",
    "--since",
];
/// Least similarity, from 0 to 1, of an unknown word to the command that is suggested instead.
const SIMILARITY_MIN: f64 = 0.7;

/// Shortens clap's error, which has several lines, to one. `whole` is the command line of the whole program, where words
/// and flags are looked for that the user may have meant, and `args` is what the user wrote.
pub(super) fn one_line(error: &clap::Error, whole: &Command, args: &[OsString]) -> String {
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
            // `<ROOM>...` → `ROOM`
            let name = setting.trim_matches(['<', '>', '.', '[', ']']);
            match is_secret(&setting, whole) {
                true => format!("{name}: {}", instead(&setting, why)),
                false => format!("{name} {value:?}: {}", instead(&setting, why)),
            }
        }
        ErrorKind::MissingRequiredArgument => missing(&setting),
        ErrorKind::InvalidSubcommand => unknown_word(
            &context(ContextKind::InvalidSubcommand).unwrap_or_default(),
            whole,
        ),
        ErrorKind::UnknownArgument if !setting.starts_with('-') => unknown_word(&setting, whole),
        ErrorKind::UnknownArgument if is_setting(&setting, whole) => {
            of_server(&setting, command_in(args, whole))
        }
        // Many programs print their version for -v.
        ErrorKind::UnknownArgument if setting == "-v" && command_in(args, whole).is_none() => {
            "-v: no such setting; did you mean -V? `wscast -h` lists them".to_owned()
        }
        ErrorKind::UnknownArgument if CLIENT_FLAGS.contains(&setting.as_str()) => {
            format!("{setting}: belongs after a command, such as `wscast sub {setting} …`")
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

/// Returns the command that the user wrote, if one.
fn command_in<'a>(args: &[OsString], whole: &'a Command) -> Option<&'a str> {
    let commands = args.iter().skip(1);
    commands
        .filter_map(|arg| whole.find_subcommand(arg))
        .map(Command::get_name)
        .next()
}

/// Returns the line for a setting of the server after another command.
fn of_server(setting: &str, command: Option<&str>) -> String {
    match command {
        // It reads the flags before it.
        Some(command @ "healthcheck") => {
            format!("{setting}: belongs before the command; write `wscast {setting} … {command}`")
        }
        Some(command) => {
            format!(
                "{setting}: is a setting of the server, not of {command}; write `wscast serve {setting} …`"
            )
        }
        None => format!("{setting}: is a setting of the server; write `wscast serve {setting} …`"),
    }
}

/// Returns the line for a word in the position of a command.
fn unknown_word(word: &str, whole: &Command) -> String {
    // Other servers take `8080` or `:8080`.
    let port = word.trim_start_matches(':').parse::<u16>();
    if let Ok(port) = port {
        return format!(
            "{word}: no such command; did you mean -p {port}? `wscast -h` lists the settings"
        );
    }
    if word.ends_with(".toml") {
        return format!("{word}: no such command; did you mean --config {word}?");
    }
    let flag = format!("--{word}");
    let flag = is_setting(&flag, whole).then_some(flag);
    let hint = flag
        .or_else(|| nearest_command(word, whole))
        .map(|nearest| format!("did you mean {nearest}? "))
        .unwrap_or_default();
    format!("{word}: no such command; {hint}`wscast -h` lists them, `wscast --help` explains them")
}

/// Returns whether the server has this flag.
fn is_setting(flag: &str, whole: &Command) -> bool {
    let mut flags = whole.get_arguments().filter_map(clap::Arg::get_long);
    flags.any(|long| flag.strip_prefix("--") == Some(long))
}

/// Returns whether the values of this flag of the server may hold a secret.
fn is_secret(flag: &str, whole: &Command) -> bool {
    let mut args = whole.get_arguments();
    let arg = args.find(|arg| arg.get_long() == flag.strip_prefix("--"));
    arg.is_some_and(clap::Arg::is_hide_env_values_set)
}

fn nearest_command(word: &str, whole: &Command) -> Option<String> {
    let other = OTHER_WORDS.iter().find(|(other, _)| *other == word);
    if let Some((_, command)) = other {
        return Some((*command).to_owned());
    }
    whole
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .map(|name| (similarity(word, &name), name))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

/// Returns how similar two words are, from 0 to 1. Of short words one wrong letter is a large part.
fn similarity(word: &str, name: &str) -> f64 {
    if strsim::osa_distance(word, name) <= 1 {
        return 1.0;
    }
    strsim::jaro_winkler(word, name)
}

/// Returns the line for a missing argument that a command requires. Only one argument is required.
fn missing(argument: &str) -> String {
    match argument {
        "<TOKEN>" => "token check: the token is missing; write `wscast token check TOKEN`, or `-` \
                      in place of TOKEN to read it from standard input"
            .to_owned(),
        "<SHELL>" => "completions: the shell is missing; write `wscast completions bash`, or zsh or fish"
            .to_owned(),
        "<ROOM>..." => {
            "sub: the room is missing; write `wscast sub ROOM`, such as lobby".to_owned()
        }
        "<ROOM>" => "pub: the room is missing; write `wscast pub ROOM TEXT`, such as `wscast pub lobby hello`".to_owned(),
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
