//! A request's head (RFC 9112): found in a buffer without consuming it, then understood strictly.
//!
//! What two servers could read differently is refused, not repaired: that is what request smuggling
//! lives on.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use tiny_http::Method;

use crate::auth::Identity;
use crate::socket::{Peer, tls};

/// Largest request head, in bytes (RFC 9110 §5.4 leaves the limit to the server).
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most headers in a request.
const HEADERS_MAX: usize = 100;

type Segments = Vec<String>;
type Query = Vec<(String, String)>;

/// An HTTP request.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path's segments, percent-decoded one by one: `/rooms/a%2Fb` has the segment `a/b`.
    pub segments: Segments,
    /// The query's pairs, decoded.
    pub query: Query,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor_version: u8,
    headers: Vec<(String, String)>,
    /// The body, if it had one.
    pub body: Vec<u8>,
    /// Who sent it, once that was looked up.
    pub peer: Peer,
    /// ClientSelector asks, once that was looked up.
    pub identity: Option<Arc<Identity>>,
}

/// A head that is complete: the request, what follows it, and where it ends.
#[derive(Debug)]
pub struct Head {
    /// The request, its body not read yet.
    pub request: Request,
    /// What follows the head.
    pub body: Body,
    /// Bytes of the buffer that the head takes.
    pub len: usize,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    None,
    /// This many bytes.
    Length(u64),
    /// Chunks, which we do not take: the answer is 411.
    Chunked,
}

/// Why a head is refused; each ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// 400, and which rule was broken.
    Bad(&'static str),
    /// 431.
    TooLarge,
    /// 505.
    Version,
}

impl Request {
    /// The values of a header's lines, in order; the name is matched without regard to case.
    pub fn header_lines<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        let lines = self
            .headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| value.as_str())
    }

    /// The value of a header that stands on one line; `None` if it is missing or doubled.
    pub fn header<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let mut lines = self.header_lines(name);
        lines.next().filter(|_| lines.next().is_none())
    }

    /// Whether a comma-separated header lists this token (RFC 9110 §5.6.1), on whichever line.
    pub fn header_lists(&self, name: &str, token: &str) -> bool {
        let mut items = self.header_lines(name).flat_map(|line| line.split(','));
        items.any(|item| item.trim().eq_ignore_ascii_case(token))
    }

    /// The values of one query parameter, in order.
    pub fn query_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The token: `Authorization: Bearer` (RFC 6750 §2.1), else `?token=`, for those who cannot send
    /// headers. Never to be logged.
    pub fn token(&self) -> Option<&str> {
        let bearer = self.header("Authorization").and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then(|| token.trim_matches(' '))
        });
        bearer.or_else(|| self.query_values("token").next())
    }

    /// Whether the connection may carry another request after this one (RFC 9112 §9.3).
    pub fn keeps_alive(&self) -> bool {
        let may = match self.minor_version {
            0 => self.header_lists("Connection", "keep-alive"),
            _ => true,
        };
        may && !self.header_lists("Connection", "close")
    }
}

/// Looks for a complete head at the start of `buffer`; `Ok(None)` means that more bytes are needed.
///
/// `scanned` remembers how far earlier calls have looked, so that a head that comes byte by byte costs
/// no more than one that comes at once.
pub fn parse(buffer: &[u8], scanned: &mut usize) -> Result<Option<Head>, HeadError> {
    if buffer.first() == Some(&tls::HANDSHAKE_BYTE) {
        return Err(HeadError::Bad(
            "this port does not speak TLS; use http:// or ws://",
        ));
    }
    let end = scan(buffer, scanned)?;
    match end {
        Some(end) if end > HEAD_BYTES_MAX => Err(HeadError::TooLarge),
        None if buffer.len() > HEAD_BYTES_MAX => Err(HeadError::TooLarge),
        None => Ok(None),
        Some(end) => understand(&buffer[..end], end).map(Some),
    }
}

/// Finds the blank line, and refuses on the way what a lenient parser would let through.
fn scan(buffer: &[u8], scanned: &mut usize) -> Result<Option<usize>, HeadError> {
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
            0x16 if at == 0 => {
                return Err(HeadError::Bad("this port speaks plain HTTP, not TLS"));
            }
            _ => {}
        }
        *scanned += 1;
    }
    Ok(None)
}

fn understand(head: &[u8], len: usize) -> Result<Head, HeadError> {
    // On the heap: this thread's stack stays as shallow as its later life needs.
    let mut headers = vec![httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut raw = httparse::Request::new(&mut headers);
    match raw.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(HeadError::Bad("the head breaks off")),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(httparse::Error::Version) if names_a_version(head) => return Err(HeadError::Version),
        Err(_) => return Err(HeadError::Bad("not an HTTP/1.1 request")),
    }
    let (segments, query) = target(raw.path.unwrap_or_default())?;
    let method = Method::from_str(raw.method.unwrap_or_default());
    let request = Request {
        method: method.map_err(|()| HeadError::Bad("the method is not a token"))?,
        segments,
        query,
        minor_version: raw.version.unwrap_or(1),
        headers: raw.headers.iter().map(owned_header).collect(),
        body: Vec::new(),
        peer: Peer::Unix,
        identity: None,
    };
    check_host(&request)?;
    let body = body_length(&request)?;
    Ok(Head { request, body, len })
}

/// Whether the request line ends in `HTTP/…`: httparse says "version" for any third word.
fn names_a_version(head: &[u8]) -> bool {
    let line = head.trim_ascii_start().split(|b| *b == b'\r').next();
    let last = line.and_then(|line| line.rsplit(|b| *b == b' ').next());
    last.is_some_and(|word| word.starts_with(b"HTTP/"))
        && line.is_some_and(|line| line.iter().filter(|b| **b == b' ').count() == 2)
}

fn owned_header(header: &httparse::Header<'_>) -> (String, String) {
    let value = String::from_utf8_lossy(header.value);
    // RFC 9110 §5.5: spaces and tabs only; other white space belongs to the value.
    (
        header.name.to_owned(),
        value.trim_matches([' ', '\t']).to_owned(),
    )
}

/// Origin form, absolute form, or `*` (RFC 9112 §3.2).
fn target(raw: &str) -> Result<(Segments, Query), HeadError> {
    if raw == "*" {
        return Ok((vec!["*".to_owned()], Vec::new()));
    }
    let absolute = raw
        .strip_prefix("http://")
        .or_else(|| raw.strip_prefix("https://"));
    let target = absolute.unwrap_or(raw);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = match absolute {
        // Of a host without a path the root is meant (RFC 9112 §3.2.2).
        Some(_) => path.find('/').map_or("/", |slash| &path[slash..]),
        None => path,
    };
    if !path.starts_with('/') || raw.contains('#') {
        return Err(HeadError::Bad("the target must be a path such as /health"));
    }
    let segments = path[1..]
        .split('/')
        .map(|segment| decode(segment).map(Cow::into_owned));
    let pairs = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode_form(name)?, decode_form(value)?))
        });
    Ok((
        segments.collect::<Result<_, _>>()?,
        pairs.collect::<Result<_, _>>()?,
    ))
}

fn decode(text: &str) -> Result<Cow<'_, str>, HeadError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map_err(|_| HeadError::Bad("the target's percent-encoding is not UTF-8"))
}

fn decode_form(text: &str) -> Result<String, HeadError> {
    decode(&text.replace('+', " ")).map(Cow::into_owned)
}

/// RFC 9112 §3.2: exactly one Host; HTTP/1.0 knew none.
fn check_host(request: &Request) -> Result<(), HeadError> {
    let mut lines = request.header_lines("Host");
    match (lines.next(), lines.next()) {
        (None, _) if request.minor_version == 0 => Ok(()),
        (None, _) => Err(HeadError::Bad("Host is missing")),
        (Some(_), Some(_)) => Err(HeadError::Bad("Host stands twice")),
        (Some(host), None) if host.contains([' ', '\t', '/', '\\', '@', ',', '?', '#']) => {
            Err(HeadError::Bad("Host is not a host and port"))
        }
        (Some(_), None) => Ok(()),
    }
}

/// RFC 9112 §6.3, refusing every combination that has more than one reading.
fn body_length(request: &Request) -> Result<Body, HeadError> {
    let chunked = request.header_lines("Transfer-Encoding").next().is_some();
    let mut lengths = request.header_lines("Content-Length");
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(HeadError::Bad("Content-Length stands twice"));
    }
    match (chunked, length) {
        (true, Some(_)) => Err(HeadError::Bad("both Content-Length and Transfer-Encoding")),
        (true, None) if request.minor_version == 0 => {
            Err(HeadError::Bad("Transfer-Encoding in an HTTP/1.0 request"))
        }
        (true, None) => Ok(Body::Chunked),
        (false, None) => Ok(Body::None),
        (false, Some(digits)) => {
            let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            match digits.parse() {
                Ok(0) if all_digits => Ok(Body::None),
                Ok(length) if all_digits => Ok(Body::Length(length)),
                _ => Err(HeadError::Bad("Content-Length is not a length")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(text: &str) -> Result<Option<Head>, HeadError> {
        parse(text.as_bytes(), &mut 0)
    }

    fn request(text: &str) -> Request {
        parse_all(text).unwrap().expect("incomplete").request
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_found_where_it_ends() {
        let text = b"\r\nGET /rooms/a%2Fb?x=1+2&y HTTP/1.1\r\nHost: h\r\n\r\nrest";
        let mut scanned = 0;
        let complete = (1..=text.len()).find_map(|n| {
            parse(&text[..n], &mut scanned)
                .unwrap()
                .map(|head| (n, head))
        });
        let (n, head) = complete.unwrap();
        assert_eq!((n, head.len), (text.len() - 4, text.len() - 4));
        assert_eq!(head.request.segments, ["rooms", "a/b"]);
        assert_eq!(head.request.query_values("x").collect::<Vec<_>>(), ["1 2"]);
        assert_eq!(head.request.query_values("y").collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn what_smugglers_send_is_refused() {
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
        let request = request(
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: x, UPGRADE\r\n\r\n",
        );
        assert!(request.header_lists("connection", "upgrade"));
        assert!(!request.header_lists("connection", "up"));
        assert_eq!(request.header("Connection"), None);
    }

    /// A proxy that guards /clients takes this for a query, and so must we.
    #[test]
    fn a_query_ends_the_host_of_an_absolute_target() {
        let request = request("GET http://h?/clients HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(request.segments, [""]);
        assert_eq!(request.query, [("/clients".to_owned(), String::new())]);
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
            let head =
                format!("GET / HTTP/{version}\r\nHost: h\r\nConnection: {connection}\r\n\r\n");
            assert_eq!(request(&head).keeps_alive(), keeps, "{head}");
        }
    }

    #[test]
    fn absolute_targets_are_paths_too() {
        assert_eq!(
            request("GET http://h/a/b HTTP/1.1\r\nHost: h\r\n\r\n").segments,
            ["a", "b"]
        );
        assert_eq!(
            request("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n").segments,
            [""]
        );
    }
}
