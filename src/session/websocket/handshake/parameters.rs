//! The parameters of a WebSocket's address. A misspelt parameter is refused, because ignoring it would put the client
//! into the lobby, or start it without the messages it missed. Unknown parameters beside `room` are ignored, because
//! gateways add parameters of their own.

use crate::http::{Head, Query, check_once};
use crate::protocol::{ErrorCode, Refusal, quote};

const PARAMETERS: [&str; 8] = [
    "room", "me", "since", "epoch", "last", "session", "token", "refusal",
];
/// Parameters that programs add to bypass caches, or that trackers add to addresses. They are ignored without `room`
/// too.
const IGNORED: [&str; 14] = [
    "_",
    "t",
    "ts",
    "time",
    "timestamp",
    "v",
    "cb",
    "rnd",
    "rand",
    "random",
    "nocache",
    "fbclid",
    "gclid",
    "msclkid",
];
/// The parameters of Socket.IO's clients, which speak another protocol.
const SOCKET_IO: [&str; 2] = ["EIO", "transport"];
/// A field of `join` that an address does not have.
const PRESENCE: &str = "presence";
/// Names that other servers have for a parameter, without `_` and `-`.
const OTHER_NAMES: [(&str, &str); 18] = [
    ("roomid", "room"),
    ("roomname", "room"),
    ("roomkey", "room"),
    ("roomcode", "room"),
    ("chatroom", "room"),
    ("channel", "room"),
    ("topic", "room"),
    ("group", "room"),
    ("offset", "since"),
    ("after", "since"),
    ("from", "since"),
    ("lasteventid", "since"),
    ("sessionid", "session"),
    ("accesstoken", "token"),
    ("auth", "token"),
    ("authtoken", "token"),
    ("authorization", "token"),
    ("jwt", "token"),
];
/// Letters of the shortest parameter that is recognized in a misspelt name. Many common words differ from a shorter
/// one by a letter, such as `zoom` and `form` from `room`.
const TYPO_CHARS_MIN: usize = 5;

/// Checks the names of the parameters and how often each is present.
#[inline(never)]
pub(super) fn check(head: &Head) -> Result<(), Refusal> {
    if !head.is_utf8 {
        return refuse("the percent-encoding of the address is not UTF-8".to_owned());
    }
    let query = &head.query;
    let count = |name| query.values(name).count();
    let has_room = count("room") > 0;
    let is_wrong = |name: &&str| !is_known(name) && (!has_room || is_misspelt(name));
    if let Some(name) = query.names().find(is_wrong) {
        return refuse(unknown(name));
    }
    check_once(query, &["me", "last", "session", "token", "refusal"])?;
    if let Some(refusal) = query.first("refusal").filter(|value| *value != "close") {
        let shown = quote(refusal);
        return refuse(format!(
            "`refusal` is {shown}; write close, or leave it out"
        ));
    }
    let rooms = count("room") + count("me");
    check_pairs(query, "since", rooms.max(1), "room")?;
    check_pairs(query, "epoch", count("since"), "since")
}

/// Checks that each value has the parameter that it belongs to.
fn check_pairs(query: &Query, name: &str, most: usize, owner: &str) -> Result<(), Refusal> {
    let count = query.values(name).count();
    if count <= most {
        return Ok(());
    }
    refuse(format!("`{name}` is present more often than `{owner}`"))
}

fn is_known(name: &str) -> bool {
    PARAMETERS.contains(&name) || IGNORED.contains(&name) || name.starts_with("utm_")
}

fn is_misspelt(name: &str) -> bool {
    name == PRESENCE || SOCKET_IO.contains(&name) || meant(name).is_some()
}

/// Describes an unknown parameter, without its value, which may be a token.
fn unknown(name: &str) -> String {
    if SOCKET_IO.contains(&name) {
        return format!(
            "`{name}` is not a parameter: this is not a Socket.IO server; use the browser's own WebSocket"
        );
    }
    let shown = quote(name);
    if name == PRESENCE {
        return format!("the parameter {shown} is unknown; send a `join` with `presence`");
    }
    match meant(name) {
        Some(meant) => format!("the parameter {shown} is unknown; write `{meant}`"),
        None => {
            let all = PARAMETERS.join(", ");
            format!("the parameter {shown} is unknown; known are {all}")
        }
    }
}

/// The parameter that a program probably meant: `room[]`, `rooms`, `Room`, `roomId`, `channel`, `sesion`.
fn meant(name: &str) -> Option<&'static str> {
    let name = name.split('[').next().unwrap_or_default();
    let name = name.replace(['_', '-'], "").to_lowercase();
    let name = name.strip_suffix('s').unwrap_or(&name);
    let is_meant = |parameter: &&str| {
        let is_typo = || strsim::osa_distance(parameter, name) == 1;
        *parameter == name || (parameter.len() >= TYPO_CHARS_MIN && is_typo())
    };
    let others = OTHER_NAMES.iter().find(|(other, _)| *other == name);
    others
        .map(|(_, parameter)| *parameter)
        .or_else(|| PARAMETERS.into_iter().find(is_meant))
}

fn refuse(message: String) -> Result<(), Refusal> {
    Err(Refusal::new(ErrorCode::InvalidField, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meant_parameter_is_found() {
        for (name, parameter) in [
            ("room[]", "room"),
            ("rooms", "room"),
            ("rooms[0]", "room"),
            ("Room", "room"),
            ("ROOM", "room"),
            ("roomId", "room"),
            ("room_ids", "room"),
            ("room-name", "room"),
            ("chat_room", "room"),
            ("channel", "room"),
            ("snice", "since"),
            ("lastEventId", "since"),
            ("epock", "epoch"),
            ("sesion", "session"),
            ("sessions[]", "session"),
            ("tokne", "token"),
            ("Token", "token"),
            ("access_token", "token"),
        ] {
            assert_eq!(meant(name), Some(parameter), "{name}");
            assert!(!is_known(name));
        }
        for name in [
            "user", "", "colour", "房间", "[]", "version", "role", "nonce", "section", "season",
            "zoom", "form", "open", "dom", "showroom", "foo",
        ] {
            assert_eq!(meant(name), None, "{name}");
        }
    }
}
