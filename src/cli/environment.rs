//! Environment variables: which of them are settings, which other programs set, and which are misspelt.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};
use log::Level;

use super::commands::server_flags::CLIENT_VARIABLES;
use super::flags::host::is_address_or_localhost;
use super::notice::Notice;

/// The start of the variable of every setting.
const PREFIX: &str = "WSCAST_";
/// The variable of the secret for tokens, which has no flag.
const SECRET_KEY: &str = "SECRET_KEY";
/// Least similarity, from 0 to 1, of an unknown variable to the one that is suggested instead.
const SIMILARITY_MIN: f64 = 0.7;

/// Where settings have their values from, other than flags and defaults, by the ids of their flags.
#[derive(Debug, Default)]
pub struct Sources(HashMap<String, Origin>);

/// The origin of a setting's value.
#[derive(Debug)]
enum Origin {
    /// The variable of this name.
    Variable(String),
    /// A line of the settings file.
    File {
        /// The path and the line, as `wscast.toml:3`.
        place: String,
        key: String,
    },
}

/// The variables of the process, classified.
#[derive(Debug, Default)]
pub(super) struct Environment {
    pub(super) sources: Sources,
    /// Flags whose own variable is empty, or no setting.
    unset: Vec<String>,
    /// Values of HOST and PORT, which hosting platforms set. The flag's own variable is stronger.
    platform: Vec<(&'static str, String)>,
    /// Messages about variables that are ignored.
    pub(super) notices: Vec<Notice>,
}

impl Environment {
    /// Classifies variables: those of the process, or those of a test. A flag among `args` wins over its variable.
    pub(super) fn classify(
        command: &Command,
        variables: impl Iterator<Item = (OsString, OsString)>,
        args: &[OsString],
    ) -> Self {
        let mut variables: BTreeMap<String, OsString> = variables
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        let mut environment = Self::default();
        let mut links = Vec::new();
        let settings: Vec<(&str, &str)> = command.get_arguments().filter_map(names).collect();
        for (id, name) in &settings {
            let Some(value) = variables.remove(*name) else {
                continue;
            };
            if is_link(name, &value) {
                links.push((*name).to_owned());
                environment.unset.push((*id).to_owned());
            } else if value.is_empty() {
                environment.unset.push((*id).to_owned());
            } else {
                environment.sources.add_variable(id, name);
            }
        }
        environment.read_platform(&variables, args);
        environment.sources.remove_flags(args);
        let is_ours = |name: &str| {
            name.to_ascii_uppercase().starts_with(PREFIX) && !CLIENT_VARIABLES.contains(&name)
        };
        let (of_links, others): (Vec<_>, Vec<_>) = variables
            .iter()
            .filter(|(name, value)| is_ours(name) && !value.is_empty())
            .partition(|(name, value)| is_link(name, value));
        links.extend(of_links.into_iter().map(|(name, _)| name.clone()));
        for (name, _) in others {
            if is_detail_of_link(name, &links) {
                links.push(name.clone());
            } else {
                environment.notices.push(unknown(name, &settings));
            }
        }
        if !links.is_empty() {
            let text = format!(
                "ignored variables of Kubernetes or Docker: {}",
                links.join(", ")
            );
            environment.notices.push(Notice::new(Level::Debug, text));
        }
        environment
    }

    /// Reads HOST and PORT. Shells and compilers set HOST to a name, and platforms set PORT to a pipe, so other
    /// values are ignored.
    fn read_platform(&mut self, variables: &BTreeMap<String, OsString>, args: &[OsString]) {
        let is_set = |id: &str| self.sources.has(id) || has_flag(args, id);
        let value = |id: &str, name: &str| {
            if is_set(id) {
                return None;
            }
            let value = variables.get(name)?.to_string_lossy().into_owned();
            (!value.is_empty()).then_some(value)
        };
        let (host, port) = (value("host", "HOST"), value("port", "PORT"));
        if let Some(host) = host {
            if is_address_or_localhost(&host) {
                self.add_platform("host", "HOST", host);
            } else {
                let text = format!(
                    "ignored HOST {host:?}, which is not an address; WSCAST_HOST may be a name"
                );
                self.notices.push(Notice::new(Level::Info, text));
            }
        }
        if let Some(port) = port {
            if port.parse::<i64>().is_ok() {
                self.add_platform("port", "PORT", port);
            } else {
                let text = format!("ignored PORT {port:?}, which is not a number");
                self.notices.push(Notice::new(Level::Warn, text));
            }
        }
    }

    fn add_platform(&mut self, id: &'static str, name: &str, value: String) {
        self.sources.add_variable(id, name);
        self.platform.push((id, value));
    }

    /// Makes the command read the variables that are settings, and no others.
    pub(super) fn apply(&self, command: Command) -> Command {
        let command = self.unset.iter().fold(command, |command, id| {
            command.mut_arg(id, |arg| arg.env(None::<&str>))
        });
        self.platform.iter().fold(command, |command, (id, value)| {
            command.mut_arg(id, |arg| arg.default_value(value.clone()))
        })
    }
}

impl Sources {
    fn add_variable(&mut self, id: &str, name: &str) {
        self.0
            .insert(id.to_owned(), Origin::Variable(name.to_owned()));
    }

    /// Records that a line of the settings file sets a flag.
    pub(super) fn add_place(&mut self, id: &str, place: String, key: String) {
        self.0.insert(id.to_owned(), Origin::File { place, key });
    }

    /// Returns whether a variable or the settings file sets a flag.
    pub(super) fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Returns the variable, or the path and line of the file, that sets a flag.
    pub(super) fn origin(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(|origin| match origin {
            Origin::Variable(name) => name.as_str(),
            Origin::File { place, .. } => place,
        })
    }

    /// Removes the flags that the command line has, because there the flag wins.
    fn remove_flags(&mut self, args: &[OsString]) {
        self.0.retain(|id, _| !has_flag(args, id));
    }

    /// Renames the flag at the start of an error to the variable, or the line of the file, that the wrong value came from,
    /// if it came from one.
    pub fn rename_flag(&self, line: String) -> String {
        let flag = line.split([' ', ':']).next().unwrap_or_default();
        let id = flag.strip_prefix("--").map(|flag| flag.replace('-', "_"));
        let rest = &line[flag.len()..];
        match id.and_then(|id| self.0.get(&id)) {
            Some(Origin::Variable(name)) => format!("{name}{rest}"),
            Some(Origin::File { place, key }) => format!("{place}: {key}{rest}"),
            None => line,
        }
    }

    /// Returns a variable whose value is not text.
    pub(super) fn not_text(&self) -> Option<&str> {
        let is_text = |name: &str| std::env::var_os(name).is_none_or(|v| v.to_str().is_some());
        self.0.values().find_map(|origin| match origin {
            Origin::Variable(name) if !is_text(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

/// Returns a flag's id and its variable.
fn names(arg: &Arg) -> Option<(&str, &str)> {
    Some((arg.get_id().as_str(), arg.get_env()?.to_str()?))
}

/// Returns whether the command line has this flag, as `--flag` or `--flag=value`, or as the one short flag, `-p`.
pub(super) fn has_flag(args: &[OsString], id: &str) -> bool {
    let flag = format!("--{}", id.replace('_', "-"));
    args.iter().any(|arg| {
        let arg = arg.to_string_lossy();
        if id == "port" && arg.starts_with("-p") {
            return true;
        }
        let rest = arg.strip_prefix(&flag);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}

/// Returns whether Kubernetes or Docker sets this variable for a service whose name starts like our variables.
///
/// Kubernetes: `X_SERVICE_HOST`, `X_SERVICE_PORT`, `X_SERVICE_PORT_HTTP`. Both: `X_PORT=tcp://10.0.0.7:80`,
/// `X_PORT_80_TCP`, `X_PORT_80_TCP_ADDR`.
fn is_link(name: &str, value: &OsStr) -> bool {
    let value = value.to_string_lossy();
    let is_link_address = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    let is_port_of_service = |rest: &str| rest.is_empty() || rest.starts_with('_');
    let is_port_and_protocol = |rest: &str| {
        let protocol = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_known = ["_TCP", "_UDP", "_SCTP"]
            .iter()
            .any(|known| protocol.strip_prefix(known).is_some_and(is_port_of_service));
        protocol.len() < rest.len() && is_known
    };
    name.ends_with("_SERVICE_HOST")
        || after(name, "_SERVICE_PORT").any(is_port_of_service)
        || (name.ends_with("_PORT") && is_link_address)
        || after(name, "_PORT_").any(is_port_and_protocol)
}

/// Returns whether Docker sets this variable for a link: `X_NAME=/web/x` or `X_ENV_PATH`, beside
/// `X_PORT=tcp://10.0.0.7:80`.
fn is_detail_of_link(name: &str, links: &[String]) -> bool {
    let alias = name
        .strip_suffix("_NAME")
        .or_else(|| name.split_once("_ENV_").map(|(alias, _)| alias));
    alias.is_some_and(|alias| links.contains(&format!("{alias}_PORT")))
}

/// Returns the texts that follow each occurrence of `part`.
fn after<'a>(name: &'a str, part: &'a str) -> impl Iterator<Item = &'a str> {
    name.match_indices(part)
        .map(move |(at, _)| &name[at + part.len()..])
}

/// Returns the warning about a variable that looks like a setting and is none.
fn unknown(name: &str, settings: &[(&str, &str)]) -> Notice {
    let upper = name.to_ascii_uppercase();
    let similarity = |known: &str| {
        let known = known.strip_prefix(PREFIX).unwrap_or(known);
        strsim::jaro_winkler(&upper[PREFIX.len()..], known)
    };
    let known = settings.iter().map(|(_, variable)| *variable);
    let nearest = known
        .chain([SECRET_KEY])
        .map(|known| (similarity(known), known))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let hint = match nearest {
        Some((_, known)) => format!("did you mean {known}?"),
        None => "`wscast --help` lists all".to_owned(),
    };
    Notice::new(Level::Warn, format!("{name}: no such setting; {hint}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn classify(variables: &[(&str, &str)]) -> Environment {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        Environment::classify(&super::super::Cli::command(), variables, &[])
    }

    #[test]
    fn variables_of_service_links_are_no_settings() {
        for (name, value) in [
            ("WSCAST_PORT", "tcp://10.96.12.7:5000"),
            ("WSCAST_PORT", "udp://[fd00::7]:5000"),
            ("WSCAST_SERVICE_HOST", "10.96.12.7"),
            ("WSCAST_SERVICE_PORT", "5000"),
            ("WSCAST_SERVICE_PORT_HTTP", "5000"),
            ("WSCAST_PORT_5000_TCP", "tcp://10.96.12.7:5000"),
            ("WSCAST_PORT_5000_TCP_ADDR", "10.96.12.7"),
            ("WSCAST_PORT_5000_UDP_PROTO", "udp"),
            ("WSCAST_REDIS_SERVICE_HOST", "10.96.12.8"),
            ("WSCAST_REDIS_PORT", "tcp://10.96.12.8:6379"),
            ("WSCAST_REDIS_PORT_6379_TCP_PORT", "6379"),
        ] {
            let found = classify(&[(name, value)]);
            let levels: Vec<_> = found.notices.iter().map(|notice| notice.level).collect();
            assert_eq!(levels, [Level::Debug], "{name}={value}");
            assert!(found.sources.0.is_empty(), "{name}={value}");
        }
    }

    #[test]
    fn variables_of_docker_links_are_no_settings() {
        let port = ("WSCAST_PORT", "tcp://172.17.0.5:5000");
        for detail in [("WSCAST_NAME", "/web/wscast"), ("WSCAST_ENV_PATH", "/bin")] {
            let levels = |variables: &[(&str, &str)]| {
                let notices = classify(variables).notices;
                notices
                    .iter()
                    .map(|notice| notice.level)
                    .collect::<Vec<_>>()
            };
            assert_eq!(levels(&[port, detail]), [Level::Debug], "{detail:?}");
            assert_eq!(levels(&[detail]), [Level::Warn], "{detail:?}");
        }
    }

    #[test]
    fn unknown_variable_gets_a_suggestion() {
        for (name, suggestion) in [
            ("WSCAST_PROT", "WSCAST_PORT"),
            ("WSCAST_LOGLEVEL", "WSCAST_LOG_LEVEL"),
            ("WSCAST_MAX_CONECTIONS", "WSCAST_MAX_CONNECTIONS"),
            ("WSCAST_SECRET_KEY", "did you mean SECRET_KEY?"),
            ("wscast_port", "WSCAST_PORT"),
            ("WSCAST_XYZ", "--help"),
        ] {
            let found = classify(&[(name, "1")]);
            let [notice] = &found.notices[..] else {
                panic!("{name}: {:?}", found.notices);
            };
            assert_eq!(notice.level, Level::Warn, "{name}");
            assert!(notice.text.contains(name), "{notice:?}");
            assert!(notice.text.contains(suggestion), "{notice:?}");
        }
    }

    #[test]
    fn platform_variables_are_settings_if_they_look_like_them() {
        for (name, value, is_setting) in [
            ("HOST", "127.0.0.1", true),
            ("HOST", "[::1]", true),
            ("HOST", "localhost", true),
            ("HOST", "x86_64-conda-linux-gnu", false),
            ("HOST", "build-7.example.com", false),
            ("HOST", "", false),
            ("PORT", "8080", true),
            ("PORT", "70000", true),
            ("PORT", "tcp://10.0.0.1:80", false),
            ("PORT", "/run/app.sock", false),
            ("PORT", "", false),
        ] {
            let found = classify(&[(name, value)]);
            assert_eq!(
                found.platform.len(),
                usize::from(is_setting),
                "{name}={value}"
            );
            let is_notable = !is_setting && !value.is_empty();
            assert_eq!(
                found.notices.len(),
                usize::from(is_notable),
                "{name}={value}"
            );
        }
    }
}
