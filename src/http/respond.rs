//! Answers: JSON bodies, errors, and the bytes that go to the socket.

use serde::Serialize;
use tiny_http::{HTTPVersion, Header, Method, Response, ResponseBox, StatusCode};

use crate::auth::AllowedOrigins;

use super::{HeadError, Request, cors};

/// What happens to the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It carries the next request.
    KeepAlive,
    /// It is closed.
    Close,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorFields<'a>,
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    code: &'a str,
    message: &'a str,
}

/// A header from text we wrote ourselves; one that is not ASCII is left out.
pub(super) fn header(name: &str, value: &str) -> Option<Header> {
    Header::from_bytes(name, value).ok()
}

pub(super) trait WithHeader {
    fn with(self, name: &str, value: &str) -> Self;
}

impl WithHeader for ResponseBox {
    fn with(mut self, name: &str, value: &str) -> Self {
        if let Some(header) = header(name, value) {
            self.add_header(header);
        }
        self
    }
}

/// 200 with a JSON body that must not be cached.
pub(super) fn json(body: &impl Serialize) -> ResponseBox {
    json_with_status(200, body)
}

pub(super) fn json_with_status(status: u16, body: &impl Serialize) -> ResponseBox {
    // Plain structs of strings and numbers: serialising them into memory cannot fail.
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    data(status, "application/json", bytes).with("Cache-Control", "no-store")
}

/// A body of any type.
pub(super) fn data(status: u16, content_type: &str, bytes: impl Into<Vec<u8>>) -> ResponseBox {
    let response = Response::from_data(bytes)
        .with_status_code(StatusCode(status))
        .boxed();
    response.with("Content-Type", content_type)
}

/// A JSON error: a code for programs, a sentence for people.
pub fn error(status: u16, code: &str, message: &str) -> ResponseBox {
    json_with_status(
        status,
        &ErrorBody {
            error: ErrorFields { code, message },
        },
    )
}

/// 503 for a moment: the client is told to come back in a second.
pub fn busy(code: &str, message: &str) -> ResponseBox {
    error(503, code, message).with("Retry-After", "1")
}

impl From<HeadError> for ResponseBox {
    fn from(refused: HeadError) -> Self {
        match refused {
            HeadError::Bad(why) => error(400, "bad_request", why),
            HeadError::TooLarge => error(
                431,
                "head_too_large",
                "send at most 16 KiB of head and 100 headers",
            ),
            HeadError::Version => error(505, "http_version", "speak HTTP/1.0 or HTTP/1.1"),
        }
    }
}

/// The interim answer to `Expect: 100-continue` (RFC 9110 §10.1.1).
pub fn continue_100() -> &'static [u8] {
    b"HTTP/1.1 100 Continue\r\n\r\n"
}

/// The bytes of an answer, ready to be sent in one piece; `None` stands for a request that was not
/// understood or not even read.
pub fn render(
    response: ResponseBox,
    request: Option<&Request>,
    allowed: &AllowedOrigins,
    after: After,
) -> Vec<u8> {
    let status = response.status_code().0;
    let version = HTTPVersion(1, request.map_or(1, |request| request.minor_version));
    let without_body = request.is_some_and(|request| request.method == Method::Head);
    let response = cors::apply(response, request, allowed)
        .with("Server", concat!("wscast/", env!("CARGO_PKG_VERSION")))
        .with("X-Content-Type-Options", "nosniff")
        // tiny_http switches to chunks above a threshold; we always know the length.
        .with_chunked_threshold(usize::MAX);
    let mut bytes = Vec::with_capacity(1024 + response.data_length().unwrap_or(0));
    if response
        .raw_print(&mut bytes, version.clone(), &[], without_body, None)
        .is_err()
    {
        // Writing into memory fails only if a body's reader does; ours read memory.
        bytes.clear();
    }
    if matches!(status, 204 | 304) {
        remove_content_length(&mut bytes);
    }
    insert_connection_header(&mut bytes, status, version, after);
    bytes
}

/// RFC 9110 §8.6: a 204 has no Content-Length; tiny_http writes one.
fn remove_content_length(bytes: &mut Vec<u8>) {
    let line = b"Content-Length: 0\r\n";
    if let Some(at) = bytes.windows(line.len()).position(|window| window == line) {
        bytes.drain(at..at + line.len());
    }
}

/// tiny_http leaves `Connection` and `Upgrade` to its own listener, so they are put in here.
fn insert_connection_header(bytes: &mut Vec<u8>, status: u16, version: HTTPVersion, after: After) {
    let line: &[u8] = match (status, after) {
        // RFC 9110 §15.5.22: a 426 must say to what.
        (426, After::KeepAlive) => b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        (426, After::Close) => b"Connection: Upgrade, close\r\nUpgrade: websocket\r\n",
        (_, After::Close) => b"Connection: close\r\n",
        (_, After::KeepAlive) if version <= HTTPVersion(1, 0) => b"Connection: keep-alive\r\n",
        (_, After::KeepAlive) => b"",
    };
    if let Some(end_of_status_line) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let at = end_of_status_line + 2;
        bytes.splice(at..at, line.iter().copied());
    }
}
