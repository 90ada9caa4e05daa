//! The lines of `--access-log`: one for each request, and one for the end of each stream.
//!
//! A line has the path of a request without its query, because queries may hold tokens. It has no other header than the
//! user agent, and nothing of a body.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::http::Request;
use crate::logging::ACCESS_TARGET;
use crate::protocol::cut;
use crate::socket::Peer;

/// Longest path in a line, in bytes.
const PATH_BYTES_MAX: usize = 512;
/// Longest user agent in a line, in bytes.
const AGENT_BYTES_MAX: usize = 200;
/// The characters of a segment that a path writes as percent-encoding (RFC 3986 §3.3).
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The start of parameters in a path: of a question mark that was encoded once too often, or of RFC 3986 §3.3.
const PARAMETERS_AFTER: [char; 2] = ['?', ';'];

/// A request, to be logged once its response was sent or its stream has ended.
pub(super) struct Access {
    address: String,
    method: String,
    path: String,
    agent: Option<String>,
    user: Option<Arc<str>>,
    /// `None` if the client disconnected before the response.
    status: Option<u16>,
    started: Instant,
}

impl Access {
    pub(super) fn new(
        request: &Request,
        user: Option<Arc<str>>,
        status: Option<u16>,
        started: Instant,
    ) -> Self {
        let head = &request.head;
        let agent = head.headers.get("User-Agent");
        Self {
            address: request.peer.name(),
            method: cut(head.method.as_str(), AGENT_BYTES_MAX),
            path: cut(&path(&head.segments), PATH_BYTES_MAX),
            agent: agent.map(|agent| cut(agent, AGENT_BYTES_MAX)),
            user,
            status,
            started,
        }
    }

    /// Returns the access of a client whose request could not be parsed.
    pub(super) fn unparsed(peer: Peer, status: u16, started: Instant) -> Self {
        Self {
            address: peer.name(),
            method: "-".to_owned(),
            path: "-".to_owned(),
            agent: None,
            user: None,
            status: Some(status),
            started,
        }
    }

    /// Logs the access. `bytes` are those of the response, which a stream does not count.
    pub(super) fn log(&self, bytes: Option<usize>) {
        // To the microsecond.
        let duration_ms = self.started.elapsed().as_micros() as f64 / 1000.0;
        let bytes = bytes.map(|bytes| bytes as u64);
        log::info!(
            target: ACCESS_TARGET,
            address = self.address.as_str(),
            method = self.method.as_str(),
            path = self.path.as_str(),
            status = self.status,
            bytes,
            duration_ms,
            user = self.user.as_deref(),
            agent = self.agent.as_deref();
            "{} {} {} {} {} bytes {duration_ms:.3} ms user {} agent {}",
            self.address,
            self.method,
            self.path,
            OrDash(self.status),
            OrDash(bytes),
            OrDash(self.user.as_deref().map(Quoted)),
            OrDash(self.agent.as_deref().map(Quoted)),
        );
    }
}

/// Returns the path of decoded segments.
/// Returns the path up to a character after which some programs put parameters, which may hold a token.
fn path(segments: &[String]) -> String {
    let is_cut = |segment: &String| segment.contains(PARAMETERS_AFTER);
    let last = segments.iter().position(is_cut);
    let segments = last.map_or(segments, |last| &segments[..=last]);
    segments.iter().fold(String::new(), |path, segment| {
        let end = segment.find(PARAMETERS_AFTER).unwrap_or(segment.len());
        let segment = utf8_percent_encode(&segment[..end], ESCAPED);
        format!("{path}/{segment}")
    })
}

/// A text in quotes, on one line.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A value, or `-` if there is none.
struct OrDash<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for OrDash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}
