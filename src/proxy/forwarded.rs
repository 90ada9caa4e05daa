//! The client's address in a forwarding header: `X-Forwarded-For`, or `Forwarded` (RFC 7239).
//!
//! Each proxy appends the address of its own peer. The list is therefore read from the right, past the
//! addresses of trusted proxies; the first other address is the client's. The client itself may have
//! written anything to the left of that address.

use std::net::{IpAddr, SocketAddr};

use super::TrustedProxies;

/// A header that lists the hops of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardingHeader {
    /// A list of addresses; not standardised, but sent by most proxies.
    XForwardedFor,
    /// The standard header, RFC 7239.
    Forwarded,
}

impl ForwardingHeader {
    /// Returns the header's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "X-Forwarded-For",
            Self::Forwarded => "Forwarded",
        }
    }
}

/// Returns the client's address: the right-most hop that is not a trusted proxy, or the first hop if all
/// are trusted.
///
/// `lines` are the values of the header's lines in their order, with any content. A hop that is not an
/// address ends the search; the result is then the hop to its right, or `None` if there is none.
pub fn forwarded<'a>(
    header: ForwardingHeader,
    lines: impl DoubleEndedIterator<Item = &'a str>,
    trust: &TrustedProxies,
) -> Option<IpAddr> {
    let mut last = None;
    for hop in lines.rev().flat_map(|line| rsplit_unquoted(line, b',')) {
        let hop = hop.trim_matches([' ', '\t']);
        let named = match header {
            ForwardingHeader::XForwardedFor => Some(hop),
            ForwardingHeader::Forwarded => for_parameter(hop),
        };
        let Some(ip) = named.and_then(parse_node) else {
            return last;
        };
        if !trust.trusts(ip) {
            return Some(ip);
        }
        last = Some(ip);
    }
    last
}

/// Splits a text at separators outside of quotes and returns the parts from right to left.
///
/// A proxy quotes values that it copied from the client, such as `host`. To the left of them the client may
/// have opened a quote that never ends, so quotes are matched from the right too.
fn rsplit_unquoted(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let at = last_unquoted(text.as_bytes(), separator);
        rest = at.map(|at| &text[..at]);
        Some(at.map_or(text, |at| &text[at + 1..]))
    })
}

fn last_unquoted(text: &[u8], separator: u8) -> Option<usize> {
    let mut is_quoted = false;
    (0..text.len()).rev().find(|&at| {
        if text[at] == b'"' && !is_escaped(text, at) {
            is_quoted = !is_quoted;
        }
        text[at] == separator && !is_quoted
    })
}

/// Returns whether a byte is escaped: after an odd number of backslashes (RFC 9110 §5.6.4).
fn is_escaped(text: &[u8], at: usize) -> bool {
    let before = text[..at].iter().rev();
    before.take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Returns the value of an element's parameter `for`, which must be present once (RFC 7239 §4).
fn for_parameter(element: &str) -> Option<&str> {
    let mut values = rsplit_unquoted(element, b';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let is_for = name.trim_matches([' ', '\t']).eq_ignore_ascii_case("for");
        is_for.then(|| value.trim_matches([' ', '\t']))
    });
    let value = values.next().filter(|_| values.next().is_none())?;
    match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(value),
    }
}

/// Parses an address with or without a port (RFC 7239 §6). `unknown` and obfuscated names are `None`.
fn parse_node(text: &str) -> Option<IpAddr> {
    let bracketed = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let ip = match bracketed {
        Some(v6) => v6.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    };
    let ip = ip.or_else(|| {
        text.parse()
            .ok()
            .map(|with_port: SocketAddr| with_port.ip())
    });
    ip.map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::ForwardingHeader::{Forwarded, XForwardedFor};
    use super::*;

    const TRUSTED: &str = "10.0.0.0/8,fd00::/8";

    fn client(header: ForwardingHeader, lines: &[&str]) -> Option<String> {
        let trust = TRUSTED.parse().unwrap();
        let found = forwarded(header, lines.iter().copied(), &trust);
        found.map(|ip| ip.to_string())
    }

    #[test]
    fn client_is_the_right_most_hop_that_is_not_a_trusted_proxy() {
        for (lines, expected) in [
            (&["203.0.113.7"][..], Some("203.0.113.7")),
            (&["203.0.113.7, 10.0.0.1"], Some("203.0.113.7")),
            (
                &["1.1.1.1, 203.0.113.7, 10.0.0.1, 10.2.0.1"],
                Some("203.0.113.7"),
            ),
            // Several lines form one list.
            (&["1.1.1.1", "203.0.113.7", "10.0.0.1"], Some("203.0.113.7")),
            (&["203.0.113.7:4711"], Some("203.0.113.7")),
            (&["2001:db8::7"], Some("2001:db8::7")),
            (&["[2001:db8::7]"], Some("2001:db8::7")),
            (&["[2001:db8::7]:4711,fd00::1"], Some("2001:db8::7")),
            (&["::ffff:203.0.113.7"], Some("203.0.113.7")),
            (&["::ffff:10.0.0.1"], Some("10.0.0.1")),
            (&["\t203.0.113.7 ,\t10.0.0.1 "], Some("203.0.113.7")),
            // A proxy asks for itself.
            (&["10.0.0.3, 10.0.0.1"], Some("10.0.0.3")),
            (&[], None),
            (&[""], None),
        ] {
            let found = client(XForwardedFor, lines);
            assert_eq!(found.as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn hop_that_is_no_address_ends_the_search() {
        for (line, expected) in [
            ("203.0.113.7, unknown, 10.0.0.1", Some("10.0.0.1")),
            ("203.0.113.7, , 10.0.0.1", Some("10.0.0.1")),
            ("203.0.113.7,", None),
            ("203.0.113.7, _hidden", None),
            ("203.0.113.7, 10.0.0.1 10.0.0.1", None),
            ("203.0.113.7, 010.0.0.1", None),
            ("203.0.113.7, 10.0.0.256", None),
            ("203.0.113.7, 10.0.0.1:", None),
            ("203.0.113.7, 10.0.0.1:99999", None),
            ("203.0.113.7, [10.0.0.1]", None),
            ("203.0.113.7, [fd00::1", None),
            ("203.0.113.7, fe80::1%eth0", None),
            ("203.0.113.7, 10.0.0.1\r\nHost: x", None),
            ("203.0.113.7, \u{fffd}\0", None),
            ("203.0.113.7, 𝟏𝟎.0.0.1", None),
        ] {
            let found = client(XForwardedFor, &[line]);
            assert_eq!(found.as_deref(), expected, "{line:?}");
        }
    }

    #[test]
    fn standard_header_is_parsed() {
        for (line, expected) in [
            ("for=203.0.113.7", Some("203.0.113.7")),
            (
                "For=203.0.113.7;proto=https;by=10.0.0.9",
                Some("203.0.113.7"),
            ),
            ("proto=https; for=\"203.0.113.7:80\"", Some("203.0.113.7")),
            (
                "for=\"[2001:db8::7]:4711\", for=10.0.0.1",
                Some("2001:db8::7"),
            ),
            ("for=1.1.1.1, for=203.0.113.7", Some("203.0.113.7")),
            // An unclosed quote of the client hides no later hop.
            ("for=\"x, for=203.0.113.7", Some("203.0.113.7")),
            ("for=1.1.1.1, for=\"x, for=10.0.0.1", Some("10.0.0.1")),
            // The client chooses the content of a value that the proxy quotes.
            (
                "for=203.0.113.7;host=\"a,for=1.1.1.1;b\"",
                Some("203.0.113.7"),
            ),
            (
                "for=203.0.113.7;host=\"a,b\";proto=http",
                Some("203.0.113.7"),
            ),
            (
                "host=\"a;for=1.1.1.1\";for=203.0.113.7",
                Some("203.0.113.7"),
            ),
            (
                r#"for=203.0.113.7;host="\",for=1.1.1.1;\"\\""#,
                Some("203.0.113.7"),
            ),
            (
                "for=\"x, for=203.0.113.7;host=\"a,b\", for=10.0.0.1",
                Some("203.0.113.7"),
            ),
            ("for=1.1.1.1, proto=https", None),
            ("for=1.1.1.1, for=unknown", None),
            ("for=1.1.1.1;for=2.2.2.2", None),
            ("for=\"1.1.1.1", None),
            ("for=", None),
            ("for=\"", None),
            ("1.1.1.1", None),
        ] {
            let found = client(Forwarded, &[line]);
            assert_eq!(found.as_deref(), expected, "{line:?}");
        }
    }
}
