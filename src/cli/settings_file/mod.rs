//! The settings file: TOML with the names of flags as its keys.
//!
//! An entry becomes an argument in front of the user's own, unless an argument or a variable sets the same flag. An entry
//! is therefore parsed and checked exactly as its flag, whichever flag it is.

mod keys;
mod rooms;
mod source;
mod value;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use toml::de::{DeTable, DeValue};

use self::keys::{nearest, shown};
use self::rooms::ROOMS;
use self::source::SettingsText;
use super::environment::{Sources, has_flag};
use crate::config::RoomRules;

/// The flag and the variable that name the file.
const FLAG: &str = "--config";
const VARIABLE: &str = "WSCAST_CONFIG";
/// The settings of the two stores, of which a server has one at most.
const DATABASE: &str = "db";
const REDIS: &str = "redis";

/// The entries of a file.
#[derive(Debug, Default)]
pub(super) struct SettingsFile {
    entries: Vec<Setting>,
    /// Rules for rooms, which no flag sets.
    pub(super) rooms: RoomRules,
}

/// The value that the file gives to a flag.
#[derive(Debug)]
struct Setting {
    /// The id of the flag.
    id: String,
    /// The key as the file writes it.
    key: String,
    /// The path and the line, as `wscast.toml:3`.
    place: String,
    /// The arguments that set the flag.
    arguments: Vec<OsString>,
}

impl SettingsFile {
    /// Reads the file that the arguments or the variable name; without one, returns no entries. The error is one line.
    pub(super) fn load(args: &[OsString], command: &Command) -> Result<Self, String> {
        match named_path(args) {
            Some(path) => parse(&SettingsText::read(&path)?, command),
            None => Ok(Self::default()),
        }
    }

    /// Replaces the setting of the database by that of the running server, beside which there is no Redis.
    pub(super) fn keep_database(&mut self, database: Option<&Path>) {
        self.entries.retain(|entry| entry.id != DATABASE);
        if let Some(path) = database {
            self.entries.retain(|entry| entry.id != REDIS);
            let mut argument = OsString::from("--db=");
            argument.push(path);
            self.entries.push(Setting {
                id: DATABASE.to_owned(),
                key: DATABASE.to_owned(),
                place: "the running server".to_owned(),
                arguments: vec![argument],
            });
        }
    }

    /// Inserts the entries before the user's arguments. Skips each flag that an argument or a variable sets.
    pub(super) fn add_to(&mut self, args: Vec<OsString>, sources: &mut Sources) -> Vec<OsString> {
        let mut args = args.into_iter();
        let mut all: Vec<OsString> = args.next().into_iter().collect();
        for entry in self.entries.drain(..) {
            if sources.has(&entry.id) || has_flag(args.as_slice(), &entry.id) {
                continue;
            }
            sources.add_place(&entry.id, entry.place, entry.key);
            all.extend(entry.arguments);
        }
        all.extend(args);
        all
    }
}

/// Returns the path of the file; the flag wins over the variable. A flag without a value is an error of the command line.
fn named_path(args: &[OsString]) -> Option<PathBuf> {
    let mut args = args.iter().take_while(|arg| *arg != "--");
    let of_flag = args.find_map(|arg| arg.as_bytes().strip_prefix(FLAG.as_bytes()));
    let path: PathBuf = match of_flag {
        Some([]) => args.next()?.into(),
        Some([b'=', path @ ..]) => OsStr::from_bytes(path).into(),
        // A longer flag, which the command line refuses.
        Some(_) => return None,
        None => std::env::var_os(VARIABLE)?.into(),
    };
    (!path.as_os_str().is_empty()).then_some(path)
}

fn parse(source: &SettingsText, command: &Command) -> Result<SettingsFile, String> {
    let table = DeTable::parse(source.text()).map_err(|error| {
        let place = source.place(&error.span().unwrap_or_default());
        let why = error.message().replace(char::is_control, " ");
        format!("{place}: is not TOML: {why}")
    })?;
    let mut keys: Vec<_> = table.get_ref().iter().collect();
    keys.sort_unstable_by_key(|(key, _)| key.span().start);
    let (mut entries, mut rules) = (Vec::<Setting>::new(), Vec::new());
    for (key, value) in keys {
        let (name, place) = (key.get_ref(), source.place(&key.span()));
        if name == ROOMS {
            rules = rooms::parse(value.get_ref(), &place, source)?;
            continue;
        }
        let arg = find_setting(name, value.get_ref(), command)
            .map_err(|why| format!("{place}: {}: {why}", shown(name)))?;
        let id = arg.get_id().to_string();
        if let Some(first) = entries.iter().find(|entry| entry.id == id) {
            let (first_key, first_place) = (&first.key, &first.place);
            return Err(format!(
                "{place}: {name}: is set twice, as {first_key} at {first_place} too"
            ));
        }
        let arguments = value::arguments(arg, value.get_ref())
            .map_err(|why| format!("{place}: {name}: {why}"))?;
        entries.push(Setting {
            id,
            key: name.to_string(),
            place,
            arguments,
        });
    }
    Ok(SettingsFile {
        entries,
        rooms: RoomRules::new(rules),
    })
}

/// Returns the flag of a key, in which `_` and `-` are the same.
fn find_setting<'a>(
    key: &str,
    value: &DeValue<'_>,
    command: &'a Command,
) -> Result<&'a Arg, String> {
    let name = key.replace('_', "-");
    let settings = || command.get_arguments().filter(|arg| is_setting(arg));
    if let Some(arg) = settings().find(|arg| arg.get_long() == Some(&*name)) {
        return Ok(arg);
    }
    let arg = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(&*name));
    if let Some(arg) = arg {
        return Err(match arg.get_env() {
            Some(_) => format!("is only on the command line or in {VARIABLE}"),
            None => "is only on the command line".to_owned(),
        });
    }
    if is_section(value) {
        return Err(
            "no such section; write settings without one, and rules for rooms under [[rooms]]"
                .to_owned(),
        );
    }
    let names = settings().filter_map(Arg::get_long).chain([ROOMS]);
    Err(no_such_setting(&name, names))
}

/// Returns whether an argument may stand in the file. Every setting has a variable; other flags, such as `--help`, have
/// none.
fn is_setting(arg: &Arg) -> bool {
    arg.get_env().is_some_and(|variable| variable != VARIABLE)
}

/// Returns whether a value is that of `[key]`, `[[key]]` or `key.other = …`.
fn is_section(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => true,
        DeValue::Array(values) => values.iter().any(|value| value.get_ref().is_table()),
        _ => false,
    }
}

/// Returns why a key is refused, with the nearest of the names.
fn no_such_setting<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> String {
    match nearest(key, names) {
        Some(name) => format!("no such setting; did you mean {name}?"),
        None => "no such setting; `wscast --help` lists all, with `--` in front".to_owned(),
    }
}
