//! The values of the file as the arguments of flags.

use std::ffi::OsString;

use clap::{Arg, ArgAction};
use toml::de::DeValue;

use crate::cli::flags::values::switch;

/// Most values in an array.
const VALUES_MAX: usize = 1024;
/// The flag whose number is octal, so that `0o660` and `660` are the same there.
const OCTAL_FLAG: &str = "listen-mode";
/// The flag whose values are pairs, for which users also try a table.
const PAIRS_FLAG: &str = "named-secret-key-files";

/// Returns the arguments that set a flag to a value. The error says what to write instead.
///
/// An array sets a flag that may be repeated once for each value; any other flag gets the values as a comma-separated
/// list.
pub(super) fn arguments(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    let flag = arg.get_long().unwrap_or_default();
    if !arg.get_action().takes_values() {
        let is_on = switch(&scalar(value)?)?;
        return Ok(is_on
            .then(|| format!("--{flag}").into())
            .into_iter()
            .collect());
    }
    let set = |value: String| OsString::from(format!("--{flag}={value}"));
    if let (OCTAL_FLAG, DeValue::Integer(number)) = (flag, value)
        && number.radix() == 8
    {
        return Ok(vec![set(number.as_str().to_owned())]);
    }
    let text = |value: &DeValue<'_>| match (flag, value) {
        (PAIRS_FLAG, DeValue::Table(_)) => {
            Err(r#"write one text, such as "a=PATH,b=PATH""#.to_owned())
        }
        _ => scalar(value),
    };
    let DeValue::Array(values) = value else {
        return text(value).map(|value| vec![set(value)]);
    };
    if values.len() > VALUES_MAX {
        return Err(format!("write at most {VALUES_MAX} values"));
    }
    let values = values.iter().map(|value| text(value.get_ref()));
    let values = values.collect::<Result<Vec<_>, _>>()?;
    match arg.get_action() {
        ArgAction::Append => Ok(values.into_iter().map(set).collect()),
        _ if values.is_empty() => Err("write a value, or leave the line out".to_owned()),
        _ => Ok(vec![set(values.join(","))]),
    }
}

/// Returns a value as the text that a flag takes.
pub(super) fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    Ok(match value {
        DeValue::String(text) => text.as_ref().to_owned(),
        DeValue::Boolean(is_on) => is_on.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| "write a smaller number".to_owned())?
            .to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) | DeValue::Table(_) => {
            return Err("write a text, a number, true or false".to_owned());
        }
    })
}
