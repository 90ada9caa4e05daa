//! A request head (RFC 9112): found at the start of a buffer, then parsed strictly.
//!
//! A head that two servers could read differently is rejected, not repaired, because request smuggling depends on
//! such differences.

use std::str::FromStr;

use tiny_http::Method;

use crate::socket::tls;

use super::body::BodyLength;
use super::error::HeadError;
use super::headers::Headers;
use super::target::{self, ParsedTarget, Query};

/// Largest request head, in bytes (RFC 9110 §5.4 leaves the limit to the server).
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Prefix of a token sent as a subprotocol.
pub const TOKEN_SUBPROTOCOL: &str = "wscast.token.";
/// Most headers in a request.
const HEADERS_MAX: usize = 100;

/// A complete request head.
#[derive(Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The path's segments, percent-decoded one by one: `/rooms/a%2Fb` has the segment `a/b`.
    pub segments: Vec<String>,
    /// The query's pairs.
    pub query: Query,
    /// True if the target's percent-encoding is UTF-8. Another encoding is accepted only in the handshake of a page:
    /// a Close frame then names the mistake, because a page cannot read an HTTP error.
    pub is_utf8: bool,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor_version: u8,
    /// The header lines.
    pub headers: Headers,
    /// The framing of the body that follows.
    pub body: BodyLength,
    /// Bytes that the head takes in the buffer, the blank line included.
    pub len: usize,
}

impl Head {
    /// The client's token: `Authorization: Bearer` (RFC 6750 §2.1), else the subprotocol `wscast.token.…`, else
    /// `?token=`. The last two sources exist because browsers cannot send that header with a WebSocket handshake. An
    /// empty token counts as none. Never log the token.
    pub fn token(&self) -> Option<&str> {
        let bearer = self.headers.get("Authorization").and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token)
        });
        let is_there = |token: &&str| !token.is_empty();
        let bearer = bearer.map(str::trim).filter(is_there);
        let offers = self.headers.list("Sec-WebSocket-Protocol");
        let mut offered = offers.filter_map(|offer| offer.strip_prefix(TOKEN_SUBPROTOCOL));
        bearer
            .or_else(|| offered.find(is_there))
            .or_else(|| self.query.first("token").map(str::trim).filter(is_there))
    }

    /// Returns whether a handshake is refused by a Close frame, because the client cannot read a response: a page, or a
    /// program that asks for that by `refusal=close`.
    pub fn is_refused_by_close(&self) -> bool {
        is_handshake_of_page(&self.method, &self.headers)
            || (is_handshake(&self.method, &self.headers)
                && self.query.first("refusal") == Some("close"))
    }

    /// Returns whether the client lets the connection carry another request after this one (RFC 9112 §9.3).
    pub fn keeps_alive(&self) -> bool {
        let is_default = self.minor_version > 0;
        (is_default || self.headers.lists("Connection", "keep-alive"))
            && !self.headers.lists("Connection", "close")
    }

    /// Returns whether the client takes an event stream: `Accept` lists its type, not with `q=0`, or is absent. The
    /// most specific range decides (RFC 9110 §12.5.1).
    pub fn accepts_events(&self) -> bool {
        let accepts = |wanted: &str| {
            let lines = self.headers.lines("Accept");
            let mut ranges = lines.flat_map(|line| line.split(','));
            ranges.find_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let is_wanted = parts.next()?.eq_ignore_ascii_case(wanted);
                is_wanted.then(|| !parts.any(is_zero_quality))
            })
        };
        let by_range = ["text/event-stream", "text/*", "*/*"]
            .into_iter()
            .find_map(accepts);
        by_range.unwrap_or(!self.headers.contains("Accept"))
    }

    /// Returns whether the client takes a response as gzip: `Accept-Encoding` names it, or `*`, and not with `q=0`.
    /// Its own name outweighs `*` (RFC 9110 §12.5.3).
    pub fn accepts_gzip(&self) -> bool {
        let accepts = |wanted: &[&str]| {
            self.headers.list("Accept-Encoding").find_map(|item| {
                let mut parts = item.split(';').map(str::trim);
                let coding = parts.next()?;
                let is_wanted = wanted.iter().any(|name| coding.eq_ignore_ascii_case(name));
                is_wanted.then(|| !parts.any(is_zero_quality))
            })
        };
        accepts(&["gzip", "x-gzip"])
            .or_else(|| accepts(&["*"]))
            .unwrap_or(false)
    }

    /// Returns whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1; HTTP/1.0 has no
    /// interim responses).
    pub fn expects_continue(&self) -> bool {
        self.minor_version > 0 && self.headers.lists("Expect", "100-continue")
    }
}

/// Returns whether a parameter of a media range is `q=0`, with any number of decimals.
fn is_zero_quality(parameter: &str) -> bool {
    let value = parameter
        .split_once('=')
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    value.is_some_and(|(_, value)| value.trim().parse() == Ok(0.0))
}

/// Searches for a complete head at the start of `buffer`; `Ok(None)` means that more bytes are needed.
///
/// `scanned` is the number of bytes that earlier calls have searched, so that a head that arrives byte by byte costs
/// no more than one that arrives at once.
pub fn parse(buffer: &[u8], scanned: &mut usize) -> Result<Option<Head>, HeadError> {
    if buffer.first() == Some(&tls::HANDSHAKE_BYTE) {
        return Err(HeadError::Bad(
            "this port does not speak TLS; use http:// or ws://",
        ));
    }
    let end = find_end(buffer, scanned)?;
    match end {
        Some(end) if end > HEAD_BYTES_MAX => Err(HeadError::TooLarge),
        None if buffer.len() > HEAD_BYTES_MAX => Err(HeadError::TooLarge),
        None => Ok(None),
        Some(end) => parse_complete(&buffer[..end]).map(Some),
    }
}

/// Finds the end of the blank line. Rejects line ends and characters that only a lenient parser would accept.
fn find_end(buffer: &[u8], scanned: &mut usize) -> Result<Option<usize>, HeadError> {
    while let Some(&byte) = buffer.get(*scanned) {
        let at = *scanned;
        let before = |n: usize| at.checked_sub(n).map(|i| buffer[i]);
        match byte {
            0 => return Err(HeadError::Bad("a NUL byte in the head")),
            b'\n' if before(1) != Some(b'\r') => {
                return Err(HeadError::Bad(
                    "a line must end with CR LF, not with LF alone",
                ));
            }
            // RFC 9112 §2.2: an empty line before the request line is ignored.
            b'\n' if before(3) == Some(b'\r') && before(2) == Some(b'\n') && at >= 4 => {
                *scanned = at + 1;
                return Ok(Some(at + 1));
            }
            b'\n' => {}
            _ if before(1) == Some(b'\r') => {
                return Err(HeadError::Bad("CR must be followed by LF"));
            }
            b' ' | b'\t' if before(1) == Some(b'\n') => {
                return Err(HeadError::Bad("a header must not be folded over lines"));
            }
            _ => {}
        }
        *scanned += 1;
    }
    Ok(None)
}

fn parse_complete(head: &[u8]) -> Result<Head, HeadError> {
    // On the heap, so that the stack of a thread that will serve an idle client stays shallow.
    let mut headers = vec![httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut raw = httparse::Request::new(&mut headers);
    match raw.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(HeadError::Bad("the head breaks off")),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(httparse::Error::Version) if names_a_version(head) => return Err(HeadError::Version),
        Err(_) => return Err(HeadError::Bad("not an HTTP/1.1 request")),
    }
    let ParsedTarget {
        segments,
        query,
        is_utf8,
    } = target::parse(raw.path.unwrap_or_default())?;
    let method = Method::from_str(raw.method.unwrap_or_default())
        .map_err(|()| HeadError::Bad("the method is not a token"))?;
    let minor_version = raw.version.unwrap_or(1);
    let headers = Headers::new(raw.headers);
    check_host(&headers, minor_version)?;
    let body = BodyLength::parse(&headers, minor_version)?;
    if !is_utf8 && !is_handshake_of_page(&method, &headers) {
        return Err(HeadError::Bad("the target's percent-encoding is not UTF-8"));
    }
    Ok(Head {
        method,
        segments,
        query,
        is_utf8,
        minor_version,
        headers,
        body,
        len: head.len(),
    })
}

/// Returns whether a page opens a WebSocket. Only browsers send an Origin, and they always do (RFC 6455 §4.1).
fn is_handshake_of_page(method: &Method, headers: &Headers) -> bool {
    let origin = headers.get("Origin");
    is_handshake(method, headers) && origin.is_some_and(|origin| !origin.is_empty())
}

fn is_handshake(method: &Method, headers: &Headers) -> bool {
    *method == Method::Get && headers.lists("Upgrade", "websocket")
}

/// Returns whether the request line has three words and the last is `HTTP/…`: httparse reports a version error for any
/// third word.
fn names_a_version(head: &[u8]) -> bool {
    let line = head.trim_ascii_start().split(|b| *b == b'\r').next();
    let last = line.and_then(|line| line.rsplit(|b| *b == b' ').next());
    last.is_some_and(|word| word.starts_with(b"HTTP/"))
        && line.is_some_and(|line| line.iter().filter(|b| **b == b' ').count() == 2)
}

/// Requires exactly one Host (RFC 9112 §3.2), or none in HTTP/1.0.
fn check_host(headers: &Headers, minor_version: u8) -> Result<(), HeadError> {
    let mut lines = headers.lines("Host");
    match (lines.next(), lines.next()) {
        (None, _) if minor_version == 0 => Ok(()),
        (None, _) => Err(HeadError::Bad("Host is missing")),
        (Some(_), Some(_)) => Err(HeadError::Bad("Host is present twice")),
        (Some(host), None) if host.contains([' ', '\t', '/', '\\', '@', ',', '?', '#']) => {
            Err(HeadError::Bad("Host is not a host and port"))
        }
        (Some(_), None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(text: &str) -> Result<Option<Head>, HeadError> {
        parse(text.as_bytes(), &mut 0)
    }

    fn head(text: &str) -> Head {
        parse_all(text).unwrap().expect("incomplete")
    }

    #[test]
    fn a_head_that_arrives_byte_by_byte_ends_at_its_blank_line() {
        let text = b"\r\nGET /rooms/a%2Fb?x=1+2&y HTTP/1.1\r\nHost: h\r\n\r\nrest";
        let mut scanned = 0;
        let complete = (1..=text.len()).find_map(|n| {
            parse(&text[..n], &mut scanned)
                .unwrap()
                .map(|head| (n, head))
        });
        let (n, head) = complete.unwrap();
        assert_eq!((n, head.len), (text.len() - 4, text.len() - 4));
        assert_eq!(head.segments, ["rooms", "a/b"]);
    }

    #[test]
    fn heads_with_two_readings_are_rejected() {
        for (bad, why) in [
            (
                "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "both",
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                "twice",
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
                "length",
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n",
                "length",
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n",
                "length",
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n",
                "length",
            ),
            ("GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", "folded"),
            ("GET / HTTP/1.1\nHost: h\n\n", "CR LF"),
            ("GET / HTTP/1.1\r\nHost: h\r\nA: b\rC: d\r\n\r\n", "CR must"),
            ("GET / HTTP/1.1\r\nHost: h\0\r\n\r\n", "NUL"),
            ("GET / HTTP/1.1\r\n\r\n", "missing"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "twice"),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "host and port"),
            ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", "not an HTTP"),
            (
                "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
                "1.0",
            ),
            ("GET /%ff HTTP/1.1\r\nHost: h\r\n\r\n", "UTF-8"),
            ("GET health HTTP/1.1\r\nHost: h\r\n\r\n", "path"),
            ("\x16\x03\x01", "TLS"),
        ] {
            match parse_all(bad) {
                Err(HeadError::Bad(reason)) => assert!(reason.contains(why), "{bad:?}: {reason}"),
                other => panic!("{bad:?}: {other:?}"),
            }
        }
        assert_eq!(
            parse_all("GET / HTTP/2.0\r\n\r\n").unwrap_err(),
            HeadError::Version
        );
    }

    #[test]
    fn heads_are_bounded_in_bytes_and_headers() {
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(HEAD_BYTES_MAX));
        assert_eq!(parse_all(&long).unwrap_err(), HeadError::TooLarge);
        let many = format!(
            "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
            "A: b\r\n".repeat(HEADERS_MAX)
        );
        assert_eq!(parse_all(&many).unwrap_err(), HeadError::TooLarge);
    }

    #[test]
    fn tokens_are_found_in_lists_and_over_lines() {
        let headers = head(
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: x, UPGRADE\r\n\r\n",
        )
        .headers;
        assert!(headers.lists("connection", "upgrade"));
        assert!(!headers.lists("connection", "up"));
        assert_eq!(headers.get("Connection"), None);
    }

    #[test]
    fn gzip_is_accepted_if_it_is_named_without_quality_zero() {
        for (value, accepts) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("gzip ; Q = 1.000", true),
            ("x-gzip", true),
            ("*", true),
            ("*;q=0, gzip", true),
            ("gzip;q=0", false),
            ("gzip;q=0.000, *", false),
            ("*;q=0", false),
            ("identity", false),
            ("gzipped, not-gzip", false),
            ("", false),
        ] {
            let text = format!("GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: {value}\r\n\r\n");
            assert_eq!(head(&text).accepts_gzip(), accepts, "{value}");
        }
        assert!(!head("GET / HTTP/1.1\r\nHost: h\r\n\r\n").accepts_gzip());
    }

    #[test]
    fn close_outweighs_keep_alive() {
        for (version, connection, keeps) in [
            ("1.1", "x", true),
            ("1.1", "keep-alive, close", false),
            ("1.0", "x", false),
            ("1.0", "keep-alive", true),
            ("1.0", "keep-alive, close", false),
        ] {
            let text =
                format!("GET / HTTP/{version}\r\nHost: h\r\nConnection: {connection}\r\n\r\n");
            assert_eq!(head(&text).keeps_alive(), keeps, "{text}");
        }
    }
}
