//! Patterns of room names, in which each `*` stands for any characters or for none.

use super::room_name::{CHARS_MAX, NameError, RoomName, check, is_longer, is_separator, normalize};
use super::user_room::{is_user_separator, may_be_encoded};

/// A letter that may stand beside every character of a name. A mark may follow it; a joiner may stand beside it, because it
/// is Arabic; and it composes with no character, so the normal form of its neighbours stays as it is.
const NEUTRAL_LETTER: &str = "\u{628}";

impl RoomName {
    /// Parses a pattern and returns the parts between its stars, in the normal form of names; a single part without a star.
    /// An `Err` says why no name can match.
    ///
    /// A part need not be a name: `@*` has the part `@`, and a part may end in a joiner or begin with a mark.
    pub(crate) fn parse_pattern(pattern: &str) -> Result<Box<[Box<str>]>, NameError> {
        if !pattern.contains('*') {
            let name = Self::parse(pattern)?;
            return Ok([name.as_str().into()].into());
        }
        let parts: Box<[Box<str>]> = pattern
            .split('*')
            .map(|part| normalize(part).into())
            .collect();
        check_parts(&parts[0], &parts[1..])?;
        Ok(parts)
    }
}

/// Returns an error unless there is a name that begins with the first part and has the others after it.
fn check_parts(first: &str, others: &[Box<str>]) -> Result<(), NameError> {
    if let Some(encoded) = first.strip_prefix("@:") {
        return if may_be_encoded(encoded, others) {
            Ok(())
        } else {
            Err(NameError::User)
        };
    }
    let checked = match first.strip_prefix('@') {
        Some(user) => check_word(user, others, is_user_separator),
        None => check_word(first, others, is_separator),
    };
    // The first star may also stand for the beginning of the name of a user's room.
    let longer = match first {
        "" => "@",
        "@" => "@:",
        _ => return checked,
    };
    checked.or_else(|why| check_parts(longer, others).map_err(|_| why))
}

/// Returns an error unless there is a word of these parts.
fn check_word(
    first: &str,
    others: &[Box<str>],
    is_separator: fn(char) -> bool,
) -> Result<(), NameError> {
    let mut fillings = vec![NEUTRAL_LETTER; others.len()];
    let word = fill(first, &fillings, others);
    check(&word, is_separator)?;
    if !is_longer(&word, CHARS_MAX) {
        return Ok(());
    }
    // The shortest word: a star is empty where the parts beside it may meet.
    for star in 0..fillings.len() {
        fillings[star] = "";
        let shorter = fill(first, &fillings, others);
        if check(&shorter, is_separator).is_err() || normalize(&shorter) != shorter {
            fillings[star] = NEUTRAL_LETTER;
        }
    }
    if is_longer(&fill(first, &fillings, others), CHARS_MAX) {
        return Err(NameError::TooLong);
    }
    Ok(())
}

/// Joins the parts with a filling for each star.
fn fill(first: &str, fillings: &[&str], others: &[Box<str>]) -> String {
    let rest = fillings.iter().zip(others);
    let rest = rest.flat_map(|(filling, part)| [*filling, part]);
    std::iter::once(first).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(pattern: &str) -> Result<Vec<String>, NameError> {
        let parts = RoomName::parse_pattern(pattern)?;
        Ok(parts.iter().map(|part| part.to_string()).collect())
    }

    #[test]
    fn parts_need_not_be_names_and_are_normalized() {
        let long = "a".repeat(64);
        for (pattern, expected) in [
            ("lobby", &["lobby"][..]),
            ("*", &["", ""]),
            ("**", &["", "", ""]),
            ("@*", &["@", ""]),
            ("@**", &["@", "", ""]),
            ("@:*", &["@:", ""]),
            ("@:YX*", &["@:YX", ""]),
            ("@*@example.com", &["@", "@example.com"]),
            ("*@example.com", &["", "@example.com"]),
            ("*@*", &["", "@", ""]),
            ("*:x", &["", ":x"]),
            ("@*:x", &["@", ":x"]),
            ("\u{645}\u{64a}\u{200c}*", &["\u{645}\u{64a}\u{200c}", ""]),
            ("*\u{200c}\u{645}", &["", "\u{200c}\u{645}"]),
            ("*\u{200c}*", &["", "\u{200c}", ""]),
            ("cafe\u{301}*", &["caf\u{e9}", ""]),
            ("*\u{301}", &["", "\u{301}"]),
            ("q*\u{301}", &["q", "\u{301}"]),
            ("*\u{b7}lecci\u{f3}", &["", "\u{b7}lecci\u{f3}"]),
            ("\u{1100}*\u{1161}", &["\u{1100}", "\u{1161}"]),
            (&format!("{long}*"), &[&long, ""]),
            (&format!("*{long}**"), &["", &long, "", ""]),
            (&format!("@*{long}"), &["@", &long]),
            // Only a user's room in base64url is so long.
            (&format!("*{long}*{long}"), &["", &long, &long]),
        ] {
            let expected: Vec<String> = expected.iter().map(|part| (*part).to_owned()).collect();
            assert_eq!(parts(pattern), Ok(expected), "{pattern}");
        }
    }

    #[test]
    fn pattern_that_matches_no_name_is_refused() {
        let long = "a".repeat(64);
        for (pattern, expected) in [
            ("", NameError::Empty),
            ("a b*", NameError::Character(' ')),
            ("*/", NameError::Character('/')),
            ("*a?", NameError::Character('?')),
            ("a*@example.com", NameError::Character('@')),
            ("@:*@", NameError::User),
            ("@:*.", NameError::User),
            // Bytes that are not UTF-8, and a control character.
            ("@:alice*", NameError::User),
            ("@:YQo*", NameError::User),
            ("\u{301}*", NameError::Mark('\u{301}')),
            ("@\u{301}*", NameError::Mark('\u{301}')),
            ("a-\u{301}*", NameError::Mark('\u{301}')),
            ("\u{200c}*", NameError::Joiner('\u{200c}')),
            ("*\u{200c}", NameError::Joiner('\u{200c}')),
            ("a\u{200c}*", NameError::Joiner('\u{200c}')),
            (&format!("{long}a*"), NameError::TooLong),
            // The letter and the mark can stand only apart.
            (&format!("{}e*\u{301}", &long[..62]), NameError::TooLong),
            (&format!("*{long}*{long}*{long}"), NameError::TooLong),
        ] {
            assert_eq!(parts(pattern), Err(expected), "{pattern}");
        }
    }

    #[test]
    fn every_part_of_a_name_is_a_pattern() {
        for name in [
            "team:7:chat",
            "caf\u{e9}",
            "q\u{301}\u{323}-1",
            "\u{645}\u{64a}\u{200c}\u{62e}\u{648}",
            "col\u{b7}lecci\u{f3}",
            "\u{ac01}\u{1100}",
            "@alice@example.com",
            "@:YXV0aDB8NWY3Yw",
            "@:8J-RjQ",
        ] {
            let name = RoomName::parse(name).expect(name);
            let name = name.as_str();
            let cuts: Vec<usize> = name
                .char_indices()
                .map(|(at, _)| at)
                .chain([name.len()])
                .collect();
            for (index, &start) in cuts.iter().enumerate() {
                for &end in &cuts[index..] {
                    let (before, within, after) = (&name[..start], &name[start..end], &name[end..]);
                    for pattern in [
                        format!("{before}*{after}"),
                        format!("*{within}*"),
                        format!("{before}*{within}*{after}"),
                    ] {
                        assert!(parts(&pattern).is_ok(), "{name}: {pattern}");
                    }
                }
            }
        }
    }
}
