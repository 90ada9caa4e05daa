//! Parsers of setting values: counts, switches, sizes, durations. Each error says what to write instead.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// A count, or `None` for `auto`. The type is not an `Option`, because clap would make the flag optional.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct CountOrAuto(pub(in crate::cli) Option<usize>);

pub(in crate::cli) fn count_or_auto(text: &str) -> Result<CountOrAuto, String> {
    if text == "auto" {
        return Ok(CountOrAuto(None));
    }
    count(text)
        .map(|n| CountOrAuto(Some(n)))
        .map_err(|_| "write auto or a whole number, 1 or more".to_owned())
}

/// Most threads of one kind that a setting may ask for: more than any machine has use for.
const THREADS_MAX: usize = 128;

/// Parses a number of threads, which may be zero.
pub(in crate::cli) fn threads_or_auto(text: &str) -> Result<CountOrAuto, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(CountOrAuto(None)),
        (_, Ok(n @ 0..=THREADS_MAX)) => Ok(CountOrAuto(Some(n))),
        _ => Err(format!("write auto or a whole number, 0 to {THREADS_MAX}")),
    }
}

/// Parses a boolean as unit and Compose files write it; empty is false.
pub(in crate::cli) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" | "" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

pub(in crate::cli) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..) => Ok(n),
        _ => Err("write a whole number, 1 or more".to_owned()),
    }
}

/// A value of --listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum ListenOn {
    Unix(PathBuf),
    /// The sockets that systemd passes.
    Systemd,
}

pub(in crate::cli) fn listen_on(text: &str) -> Result<ListenOn, String> {
    match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => Ok(ListenOn::Unix(PathBuf::from(path))),
        _ if text == "systemd" => Ok(ListenOn::Systemd),
        _ => Err(
            "write unix: and a path, such as unix:/run/wscast.sock, or systemd; for a port use --port"
                .to_owned(),
        ),
    }
}

/// Returns the paths of the Unix sockets among the values of --listen.
pub(in crate::cli) fn unix_paths(listen: Vec<ListenOn>) -> impl Iterator<Item = PathBuf> {
    listen.into_iter().filter_map(|on| match on {
        ListenOn::Unix(path) => Some(path),
        ListenOn::Systemd => None,
    })
}

/// Parses a prefix of Redis keys. Braces are refused because they choose the node of a Redis Cluster.
pub(in crate::cli) fn redis_prefix(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    if (1..=64).contains(&text.len()) && text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("write 1 to 64 letters, digits, `.`, `_`, `-` or `:`".to_owned())
    }
}

/// Parses permission bits in octal, as `chmod` does.
pub(in crate::cli) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o777) => Ok(mode),
        _ => Err("write permission bits such as 660 or 600".to_owned()),
    }
}

/// A limit, or `None` for 0, which turns the limit off.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Limit(pub(in crate::cli) Option<NonZeroU32>);

pub(in crate::cli) fn limit(text: &str) -> Result<Limit, String> {
    text.parse()
        .map(|number| Limit(NonZeroU32::new(number)))
        .map_err(|_| "write a whole number, or 0 for no limit".to_owned())
}

pub(in crate::cli) fn size_limit(text: &str) -> Result<Limit, String> {
    if text == "0" {
        return Ok(Limit(None));
    }
    let bytes = size(text)?;
    let number = u32::try_from(bytes).map_err(|_| "write less than 4GiB".to_owned())?;
    Ok(Limit(NonZeroU32::new(number)))
}

/// In lower case: units of sizes are accepted in any case.
const SIZE_UNITS: [(&str, usize); 4] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("b", 1),
];

/// Parses a size in bytes: `65536`, `64KiB`, `1 MiB` or `2gib`. `KB` is refused, because it may mean 1000 or
/// 1024 bytes.
pub(in crate::cli) fn size(text: &str) -> Result<usize, String> {
    let text = text.to_ascii_lowercase();
    let (digits, factor) = split_unit(&text, &SIZE_UNITS, 1);
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse::<usize>().ok().filter(|_| is_plain);
    match number.and_then(|number| number.checked_mul(factor)) {
        Some(bytes @ 1..) => Ok(bytes),
        _ => Err("write a number of bytes such as 65536, 64KiB or 1MiB".to_owned()),
    }
}

/// Longest duration of a setting: ten years, which a clock can add without overflow.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);
/// `ms` comes before `s`, because the first unit that matches the end of the text is used.
const DURATION_UNITS: [(&str, f64); 5] = [
    ("ms", 0.001),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
];

/// Parses a duration above zero: `10` or `10s`, `500ms`, `15m`, `12h`, `7d`; fractions are allowed. The case of units counts: `M`
/// could mean months.
pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_zero(text)? {
        Duration::ZERO => Err("write more than 0".to_owned()),
        duration => Ok(duration),
    }
}

/// Parses a duration of a second or more.
pub(in crate::cli) fn seconds_or_more(text: &str) -> Result<Duration, String> {
    match duration_or_zero(text)? {
        duration if duration < Duration::from_secs(1) => Err("write 1s or more".to_owned()),
        duration => Ok(duration),
    }
}

/// Parses a duration that may be zero.
pub(in crate::cli) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let (number, factor) = split_unit(text, &DURATION_UNITS, 1.0);
    let seconds = number.parse::<f64>().ok().map(|number| number * factor);
    match seconds {
        Some(0.0) => Ok(Duration::ZERO),
        // A socket time-out of zero would mean none, so no duration is rounded down to zero.
        Some(seconds) if seconds > 0.0 && seconds <= DURATION_MAX.as_secs_f64() => {
            Ok(Duration::from_secs_f64(seconds).max(Duration::from_millis(1)))
        }
        _ => Err("write a duration such as 10 (seconds), 0.5, 500ms, 15m, 12h or 7d".to_owned()),
    }
}

/// Splits off the first unit that `text` ends with, with the spaces before it, and returns the number's text and the unit's factor.
fn split_unit<'a, T: Copy>(text: &'a str, units: &[(&str, T)], plain: T) -> (&'a str, T) {
    let split = |(unit, factor): &(&str, T)| {
        Some((text.strip_suffix(unit)?.trim_end_matches(' '), *factor))
    };
    units.iter().find_map(split).unwrap_or((text, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_binary_units() {
        for (text, bytes) in [
            ("7", 7),
            ("7B", 7),
            ("64KiB", 65_536),
            ("1MiB", 1 << 20),
            ("2GiB", 2 << 30),
            ("64kib", 65_536),
            ("64 KiB", 65_536),
            ("1 b", 1),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "KiB",
            "-1",
            "+1",
            "1.5MiB",
            "0",
            "99999999999GiB",
            "64k",
            "64kb",
            "64KB",
            " KiB",
            "7 ",
            " 7",
            "1BKiB",
        ] {
            assert!(size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations_take_units_and_are_seconds_without() {
        for (text, ms) in [
            ("10", 10_000),
            ("0.5", 500),
            ("90s", 90_000),
            ("500ms", 500),
            ("15m", 900_000),
            ("1.5h", 5_400_000),
            ("7d", 604_800_000),
            ("10 s", 10_000),
            ("5 m", 300_000),
            ("0.0001", 1),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in [
            "", "s", "nan", "inf", "-1", "-1s", " s", "10 ", "10 S", "5M", "10sec", "1w", "11000d",
            "0", "0ms",
        ] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
        assert_eq!(duration_or_zero("0s"), Ok(Duration::ZERO));
        assert!(seconds_or_more("999ms").is_err());
    }
}
