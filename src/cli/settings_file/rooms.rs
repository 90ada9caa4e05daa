//! The `[[rooms]]` of the file: rules for rooms by name.

use std::str::FromStr;

use clap::CommandFactory as _;
use toml::de::{DeTable, DeValue};

use super::super::Cli;
use super::keys::{nearest, shown};
use super::source::SettingsText;
use super::value::scalar;
use crate::cli::flags::values::{duration_or_zero, limit, size, switch};
use crate::config::{RULES_MAX, RoomRule};

/// The key of the rules.
pub(super) const ROOMS: &str = "rooms";
/// The keys of a rule.
const KEYS: [&str; 8] = [
    "match",
    "history-messages",
    "history-bytes",
    "history-age",
    "max-members",
    "max-message-bytes",
    "publish",
    "presence",
];
/// The error of an array of patterns.
const ONE_PATTERN: &str = "write one text; for several patterns write several [[rooms]]";

/// Parses the value of the key `rooms`. `place` is the path and line of the key, for errors.
pub(super) fn parse(
    value: &DeValue<'_>,
    place: &str,
    source: &SettingsText,
) -> Result<Vec<RoomRule>, String> {
    let wrong = || format!("{place}: rooms: write [[rooms]] above each rule");
    let DeValue::Array(rules) = value else {
        return Err(wrong());
    };
    if rules.len() > RULES_MAX {
        return Err(format!("{place}: rooms: write at most {RULES_MAX} rules"));
    }
    let rules = rules.iter().map(|rule| match rule.get_ref() {
        DeValue::Table(table) => parse_rule(table, source.place(&rule.span()), source),
        _ => Err(wrong()),
    });
    rules.collect()
}

fn parse_rule(
    table: &DeTable<'_>,
    place: String,
    source: &SettingsText,
) -> Result<RoomRule, String> {
    let mut keys: Vec<_> = table.iter().collect();
    keys.sort_unstable_by_key(|(key, _)| key.span().start);
    let mut pattern = None;
    let mut rule = RoomRule::unlimited(place);
    let mut seen = Vec::new();
    for (key, value) in keys {
        let (name, at) = (key.get_ref(), source.place(&key.span()));
        let canonical = name.replace('_', "-");
        let Some(known) = KEYS.into_iter().find(|known| *known == canonical) else {
            let why = unknown(&canonical);
            return Err(format!("{at}: {}: {why}", shown(name)));
        };
        if seen.contains(&known) {
            return Err(format!("{at}: {name}: is set twice in a rule"));
        }
        seen.push(known);
        let text = match value.get_ref() {
            DeValue::Array(_) if known == "match" => Err(ONE_PATTERN.to_owned()),
            value => scalar(value),
        };
        let text = text.map_err(|why| format!("{at}: {name}: {why}"))?;
        let set = match known {
            "match" => text.parse().map(|glob| pattern = Some(glob)),
            _ => set(&mut rule, known, &text),
        };
        set.map_err(|why| format!("{at}: {name} {text:?}: {why}"))?;
    }
    let missing = || {
        format!(
            "{}: rooms: a rule needs match, such as match = \"chat:*\"",
            rule.place
        )
    };
    rule.pattern = pattern.ok_or_else(missing)?;
    Ok(rule)
}

/// Sets the value of a key other than `match`.
fn set(rule: &mut RoomRule, key: &str, text: &str) -> Result<(), String> {
    match key {
        "history-messages" => rule.history_messages = Some(count_or_zero(text)?),
        "history-bytes" => rule.history_bytes = Some(size(text)?),
        "history-age" => rule.history_age = Some(duration_or_zero(text)?),
        "max-members" => rule.max_members = Some(limit(text)?.0.map_or(0, u32::from)),
        "max-message-bytes" => rule.max_message_bytes = Some(size(text)?),
        "publish" => rule.publish = FromStr::from_str(text).map_err(str::to_owned)?,
        _ => rule.presence = switch(text)?,
    }
    Ok(())
}

fn count_or_zero(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| "write a whole number, or 0 for no history".to_owned())
}

/// Returns why a key of a rule is refused.
fn unknown(key: &str) -> String {
    let command = Cli::command();
    let is_setting = command
        .get_arguments()
        .any(|arg| arg.get_long() == Some(key));
    let nearest = nearest(key, KEYS.into_iter()).filter(|_| !is_setting);
    match nearest {
        Some(_) if key == "history" => {
            "no such key of [[rooms]]; did you mean history-messages?".to_owned()
        }
        Some(name) => format!("no such key of [[rooms]]; did you mean {name}?"),
        None => "no such key of [[rooms]]; settings of the server stand above the first [[rooms]]"
            .to_owned(),
    }
}
