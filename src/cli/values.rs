//! How values are written: counts, switches, bytes, seconds; each error says what to write instead.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// clap reads `Option<T>` as "may be left out", so `auto` needs a type of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct CountOrAuto(pub(super) Option<usize>);

pub(super) fn count_or_auto(text: &str) -> Result<CountOrAuto, String> {
    match text {
        "auto" => Ok(CountOrAuto(None)),
        number => count(number)
            .map(|n| CountOrAuto(Some(n)))
            .map_err(|_| "write auto or a whole number of 1 or more".to_owned()),
    }
}

/// The words people write in unit and compose files.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" | "" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..) => Ok(n),
        _ => Err("write a whole number of 1 or more".to_owned()),
    }
}

pub(super) fn unix_path(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err(
            "write unix: and a path, such as unix:/run/wscast.sock; for a port see --port"
                .to_owned(),
        ),
    }
}

/// Braces say where a key is placed in a Redis Cluster; that is not for this part of it to say.
pub(super) fn redis_prefix(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    match !text.is_empty() && text.len() <= 64 && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("write 1 to 64 letters, digits, `.`, `_`, `-` or `:`".to_owned()),
    }
}

/// As `chmod` takes it.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o777) => Ok(mode),
        _ => Err("write permission bits such as 660 or 600".to_owned()),
    }
}

/// A bound that may be left out by writing 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate(pub(super) Option<NonZeroU32>);

pub(super) fn rate(text: &str) -> Result<Rate, String> {
    match text.parse() {
        Ok(number) => Ok(Rate(NonZeroU32::new(number))),
        Err(_) => Err("write a whole number, or 0 for no bound".to_owned()),
    }
}

pub(super) fn byte_rate(text: &str) -> Result<Rate, String> {
    if text == "0" {
        return Ok(Rate(None));
    }
    let bytes = bytes(text)?;
    let number = u32::try_from(bytes).map_err(|_| "write less than 4GiB".to_owned())?;
    Ok(Rate(NonZeroU32::new(number)))
}

/// `65536`, `64KiB`, `1MiB` or `2GiB`.
pub(super) fn bytes(text: &str) -> Result<usize, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = match unit {
        "" | "B" => Some(1),
        "KiB" => Some(1usize << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let bytes = factor.and_then(|factor| digits.parse::<usize>().ok()?.checked_mul(factor));
    match bytes {
        Some(n @ 1..) => Ok(n),
        _ => Err("write a number of bytes such as 65536, 64KiB or 1MiB".to_owned()),
    }
}

/// Longest duration a setting takes: ten years, well inside what clocks can add.
const SECONDS_MAX: f64 = 10.0 * 365.0 * 86_400.0;

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match seconds_or_zero(text) {
        Ok(duration) if duration.is_zero() => Err("write more than 0 seconds".to_owned()),
        other => other,
    }
}

pub(super) fn seconds_or_zero(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => {
            // A socket time-out of zero means none, so nothing may round down to it.
            let duration = Duration::from_secs_f64(seconds);
            Ok(if seconds > 0.0 {
                duration.max(Duration::from_millis(1))
            } else {
                duration
            })
        }
        _ => Err("write a number of seconds such as 10 or 0.5".to_owned()),
    }
}
