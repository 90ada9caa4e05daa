//! The rooms of users: `@` and the user's name. A user whose name cannot be a room's has its bytes in base64url instead.

use data_encoding::BASE64URL_NOPAD;

use super::room_name::{NameError, RoomName, is_separator, parse_word};

/// The first character of the rooms of users.
pub(super) const USER_SIGN: char = '@';
/// The first character of a name in base64url. A user whose own name begins with it is encoded too, so that no two users
/// have one room.
const ENCODED_SIGN: char = ':';
/// Longest user name, in bytes.
const USER_BYTES_MAX: usize = 128;

/// Checks a user name: 1 to 128 bytes without control characters.
pub(crate) fn is_user(text: &str) -> bool {
    (1..=USER_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

/// Parses the name of a user's room without its `@`.
pub(super) fn parse(user: &str) -> Result<RoomName, NameError> {
    match user.strip_prefix(ENCODED_SIGN) {
        Some(encoded) => decode(encoded)
            .map(|user| RoomName::of_user(&user))
            .ok_or(NameError::User),
        None => Ok(RoomName::from_valid(&format!(
            "{USER_SIGN}{}",
            parse_word(user, is_user_separator)?
        ))),
    }
}

/// Returns the user whose name these characters encode. `None` if no user's room is named so.
fn decode(encoded: &str) -> Option<String> {
    // Checked first, because it bounds the work.
    let fits = encoded.len() <= BASE64URL_NOPAD.encode_len(USER_BYTES_MAX);
    let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).ok();
    let user = String::from_utf8(bytes.filter(|_| fits)?).ok()?;
    (is_user(&user) && !is_word(&user)).then_some(user)
}

/// Returns whether the characters after `@:` may begin with the first part and have the others after it. The bytes of a
/// user's name are checked in the first part only, because those of another part depend on the characters before it.
pub(super) fn may_be_encoded(first: &str, others: &[Box<str>]) -> bool {
    let parts = || std::iter::once(first).chain(others.iter().map(|part| &**part));
    let is_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let length: usize = parts().map(str::len).sum();
    let has_alphabet = parts().all(|part| part.bytes().all(is_alphabet));
    if !has_alphabet || length > BASE64URL_NOPAD.encode_len(USER_BYTES_MAX) {
        return false;
    }
    // Any character completes the last four, of which only the whole bytes count.
    let padded = format!("{first:A<width$}", width = first.len().next_multiple_of(4));
    let mut bytes = BASE64URL_NOPAD
        .decode(padded.as_bytes())
        .unwrap_or_default();
    bytes.truncate(first.len() * 6 / 8);
    let whole_chars = match str::from_utf8(&bytes) {
        Ok(_) => bytes.len(),
        // The last character goes on after the first part.
        Err(why) if why.error_len().is_none() => why.valid_up_to(),
        Err(_) => return false,
    };
    !String::from_utf8_lossy(&bytes[..whole_chars]).contains(char::is_control)
}

/// Returns whether a user's name stands in the name of the user's room as it is.
fn is_word(user: &str) -> bool {
    !user.starts_with(ENCODED_SIGN)
        && parse_word(user, is_user_separator).is_ok_and(|word| word == user)
}

/// The names of users are often mail addresses.
pub(super) fn is_user_separator(c: char) -> bool {
    is_separator(c) || c == USER_SIGN
}

impl RoomName {
    /// Returns the room of a user. Different users have different rooms.
    pub fn of_user(user: &str) -> Self {
        if is_word(user) {
            return Self::from_valid(&format!("{USER_SIGN}{user}"));
        }
        let encoded = BASE64URL_NOPAD.encode(user.as_bytes());
        Self::from_valid(&format!("{USER_SIGN}{ENCODED_SIGN}{encoded}"))
    }

    /// Returns whether this is the room of a user.
    pub fn is_of_user(&self) -> bool {
        self.as_str().starts_with(USER_SIGN)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_user_has_a_room_of_its_own() {
        let long = "u".repeat(USER_BYTES_MAX);
        let users = [
            "alice",
            "Alice",
            "caf\u{e9}",
            "cafe\u{301}",
            "alice@example.com",
            "@alice",
            ":alice",
            ":YWxpY2U",
            "a:b",
            "auth0|5f7c8ec7",
            "a b",
            "a+b@example.com",
            "\u{212b}",
            "\u{c5}",
            "\u{301}a",
            "👍",
            "/",
            "%40alice",
            "*",
            &long,
        ];
        let mut rooms = HashSet::new();
        for user in users {
            let room = RoomName::of_user(user);
            assert_eq!(RoomName::parse(room.as_str()).as_ref(), Ok(&room), "{user}");
            assert!(room.is_of_user());
            assert!(rooms.insert(room), "{user}");
        }
    }

    #[test]
    fn name_is_plain_if_it_can_be() {
        for (user, room) in [
            ("alice", "@alice"),
            ("alice@example.com", "@alice@example.com"),
            ("王", "@王"),
            ("a:b", "@a:b"),
            ("auth0|5f7c", "@:YXV0aDB8NWY3Yw"),
            (":", "@:Og"),
        ] {
            assert_eq!(RoomName::of_user(user).as_str(), room);
        }
        let longest = "u".repeat(64);
        assert_eq!(
            RoomName::of_user(&longest).as_str(),
            format!("@{longest}").as_str()
        );
    }

    #[test]
    fn encoded_names_have_one_spelling() {
        for bad in [
            "@",
            "@:",
            // `alice`, which stands as it is.
            "@:YWxpY2U",
            // Bits that no byte uses, and padding.
            "@:Oh",
            "@:Og==",
            // Not UTF-8, and a control character.
            "@:_w",
            "@:Cg",
            "@a b",
            "@a/b",
        ] {
            assert!(RoomName::parse(bad).is_err(), "{bad}");
        }
        let long = "u".repeat(USER_BYTES_MAX + 1);
        let long = format!("@:{}", BASE64URL_NOPAD.encode(long.as_bytes()));
        assert_eq!(RoomName::parse(&long), Err(NameError::User));
    }
}
