//! The request target (RFC 9112 §3.2): a path's segments and the pairs of its query.

use percent_encoding::percent_decode_str;

use super::error::HeadError;

/// A parsed target.
#[derive(Debug)]
pub(super) struct ParsedTarget {
    pub(super) segments: Vec<String>,
    pub(super) query: Query,
    /// True if the percent-encoding is UTF-8, apart from last event ids. Where it is not, `U+FFFD` stands instead.
    pub(super) is_utf8: bool,
}

/// The decoded pairs of a query, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// The names of the parameters, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The values of one parameter, in order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The values of `lastEventId`, in the spellings of the libraries that send it: `last_event_id`, `lastEventID`,
    /// `Last-Event-ID`.
    pub(in crate::http) fn last_event_ids(&self) -> impl Iterator<Item = &str> {
        let pairs = self.0.iter().filter(|(name, _)| is_last_event_id(name));
        pairs.map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter; later ones are ignored.
    pub fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.values(name).next()
    }
}

fn is_last_event_id(name: &str) -> bool {
    let letters = name.bytes().filter(|byte| !matches!(byte, b'_' | b'-'));
    letters
        .map(|byte| byte.to_ascii_lowercase())
        .eq(*b"lasteventid")
}

/// Parses origin form, absolute form, or `*`.
pub(super) fn parse(raw: &str) -> Result<ParsedTarget, HeadError> {
    if raw == "*" {
        return Ok(ParsedTarget {
            segments: vec!["*".to_owned()],
            query: Query::default(),
            is_utf8: true,
        });
    }
    let absolute = raw
        .strip_prefix("http://")
        .or_else(|| raw.strip_prefix("https://"));
    let target = absolute.unwrap_or(raw);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = if absolute.is_some() {
        // A host without a path means the root (RFC 9112 §3.2.2).
        path.find('/').map_or("/", |slash| &path[slash..])
    } else {
        path
    };
    if !path.starts_with('/') || raw.contains('#') {
        return Err(HeadError::Bad("the target must be a path such as /health"));
    }
    let mut is_utf8 = true;
    let segments = path[1..]
        .split('/')
        .map(|segment| decode(segment, &mut is_utf8))
        .collect();
    let query = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode_form =
                |text: &str, is_utf8: &mut bool| decode(&text.replace('+', " "), is_utf8);
            let name = decode_form(name, &mut is_utf8);
            // A last event id of any bytes starts a stream, as in the header.
            let value = if is_last_event_id(&name) {
                decode_form(value, &mut true)
            } else {
                decode_form(value, &mut is_utf8)
            };
            (name, value)
        })
        .collect();
    Ok(ParsedTarget {
        segments,
        query: Query(query),
        is_utf8,
    })
}

/// Clears `is_utf8` if the text is not UTF-8.
fn decode(text: &str, is_utf8: &mut bool) -> String {
    let bytes = percent_decode_str(text);
    match bytes.clone().decode_utf8() {
        Ok(text) => text.into_owned(),
        Err(_) => {
            *is_utf8 = false;
            bytes.decode_utf8_lossy().into_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(raw: &str) -> Vec<String> {
        parse(raw).expect("a target").segments
    }

    #[test]
    fn absolute_targets_are_paths_too() {
        assert_eq!(segments("http://h/a/b"), ["a", "b"]);
        assert_eq!(segments("http://h"), [""]);
    }

    /// A proxy that protects /clients parses this as a query, so the server must do the same.
    #[test]
    fn a_query_ends_the_host_of_an_absolute_target() {
        let target = parse("http://h?/clients").expect("a target");
        assert_eq!(target.segments, [""]);
        assert_eq!(target.query.first("/clients"), Some(""));
    }

    #[test]
    fn segments_and_pairs_are_decoded_one_by_one() {
        let target = parse("/rooms/a%2Fb?x=1+2&y").expect("a target");
        assert_eq!(target.segments, ["rooms", "a/b"]);
        assert_eq!(target.query.values("x").collect::<Vec<_>>(), ["1 2"]);
        assert_eq!(target.query.values("y").collect::<Vec<_>>(), [""]);
    }
}
