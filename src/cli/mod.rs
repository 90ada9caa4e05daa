//! The command line: flags, environment variables, commands, and one-line errors.

mod commands;
mod effective_settings;
mod environment;
mod error;
mod flags;
mod notice;
#[cfg(test)]
mod reference;
mod settings_file;
mod short_help;
mod start_text;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser};
use log::Level;

pub use self::commands::backup::Backup;
pub use self::commands::client::ClientCommand;
pub use self::commands::healthcheck::Healthcheck;
pub use self::commands::server_flags::Failure;
pub use self::effective_settings::EffectiveSettings;
use self::environment::Environment;
pub use self::environment::Sources;
use self::error::one_line;
use self::flags::history::HistoryFlags;
use self::flags::hooks::HookFlags;
pub use self::flags::host::connectable;
use self::flags::host::{Host, host};
use self::flags::keys::{KeyFlags, describe_keys};
use self::flags::limits::{LimitFlags, TimeoutFlags};
use self::flags::log::LogFlags;
use self::flags::nodes::NodeFlags;
use self::flags::tls::TlsFlags;
use self::flags::values::{
    CountOrAuto, ListenOn, listen_on, mode, switch, threads_or_auto, unix_paths,
};
pub use self::notice::Notice;
use self::settings_file::SettingsFile;
use self::short_help::{EXAMPLES, short_help};
pub use self::start_text::StartText;
use crate::auth::{AllowedOrigins, Anonymous};
use crate::config::{Config, ConfigError, RoomRule, RoomRules};
use crate::proxy::TrustedProxies;

/// A native-WebSocket broadcast server: one binary, one port, no async runtime.
///
/// Without a command it runs the server, as `wscast serve` does. Every setting is a flag, an environment variable, and a key
/// of the settings file; the flag wins over the variable, and the variable over the file. An empty variable
/// counts as unset. HOST and PORT are read if WSCAST_HOST and WSCAST_PORT are not set. A
/// SIZE is a number of bytes, or a number with KiB, MiB or GiB: 65536, 64KiB, 1MiB. A DURATION is a number of seconds, or
/// a number with ms, s, m, h or d: 10, 0.5, 500ms, 15m, 7d.
#[derive(Debug, Parser)]
#[command(name = "wscast", version, max_term_width = 100, after_long_help = EXAMPLES)]
struct Cli {
    /// Read settings from this TOML file, each under the name of its flag, such as `port = 8080`; variables and flags win
    /// over it. SIGHUP reads it again
    #[arg(long, env = "WSCAST_CONFIG", value_name = "PATH", global = true)]
    config: Option<PathBuf>,
    /// Addresses to listen on, or names of them: one, or a comma-separated list. In a list, addresses that this
    /// machine does not have are skipped
    #[arg(
        long,
        env = "WSCAST_HOST",
        default_value = "0.0.0.0,::",
        value_name = "ADDRESSES",
        value_parser = host
    )]
    host: Host,
    /// Port to listen on; 0 takes a free one
    #[arg(short, long, env = "WSCAST_PORT", default_value = "5000")]
    port: u16,
    /// Also listen on a Unix socket, for a proxy on the same machine: unix:PATH. With systemd, listen on the sockets of the
    /// .socket unit instead of --host and --port. May be repeated, or a comma-separated list
    #[arg(
        long,
        env = "WSCAST_LISTEN",
        value_name = "SOCKETS",
        value_delimiter = ',',
        value_parser = listen_on
    )]
    listen: Vec<ListenOn>,
    /// Permission bits of the Unix sockets, which decide who may connect
    #[arg(
        long,
        env = "WSCAST_LISTEN_MODE",
        default_value = "660",
        value_name = "BITS",
        value_parser = mode
    )]
    listen_mode: u32,
    /// Proxies that are trusted to name their clients' addresses: addresses and networks such as
    /// 10.0.0.0/8,2001:db8::1, localhost, and unix for all peers on Unix sockets
    #[arg(long, env = "WSCAST_TRUSTED_PROXIES", value_name = "LIST")]
    trusted_proxies: Option<TrustedProxies>,
    /// Trusted proxies name their clients with the PROXY protocol, version 1 or 2; all of them must send it
    #[arg(long, env = "WSCAST_PROXY_PROTOCOL", value_parser = switch, action = clap::ArgAction::SetTrue)]
    proxy_protocol: bool,
    #[command(flatten)]
    tls: TlsFlags,
    /// Text of the first frame of every connection
    #[arg(
        long,
        env = "WSCAST_WELCOME",
        default_value = "Welcome to wscast",
        value_name = "TEXT"
    )]
    welcome: String,
    /// Web origins that browsers may connect from: `*`, or a comma-separated list such as
    /// `https://example.com,https://*.example.com,capacitor://localhost,file://`. A list also needs the name
    /// of the server itself, such as `http://box.lan:5000`, if its page is opened by a name other than `localhost`
    #[arg(
        long,
        env = "WSCAST_ALLOW_ORIGIN",
        default_value = "*",
        value_name = "ORIGINS"
    )]
    allow_origin: AllowedOrigins,
    #[command(flatten)]
    keys: KeyFlags,
    /// Rights of clients without a token, where tokens are checked: none, subscribe or both
    #[arg(
        long,
        env = "WSCAST_ANONYMOUS",
        default_value = "none",
        value_name = "WHAT",
        help_heading = "Tokens"
    )]
    anonymous: Anonymous,
    /// Threads that help to send messages to rooms with hundreds of members; auto is one for each core but the first, up
    /// to 7
    #[arg(
        long,
        env = "WSCAST_FAN_OUT_THREADS",
        default_value = "auto",
        value_name = "N",
        value_parser = threads_or_auto
    )]
    fan_out_threads: CountOrAuto,
    /// Serve /echo, which sends every message back, for conformance tests
    #[arg(long, env = "WSCAST_ECHO", value_parser = switch, action = clap::ArgAction::SetTrue)]
    echo: bool,

    /// Print the effective settings, with where each comes from, and exit
    #[arg(long)]
    check_config: bool,

    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    timeouts: TimeoutFlags,
    #[command(flatten)]
    history: HistoryFlags,
    #[command(flatten)]
    nodes: NodeFlags,
    #[command(flatten)]
    log: LogFlags,
    #[command(flatten)]
    hooks: HookFlags,

    #[command(subcommand)]
    command: Option<Subcommand>,
}

/// The commands that only print, and read no setting.
const PRINTING: [&str; 3] = ["completions", "man", "version"];

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Run the server, which is the default; every setting is a flag of it
    Serve,
    #[command(flatten)]
    Client(ClientCommand),
    /// Create a token, or explain one
    Token(commands::token::TokenCommand),
    /// Copy the database of the history, also while a server uses it
    Backup(commands::backup::BackupCommand),
    /// Ask a running server whether it works
    Healthcheck(commands::healthcheck::HealthcheckCommand),
    /// Print the completions of a shell
    Completions(commands::manual::CompletionsCommand),
    /// Print the manual page of the program, or of one command
    Man(commands::manual::ManCommand),
    /// Print the version
    Version,
}

/// The parsed command line and environment.
#[derive(Debug)]
pub struct Invocation {
    /// The task of the program.
    pub command: Command,
    /// Messages about settings that were ignored or are doubtful.
    pub notices: Vec<Notice>,
    /// The variables that settings come from, for later errors.
    pub sources: Sources,
}

/// A command of the program.
#[derive(Debug)]
pub enum Command {
    /// Run the server.
    Serve(Box<ServerSettings>),
    /// Check the addresses in the settings, and print the effective settings.
    CheckConfig {
        /// The settings, validated.
        config: Box<Config>,
        /// The effective settings, one a line.
        settings: String,
    },
    /// Print this text and exit with code 0: help, version or a token.
    Print(String),
    /// Copy the database.
    Backup(Backup),
    /// Read rooms of a server, or publish to one.
    Client(Box<ClientCommand>),
    /// Request /health.
    Healthcheck(Healthcheck),
}

/// The settings of a server.
#[derive(Debug)]
pub struct ServerSettings {
    /// The settings, validated.
    pub config: Config,
    /// The same settings as texts, to compare them with those after a reload.
    pub effective: EffectiveSettings,
    /// The file that some of the settings come from.
    pub file: Option<PathBuf>,
}

/// Parses the arguments (the program's name first) and the environment.
///
/// An `Err` is one line for stderr; the exit code is then 2.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, String> {
    parse_with(args, |_| ())
}

/// Parses the settings again for a server that runs with this database, or without one, whatever the settings file says now.
/// The defaults of other settings depend on it.
pub fn parse_again(
    args: impl IntoIterator<Item = OsString>,
    database: Option<&Path>,
) -> Result<Invocation, String> {
    parse_with(args, |file| file.keep_database(database))
}

fn parse_with(
    args: impl IntoIterator<Item = OsString>,
    change: impl FnOnce(&mut SettingsFile),
) -> Result<Invocation, String> {
    let args = without_serve(args.into_iter().collect());
    let whole = Cli::command();
    if let Some(parsed) = commands::client::parse(&args, &whole) {
        return Ok(Invocation {
            command: match parsed? {
                commands::client::Parsed::Command(command) => Command::Client(command),
                commands::client::Parsed::Help(text) => Command::Print(text),
            },
            notices: Vec::new(),
            sources: Sources::default(),
        });
    }
    let environment = Environment::classify(&whole, std::env::vars_os(), &args);
    let mut command = environment.apply(Cli::command());
    let only_prints = args
        .get(1)
        .is_some_and(|arg| PRINTING.iter().any(|name| arg == name));
    if only_prints {
        // A wrong setting of the server does not matter.
        command = command.mut_args(|arg| arg.env(None::<&str>));
    }
    if args.iter().any(|arg| arg == "-h") {
        // Replaces only the help of the whole program, not that of a command.
        command = command.override_help(short_help(&whole));
    }
    let Environment {
        mut sources,
        mut notices,
        ..
    } = environment;
    // Help and version are printed even if the file cannot be used.
    let (mut file, unusable_file) = match SettingsFile::load(&args, &whole) {
        _ if only_prints => (SettingsFile::default(), None),
        Ok(file) => (file, None),
        Err(line) => (SettingsFile::default(), Some(line)),
    };
    change(&mut file);
    let args = file.add_to(args, &mut sources);
    let matches = command.try_get_matches_from(&args);
    let parsed = matches.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let command = match parsed {
        Ok((cli, matches)) => match unusable_file {
            Some(line) if cli.needs_settings() => Err(line),
            _ => run(cli, file.rooms, &matches, &sources, &mut notices),
        },
        Err(error) => match (error.kind(), sources.not_text()) {
            (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _) => {
                Ok(Command::Print(error.to_string()))
            }
            (ErrorKind::InvalidUtf8, Some(variable)) => {
                Err(format!("{variable}: is not text; write it in UTF-8"))
            }
            _ => Err(one_line(&error, &whole, &args)),
        },
    };
    Ok(Invocation {
        command: command.map_err(|line| sources.rename_flag(line))?,
        notices,
        sources,
    })
}

/// Removes `serve` from the front, so that the flags of the server may follow it.
fn without_serve(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_some_and(|arg| arg == "serve") {
        args.remove(1);
    }
    args
}

/// Runs a command that only prints, or prepares the server.
fn run(
    mut cli: Cli,
    rooms: RoomRules,
    matches: &clap::ArgMatches,
    sources: &Sources,
    notices: &mut Vec<Notice>,
) -> Result<Command, String> {
    match cli.command.take() {
        Some(Subcommand::Token(token)) => {
            let settings = cli.keys.settings(cli.anonymous, false);
            notices.extend(token.warnings());
            return token.run(&settings).map(Command::Print);
        }
        Some(Subcommand::Backup(backup)) => {
            let database = cli.history.database().map(|settings| settings.path);
            return backup.backup(database).map(Command::Backup);
        }
        Some(Subcommand::Healthcheck(check)) => {
            let own = commands::healthcheck::OwnServer {
                addresses: cli.host.0,
                port: cli.port,
                socket: unix_paths(cli.listen).next(),
                has_tls: cli.tls.tls_cert.is_some(),
                proxy_protocol: cli.proxy_protocol,
                trusted_proxies: cli.trusted_proxies.unwrap_or_default(),
            };
            return check.healthcheck(own).map(Command::Healthcheck);
        }
        Some(Subcommand::Completions(completions)) => {
            return Ok(Command::Print(completions.text(Cli::command())));
        }
        Some(Subcommand::Man(man)) => return man.text(Cli::command()).map(Command::Print),
        Some(Subcommand::Version) => {
            return Ok(Command::Print(Cli::command().render_version()));
        }
        Some(Subcommand::Client(client)) => return Err(client.misplaced()),
        Some(Subcommand::Serve) | None => {}
    }
    notices.extend(cli.hooks.warning(sources));
    notices.extend(rooms.hidden().map(hidden_rule));
    let (check_only, file) = (cli.check_config, cli.config.clone());
    let effective = EffectiveSettings::new(&Cli::command(), matches, sources, &rooms);
    let config = config(cli, rooms).and_then(Config::validate);
    let config = config.map_err(|error: ConfigError| error.to_string())?;
    if check_only {
        let tokens = describe_keys(&config.auth);
        return Ok(Command::CheckConfig {
            config: Box::new(config),
            settings: format!("{}tokens = {tokens}\n", effective.lines()),
        });
    }
    Ok(Command::Serve(Box::new(ServerSettings {
        config,
        effective,
        file,
    })))
}

fn hidden_rule((hiding, hidden): (&RoomRule, &RoomRule)) -> Notice {
    let text = format!(
        "{}: the rule for {} applies to no room, because that for {} at {} comes first",
        hidden.place, hidden.pattern, hiding.pattern, hiding.place
    );
    Notice::new(Level::Warn, text)
}

fn config(cli: Cli, rooms: RoomRules) -> Result<Config, ConfigError> {
    Ok(Config {
        host: cli.host.0,
        port: cli.port,
        inherit_sockets: cli.listen.contains(&ListenOn::Systemd),
        listen: unix_paths(cli.listen).collect(),
        listen_mode: cli.listen_mode,
        tls: cli.tls.files()?,
        trusted_proxies: cli.trusted_proxies.unwrap_or_default(),
        proxy_protocol: cli.proxy_protocol,
        welcome: cli.welcome,
        allow_origin: cli.allow_origin,
        auth: cli.keys.settings(cli.anonymous, cli.hooks.asks_backend()),
        fan_out_threads: cli.fan_out_threads.0,
        echo: cli.echo,
        database: cli.history.database(),
        history: cli.history.limits(),
        rooms,
        redis: cli.nodes.redis(),
        webhook: cli.hooks.webhook()?,
        auth_hook: cli.hooks.auth()?,
        drain_delay: cli.timeouts.drain_delay,
        drain: cli.timeouts.drain,
        shutdown_timeout: cli.timeouts.shutdown_timeout,
        limits: cli.limits.with(&cli.timeouts),
        log_level: cli.log.level,
        log_format: cli.log.format,
        access_log: cli.log.access,
        log_file: cli.log.file,
    })
}

impl Cli {
    /// Returns whether the command reads any setting.
    fn needs_settings(&self) -> bool {
        !matches!(
            self.command,
            Some(Subcommand::Completions(_) | Subcommand::Man(_) | Subcommand::Version)
        )
    }
}

#[cfg(test)]
mod tests;
