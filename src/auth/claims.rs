//! The claims of a token (RFC 7519 §4), and the value of each. A claim that is `null` is absent.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The end of the year 9999. A later date is one in milliseconds.
const LATEST_SECONDS: f64 = 253_402_300_799.0;

/// The claims that are read; others are ignored.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: Claim,
    pub(super) exp: Claim,
    pub(super) nbf: Claim,
    pub(super) iat: Claim,
    pub(super) subscribe: Claim,
    pub(super) publish: Claim,
    pub(super) admin: Claim,
    pub(super) aud: Claim,
    pub(super) iss: Claim,
}

/// The JSON text of a claim, if the token has it.
pub(super) type Claim = Option<Box<RawValue>>;

/// A claim that has a wrong type or value: its description, which follows the words "the token's claim".
pub(super) type InvalidClaim = String;

/// The meaning of a number in a text claim. Some programs use numbers as names of users and rooms.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    AreTexts,
    AreInvalid,
}

/// Parses a claim that is a text.
pub(super) fn text(
    name: &str,
    claim: &Claim,
    numbers: Numbers,
) -> Result<Option<String>, InvalidClaim> {
    let Some(value) = claim else {
        return Ok(None);
    };
    let expected = match numbers {
        Numbers::AreTexts => "text or a whole number",
        Numbers::AreInvalid => "text",
    };
    let parsed = parse_text(value, numbers);
    parsed
        .map(Some)
        .ok_or_else(|| wrong_type(name, expected, value))
}

/// Parses a claim that is a text or a list of texts. An absent one is an empty list.
pub(super) fn texts(
    name: &str,
    claim: &Claim,
    numbers: Numbers,
) -> Result<Vec<String>, InvalidClaim> {
    let Some(value) = claim else {
        return Ok(Vec::new());
    };
    let items = match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
        Ok(items) => items,
        Err(_) => vec![&**value],
    };
    let parse = |item: &RawValue| {
        let expected = "text or a list of texts";
        parse_text(item, numbers).ok_or_else(|| wrong_type(name, expected, item))
    };
    items.into_iter().map(parse).collect()
}

/// Parses a claim that is true or false. An absent one is false.
pub(super) fn flag(name: &str, claim: &Claim) -> Result<bool, InvalidClaim> {
    let Some(value) = claim else {
        return Ok(false);
    };
    serde_json::from_str(value.get()).map_err(|_| wrong_type(name, "true or false", value))
}

/// Parses a claim that is a date: seconds since the Unix epoch, which may have a fraction (RFC 7519 §2). Some programs
/// write the number as a text.
pub(super) fn date(name: &str, claim: &Claim) -> Result<Option<Duration>, InvalidClaim> {
    let Some(value) = claim else {
        return Ok(None);
    };
    let text = serde_json::from_str::<String>(value.get());
    let is_decimal = |text: &String| text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number = match text {
        Ok(text) => Some(text).filter(is_decimal),
        Err(_) => Some(value.get().to_owned()),
    };
    let seconds: f64 = number
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| wrong_type(name, "a number of seconds since 1970", value))?;
    if seconds > LATEST_SECONDS {
        let why = "must be seconds since 1970; this is past the year 9999, as milliseconds are";
        return Err(format!("`{name}` {why}"));
    }
    let date = Duration::try_from_secs_f64(seconds);
    date.map(Some)
        .map_err(|_| format!("`{name}` is not a number of seconds since 1970"))
}

fn parse_text(value: &RawValue, numbers: Numbers) -> Option<String> {
    let is_whole = |json: &str| {
        let digits = json.strip_prefix('-').unwrap_or(json);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    match value.get() {
        number if numbers == Numbers::AreTexts && is_whole(number) => Some(number.to_owned()),
        json => serde_json::from_str(json).ok(),
    }
}

fn wrong_type(name: &str, expected: &str, value: &RawValue) -> InvalidClaim {
    let found = match value.get().as_bytes().first() {
        Some(b'"') => "text",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ if value.get().contains(['.', 'e', 'E']) => "a number with a fraction or an exponent",
        _ => "a number",
    };
    format!("`{name}` must be {expected}, not {found}")
}
