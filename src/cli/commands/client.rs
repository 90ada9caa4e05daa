//! The commands that are clients of a server. They know no setting of the server, so they are parsed apart from it.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use super::bench::BenchCommand;
use super::publish::PubCommand;
use super::server_flags::{CLIENT_VARIABLES, Failure};
use super::subscribe::SubCommand;
use crate::cli::error::one_line;

#[derive(Debug, Parser)]
#[command(name = "wscast", max_term_width = 100)]
struct ClientCli {
    #[command(subcommand)]
    command: ClientCommand,
}

/// A command that is a client of a server.
#[derive(Debug, clap::Subcommand)]
pub enum ClientCommand {
    /// Print the messages of rooms, one on each line
    #[allow(private_interfaces, reason = "the flags are for this module only")]
    Sub(SubCommand),
    /// Publish a message, or each line of standard input
    #[allow(private_interfaces, reason = "the flags are for this module only")]
    Pub(PubCommand),
    /// Measure a server: deliveries per second, losses, latency
    #[allow(private_interfaces, reason = "the flags are for this module only")]
    Bench(BenchCommand),
}

impl ClientCommand {
    /// Runs the command to its end.
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Self::Sub(sub) => sub.run(),
            Self::Pub(publish) => publish.run(),
            Self::Bench(bench) => bench.run(),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Sub(_) => "sub",
            Self::Pub(_) => "pub",
            Self::Bench(_) => "bench",
        }
    }

    /// Returns the line for flags of the server in front of the command.
    pub(in crate::cli) fn misplaced(&self) -> String {
        let name = self.name();
        format!(
            "{name}: takes no setting of the server; write `wscast {name} …` without flags before it"
        )
    }
}

/// The outcome of parsing a client command.
pub(in crate::cli) enum Parsed {
    Command(Box<ClientCommand>),
    /// The help of a command.
    Help(String),
}

/// Parses the arguments of these commands; `None` if they are not of one. An `Err` is one line. `whole` is the command
/// line of the whole program.
pub(in crate::cli) fn parse(
    args: &[OsString],
    whole: &clap::Command,
) -> Option<Result<Parsed, String>> {
    let is_client = |word: &OsString| {
        let mut commands = ClientCli::command();
        commands.find_subcommand_mut(word).is_some()
    };
    let mut args = args.to_vec();
    // `wscast help sub`
    if args.len() == 3 && args[1] == "help" && is_client(&args[2]) {
        args.swap(1, 2);
        args[2] = "--help".into();
    }
    if !args.get(1).is_some_and(is_client) {
        return None;
    }
    let name = args[1].clone();
    let is_empty = |name: &&str| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let empty: Vec<&str> = CLIENT_VARIABLES.into_iter().filter(is_empty).collect();
    let command = ClientCli::command().mut_subcommands(|command| {
        // An empty variable counts as unset.
        command.mut_args(|arg| {
            let is_empty = arg
                .get_env()
                .is_some_and(|name| empty.iter().any(|e| name == *e));
            if is_empty { arg.env(None::<&str>) } else { arg }
        })
    });
    let parsed = command
        .try_get_matches_from(&args)
        .and_then(|matches| ClientCli::from_arg_matches(&matches));
    Some(match parsed {
        Ok(cli) => Ok(Parsed::Command(Box::new(cli.command))),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => Ok(Parsed::Help(error.to_string())),
        Err(error) => {
            let line = one_line(&error, whole, &args);
            let own_help = format!("`wscast {} -h`", name.to_string_lossy());
            Err(line.replace("`wscast --help`", &own_help))
        }
    })
}
