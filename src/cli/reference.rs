//! The settings reference: the page `assets/docs/settings.md` is generated from the flags.

use std::path::Path;

use clap::{Arg, Command, CommandFactory as _};

use super::Cli;

/// Heading of the flags that `--help` lists first, under "Options".
const FIRST_HEADING: &str = "Server";
/// The lines around the generated part of the page.
const BEGIN: &str = "<!-- generated from the flags: begin -->\n";
const END: &str = "<!-- generated from the flags: end -->\n";

/// Returns one Markdown table for each help heading, in the order of `--help`, then one for each command.
fn settings_markdown() -> String {
    let command = Cli::command();
    let mut headings: Vec<&str> = Vec::new();
    for arg in command.get_arguments().filter(|arg| is_listed(arg)) {
        if !headings.contains(&heading(arg)) {
            headings.push(heading(arg));
        }
    }
    let mut out = String::new();
    for name in headings {
        let args = command.get_arguments().filter(|arg| heading(arg) == name);
        write_table(&mut out, name, args);
    }
    let has_flags = |command: &&Command| own_arguments(command).any(is_listed);
    for subcommand in command.get_subcommands().filter(has_flags) {
        let name = format!("`wscast {}`", subcommand.get_name());
        write_table(&mut out, &name, own_arguments(subcommand));
    }
    out
}

fn heading(arg: &Arg) -> &str {
    arg.get_help_heading().unwrap_or(FIRST_HEADING)
}

/// Returns the arguments of a command without the global ones, which stand in the tables before it.
fn own_arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_global_set())
}

fn is_listed(arg: &Arg) -> bool {
    arg.get_long()
        .is_some_and(|flag| flag != "help" && flag != "version")
}

fn write_table<'a>(out: &mut String, heading: &str, args: impl Iterator<Item = &'a Arg>) {
    let separator = if out.is_empty() { "" } else { "\n" };
    *out += &format!(
        "{separator}## {heading}\n\n| Flag | Environment variable | Default | Meaning |\n|---|---|---|---|\n"
    );
    for arg in args.filter(|arg| is_listed(arg)) {
        *out += &format!(
            "| {} | {} | {} | {} |\n",
            flag(arg),
            code(
                arg.get_env()
                    .map(|name| name.to_string_lossy().into_owned())
            ),
            code(default(arg)),
            meaning(arg)
        );
    }
}

fn flag(arg: &Arg) -> String {
    let flag = arg.get_long().unwrap_or_default();
    let value = arg
        .get_value_names()
        .filter(|_| arg.get_action().takes_values());
    let short = arg.get_short().map(|short| format!("`-{short}`, "));
    let short = short.unwrap_or_default();
    match value.and_then(<[_]>::first) {
        Some(value) => format!("{short}`--{flag} {value}`"),
        None => format!("{short}`--{flag}`"),
    }
}

fn default(arg: &Arg) -> Option<String> {
    let values: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    (arg.get_action().takes_values() && !values.is_empty()).then(|| values.join(","))
}

fn code(text: Option<String>) -> String {
    text.map(|text| format!("`{text}`")).unwrap_or_default()
}

/// Returns the long help text where there is one, as one line that a table can hold.
fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help());
    let text = help.map(ToString::to_string).unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

/// `WSCAST_UPDATE_DOCS=1 cargo test --lib settings_page` rewrites the generated part of the page.
#[test]
fn settings_page_lists_every_flag() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/docs/settings.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}\n{}\n{END}{after}", settings_markdown());
    if std::env::var_os("WSCAST_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        page, expected,
        "run `WSCAST_UPDATE_DOCS=1 cargo test --lib settings_page`"
    );
}
