//! The bytes of an answer, as they go to the socket.

use tiny_http::{HTTPVersion, Method, ResponseBox};

use crate::auth::AllowedOrigins;

use super::answer::{WithHeader, data};
use super::{Request, cors};

/// What happens to the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It carries the next request.
    KeepAlive,
    /// It is closed.
    Close,
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
    after: Persistence,
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

/// The head of an answer whose body has no end yet: it ends with the connection.
pub fn render_stream_head(
    content_type: &str,
    request: &Request,
    allowed: &AllowedOrigins,
) -> Vec<u8> {
    let response = data(200, content_type, Vec::new()).with("Cache-Control", "no-store");
    // Proxies that buffer answers would hold events back.
    let response = response.with("X-Accel-Buffering", "no");
    let mut bytes = render(response, Some(request), allowed, Persistence::Close);
    remove_content_length(&mut bytes);
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
fn insert_connection_header(
    bytes: &mut Vec<u8>,
    status: u16,
    version: HTTPVersion,
    after: Persistence,
) {
    let line: &[u8] = match (status, after) {
        // RFC 9110 §15.5.22: a 426 must say to what.
        (426, Persistence::KeepAlive) => b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        (426, Persistence::Close) => b"Connection: Upgrade, close\r\nUpgrade: websocket\r\n",
        (_, Persistence::Close) => b"Connection: close\r\n",
        (_, Persistence::KeepAlive) if version <= HTTPVersion(1, 0) => {
            b"Connection: keep-alive\r\n"
        }
        (_, Persistence::KeepAlive) => b"",
    };
    if let Some(end_of_status_line) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let at = end_of_status_line + 2;
        bytes.splice(at..at, line.iter().copied());
    }
}
