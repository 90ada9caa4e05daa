//! The text of `wscast -h`: the commands, the settings that most people change, and three examples.

use clap::Command;

/// The examples at the end of `-h` and `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  wscast -p 8080                                  Serve on port 8080, open to everyone
  SECRET_KEY=… wscast --db /var/lib/chat.db       Check tokens; keep the history across restarts
  tail -f app.log | wscast pub logs               Publish lines; read them by: wscast sub logs";

/// A group of settings and what the help says of each.
type Group = (&'static str, &'static [(&'static str, &'static str)]);

const GROUPS: [Group; 7] = [
    (
        "Run it",
        &[
            ("port", "the port; 0 takes a free one [5000]"),
            ("host", "addresses to listen on [all of them]"),
            ("listen", "also listen on a Unix socket"),
            ("config", "read settings from this TOML file"),
            ("check_config", "print the settings in effect and exit"),
        ],
    ),
    (
        "Who may (SECRET_KEY holds the secret of tokens; without a key everyone may do everything)",
        &[
            ("secret_key_file", "the secret, in a file"),
            ("public_key_file", "public keys, PEM or JWKS"),
            (
                "anonymous",
                "without a token: none, subscribe or both [none]",
            ),
            ("allow_origin", "origins of pages that may connect [*]"),
            (
                "trusted_proxies",
                "proxies that name their clients' addresses",
            ),
        ],
    ),
    (
        "TLS",
        &[
            ("tls_cert", "the certificate chain, PEM"),
            ("tls_key", "its private key, PEM"),
        ],
    ),
    (
        "Storage",
        &[
            ("db", "keep the history in this SQLite database"),
            (
                "history_messages",
                "messages kept in each room [1000, with --db 10000]",
            ),
            (
                "history_age",
                "how long a message is kept [1h, with --db 7d]",
            ),
        ],
    ),
    (
        "Several nodes",
        &[("redis", "share rooms and history through this Redis")],
    ),
    (
        "Bounds",
        &[
            ("max_connections", "connections at once [auto]"),
            ("max_message_bytes", "largest message [64KiB]"),
            (
                "max_request_rate",
                "requests per second on one connection [100]",
            ),
        ],
    ),
    (
        "Rare",
        &[
            ("log_level", "off, error, warn, info, debug or trace [info]"),
            ("log_file", "append the log to this file, besides stderr"),
        ],
    ),
];

/// Width of the column of flags and commands.
const COLUMN: usize = 28;

/// Returns the text of `-h`.
pub(super) fn short_help(command: &Command) -> String {
    let mut out = String::from(
        "A WebSocket broadcast server: one binary, one port.\n\n\
         Usage: wscast [serve] [OPTIONS]\n       wscast COMMAND\n\nCommands:\n",
    );
    for subcommand in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        let about = subcommand.get_about().map(ToString::to_string);
        push_row(&mut out, subcommand.get_name(), &about.unwrap_or_default());
    }
    for (heading, rows) in GROUPS {
        out += &format!("\n{heading}:\n");
        for (id, meaning) in rows {
            let arg = command.get_arguments().find(|arg| arg.get_id() == id);
            push_row(&mut out, &arg.map(flag).unwrap_or_default(), meaning);
        }
    }
    out += &format!(
        "\n{EXAMPLES}\n\n`wscast --help` explains every setting; each is also a variable: WSCAST_PORT=8080.\n"
    );
    out
}

fn push_row(out: &mut String, name: &str, meaning: &str) {
    *out += &format!("  {name:COLUMN$} {meaning}\n");
}

/// Returns a flag with its short form and the name of its value.
fn flag(arg: &clap::Arg) -> String {
    let long = arg.get_long().unwrap_or_default();
    let short = arg.get_short().map(|short| format!("-{short}, "));
    let value = arg.get_value_names().and_then(<[_]>::first);
    let value = value.filter(|_| arg.get_action().takes_values());
    let value = value.map(|value| format!(" {value}")).unwrap_or_default();
    format!("{}--{long}{value}", short.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::Cli;
    use super::*;

    #[test]
    fn short_help_names_existing_flags_and_fits_a_screen() {
        let command = Cli::command();
        for (id, _) in GROUPS.iter().flat_map(|(_, rows)| *rows) {
            let exists = command.get_arguments().any(|arg| arg.get_id() == id);
            assert!(exists, "{id}");
        }
        let help = short_help(&command);
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{help}"
        );
        assert!(help.lines().count() <= 60, "{help}");
    }

    #[test]
    fn short_help_shows_the_real_defaults() {
        let command = Cli::command();
        for (id, meaning) in GROUPS.iter().flat_map(|(_, rows)| *rows) {
            let Some((_, shown)) = meaning.rsplit_once('[') else {
                continue;
            };
            let arg = command.get_arguments().find(|arg| arg.get_id() == id);
            let defaults = arg.expect("a flag").get_default_values();
            let default = defaults[0].to_string_lossy();
            let shown = shown.split([']', ',']).next();
            let expected = if *id == "host" {
                "all of them"
            } else {
                &*default
            };
            assert_eq!(shown, Some(expected), "{id}");
        }
    }
}
