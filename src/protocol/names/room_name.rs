//! Room names: words of any script, compared in Unicode's normal form C.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use unicode_normalization::char::is_combining_mark;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::user_room::{self, USER_SIGN};

/// Longest room name, in characters of its normal form.
pub(super) const CHARS_MAX: usize = 64;
/// No character of normal form C stands for more characters than this (UAX #15, section 1.2).
const CHARS_PER_COMPOSED_CHAR: usize = 4;
const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';
const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// The name of a room: 1–64 characters, each a letter or digit of any script, a mark that belongs to one, or one of
/// `. _ - :`. Words may contain the signs of their script, such as the dot in `col·lecció`. The two joiners are allowed
/// inside words of the scripts that use them.
///
/// These characters need no escaping in JSON, headers or log lines, and none of them separates parts of a path
/// or of a storage key. A name is kept in Unicode's normal form C, so that two spellings that look alike because one
/// composes its accents and the other does not are one room.
///
/// A name that begins with `@` is that of a user's room; see [`of_user`](Self::of_user).
///
/// The client in `assets/client/rooms.js` has the same rule; `tests/room_names.json` holds examples for both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(Arc<str>);

/// The reason why a text is not a [`RoomName`] or [`RequestId`](super::RequestId). Its text is for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// The text is empty.
    Empty,
    /// The text is longer than 64 characters or bytes.
    TooLong,
    /// The text contains a character that is not allowed.
    Character(char),
    /// A mark, or a sign like the dot in `col·lecció`, follows no letter or digit.
    Mark(char),
    /// A joiner stands outside a word of a script that spells with it.
    Joiner(char),
    /// The text begins with `@:`, and what follows is not the base64url of a user's name that needs it.
    User,
}

impl RoomName {
    /// Returns the room that a client joins if it names no other.
    pub fn lobby() -> Self {
        Self(Arc::from("lobby"))
    }

    /// Parses a name given by a client, in any normal form.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        // No character composes with `@`, so it stands at the start of any normal form.
        match text.strip_prefix(USER_SIGN) {
            Some(user) => user_room::parse(user),
            None => parse_word(text, is_separator).map(|word| Self(Arc::from(word))),
        }
    }

    /// Returns the name that a text is known to be.
    pub(super) fn from_valid(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// Parses a stored name without normalizing it. Earlier versions neither normalized names nor checked the order of
    /// characters, so a stored name may be one that no client can send now.
    #[cfg(feature = "sqlite")]
    pub(crate) fn from_store(text: &str) -> Option<Self> {
        let was_allowed = |c: char| {
            c.is_alphanumeric() || is_separator(c) || is_spelling(c) || is_combining_mark(c)
        };
        let is_name = !text.is_empty() && text.chars().all(was_allowed);
        let kept = is_name.then(|| Self(Arc::from(text)));
        kept.or_else(|| Self::parse(text).ok())
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks a word of letters, digits and separators, and returns it in its normal form.
pub(super) fn parse_word(
    text: &str,
    is_separator: fn(char) -> bool,
) -> Result<Cow<'_, str>, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    // Bounds the work on a long text.
    if is_longer(text, CHARS_MAX * CHARS_PER_COMPOSED_CHAR) {
        return Err(NameError::TooLong);
    }
    let word = normalize(text);
    if is_longer(&word, CHARS_MAX) {
        return Err(NameError::TooLong);
    }
    check(&word, is_separator)?;
    Ok(word)
}

pub(super) fn is_longer(text: &str, chars_max: usize) -> bool {
    text.chars().nth(chars_max).is_some()
}

pub(super) fn normalize(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return Cow::Borrowed(text);
    }
    text.nfc().collect()
}

/// Checks the characters of a normalized name.
pub(super) fn check(name: &str, is_separator: fn(char) -> bool) -> Result<(), NameError> {
    let mut previous = None;
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            _ if is_separator(c) || c.is_ascii_alphanumeric() => {}
            ZERO_WIDTH_NON_JOINER | ZERO_WIDTH_JOINER => {
                let is_inside = previous.is_some_and(is_of_joining_script)
                    && chars.peek().copied().is_some_and(is_of_joining_script);
                if !is_inside {
                    return Err(NameError::Joiner(c));
                }
                continue;
            }
            _ if is_invisible(c) => return Err(NameError::Character(c)),
            _ if is_combining_mark(c) || is_spelling(c) => {
                if previous.is_none_or(|previous| is_separator(previous) || is_spelling(previous)) {
                    return Err(NameError::Mark(c));
                }
            }
            _ if c.is_alphanumeric() => {}
            _ => return Err(NameError::Character(c)),
        }
        previous = Some(c);
    }
    Ok(())
}

pub(super) fn is_separator(c: char) -> bool {
    matches!(c, '.' | '_' | '-' | ':')
}

/// Returns whether words are spelled with this sign although it is no letter: the dots of Catalan and Japanese, the
/// geresh and gershayim of Hebrew, and the sign between the syllables of Tibetan (UAX #31, section 2.4).
fn is_spelling(c: char) -> bool {
    matches!(c, '\u{b7}' | '\u{5f3}' | '\u{5f4}' | '\u{f0b}' | '\u{30fb}')
}

/// Returns whether a letter or mark shows nothing: fillers and selectors (the property `Default_Ignorable_Code_Point`),
/// and the marks that only change a sign of Brahmi, Egyptian, Khitan, Duployan or SignWriting.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{1107f}' | '\u{13440}' | '\u{16fe4}' | '\u{1bc9d}'
            | '\u{1da9b}'..='\u{1daaf}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Returns whether a character is in a block of Arabic, Syriac, Mongolian, or a script of the Indic family. Only these
/// spell with joiners; in other scripts a joiner would make a name that looks like another.
fn is_of_joining_script(c: char) -> bool {
    matches!(
        c,
        '\u{600}'..='\u{109f}' | '\u{1780}'..='\u{18af}' | '\u{1a00}'..='\u{1cff}' | '\u{a800}'..='\u{abff}'
            | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10a00}'..='\u{11fff}'
    )
}

impl Serialize for RoomName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("it is empty"),
            Self::TooLong => f.write_str("it is longer than 64"),
            Self::Character(c) => write!(f, "it contains {}", Named(c)),
            Self::Mark(c) => write!(f, "{} follows no letter or digit", Named(c)),
            Self::Joiner(c) => {
                let script = "a word of a script that uses it";
                write!(f, "the joiner {} is not inside {script}", Named(c))
            }
            Self::User => f.write_str("`@:` must precede the base64url of a user's name"),
        }
    }
}

/// Displays a character with its code point, because many characters look alike or are invisible.
struct Named(char);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(c) = *self;
        // `Debug` escapes what cannot be seen.
        let shown = format!("{c:?}");
        if !shown.contains('\\') || matches!(c, '\\' | '\'' | '"') {
            write!(f, "'{c}' ")?;
        }
        write!(f, "U+{:04X}", u32::from(c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn examples(list: &str) -> Vec<Value> {
        let examples = include_str!("../../../tests/room_names.json");
        let examples: Value = serde_json::from_str(examples).unwrap();
        examples[list].as_array().unwrap().clone()
    }

    #[test]
    fn examples_for_client_and_server_are_allowed_in_their_normal_form() {
        for example in examples("allowed") {
            let text = example["name"].as_str().unwrap();
            let normal = example["normal"].as_str().unwrap_or(text);
            let name = RoomName::parse(text).unwrap_or_else(|why| panic!("{text:?}: {why}"));
            assert_eq!(name.as_str(), normal, "{text:?}");
            assert_eq!(RoomName::parse(normal).unwrap(), name, "{text:?}");
        }
    }

    #[test]
    fn examples_for_client_and_server_are_refused_by_character() {
        for example in examples("refused") {
            let text = example["name"].as_str().unwrap();
            let why = RoomName::parse(text).expect_err(text).to_string();
            let named = example["names"].as_str().unwrap();
            assert!(why.contains(named), "{text:?}: {why}");
        }
    }

    #[test]
    fn length_is_counted_in_characters_of_the_normal_form() {
        assert!(RoomName::parse(&"é".repeat(64)).is_ok());
        assert_eq!(RoomName::parse(&"é".repeat(65)), Err(NameError::TooLong));
        assert!(RoomName::parse(&"e\u{301}".repeat(64)).is_ok());
        let long = "e\u{301}".repeat(65);
        assert_eq!(RoomName::parse(&long), Err(NameError::TooLong));
        // This letter is two characters in every normal form.
        assert!(RoomName::parse(&"\u{958}".repeat(32)).is_ok());
        let long = "\u{958}".repeat(33);
        assert_eq!(RoomName::parse(&long), Err(NameError::TooLong));
        let longest = "\u{1f82}".nfd().collect::<String>().repeat(64);
        assert!(RoomName::parse(&longest).is_ok());
    }

    #[test]
    fn character_is_named_by_its_look_and_its_code_point() {
        for (c, named) in [
            ('/', "'/' U+002F"),
            ('\'', "''' U+0027"),
            ('\u{200b}', "U+200B"),
            ('\u{202e}', "U+202E"),
            ('\n', "U+000A"),
            ('😀', "'😀' U+1F600"),
        ] {
            assert_eq!(Named(c).to_string(), named);
        }
    }
}
