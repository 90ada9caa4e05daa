//! Quotes a client's text in a message or in a close reason.

/// Longest quotation, in bytes. A reason of 123 bytes has space for it and for a sentence.
const BYTES_MAX: usize = 40;

/// Returns a text in quotes, with characters that cannot be seen escaped. A long text ends with `…`.
pub(crate) fn quote(text: &str) -> String {
    // Takes one character more than the maximum, so that `cut` detects a text that is too long.
    let start = text.chars().take(BYTES_MAX + 1);
    let escaped: String = start.flat_map(escape).collect();
    format!("\"{}\"", cut(&escaped, BYTES_MAX))
}

/// Escapes a character as `Debug` does, except marks, because names in many scripts contain them.
fn escape(c: char) -> impl Iterator<Item = char> {
    let is_mark = unicode_normalization::char::is_combining_mark(c);
    let shown = is_mark.then_some(c);
    let escaped = (!is_mark).then(|| c.escape_debug());
    shown.into_iter().chain(escaped.into_iter().flatten())
}

/// Shortens a text to at most this many bytes. A shortened text ends with `…`.
pub(crate) fn cut(text: &str, bytes_max: usize) -> String {
    const ELLIPSIS: char = '…';
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let most = bytes_max.saturating_sub(ELLIPSIS.len_utf8());
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
    format!("{}{ELLIPSIS}", &text[..end.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotation_is_escaped_and_short() {
        assert_eq!(quote("undefined"), "\"undefined\"");
        assert_eq!(quote("ห้อง"), "\"ห้อง\"");
        assert_eq!(quote("a\u{202e}\"\n"), r#""a\u{202e}\"\n""#);
        for long in ["x".repeat(41), "房".repeat(9000), "\u{1}".repeat(40)] {
            let quoted = quote(&long);
            assert!(
                quoted.ends_with("…\"") && quoted.len() <= BYTES_MAX + 2,
                "{quoted}"
            );
        }
    }

    #[test]
    fn cut_text_is_whole_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "…");
        assert_eq!(cut("房房房", 8), "房…");
        assert_eq!(cut("房房房", 9), "房房房");
    }
}
