//! The header lines of a request.

/// Returns whether a byte may stand in a header's name (RFC 9110 §5.6.2).
pub(in crate::http) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Header names and values in the order received; names are matched without regard to case.
#[derive(Debug)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    pub(super) fn new(lines: &[httparse::Header<'_>]) -> Self {
        let owned = |header: &httparse::Header<'_>| {
            let value = String::from_utf8_lossy(header.value);
            // RFC 9110 §5.5: only spaces and tabs are optional; other white space belongs to the value.
            let value = value.trim_matches([' ', '\t']);
            (header.name.to_owned(), value.to_owned())
        };
        Self(lines.iter().map(owned).collect())
    }

    /// The values of a header's lines, in order.
    pub fn lines<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Returns whether the header is present, on one line or on several.
    pub fn contains(&self, name: &str) -> bool {
        self.lines(name).next().is_some()
    }

    /// The value of a header that is present on exactly one line.
    pub fn get<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let mut lines = self.lines(name);
        lines.next().filter(|_| lines.next().is_none())
    }

    /// The items of a comma-separated header (RFC 9110 §5.6.1) on all of its lines, without empty ones.
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines(name)
            .flat_map(|line| line.split(','))
            .map(str::trim)
            .filter(|item| !item.is_empty())
    }

    /// Returns whether a comma-separated header lists this token.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|item| item.eq_ignore_ascii_case(token))
    }
}
