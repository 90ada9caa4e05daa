//! Responses as the bytes that go to the socket.

use std::borrow::Cow;
use std::time::Duration;

use tiny_http::{HTTPVersion, Header, Method, ResponseBox};

use super::head::Head;

/// The state of the connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It carries the next request, if that arrives within this time.
    KeepAlive(Duration),
    /// It is closed.
    Close,
}

/// Returns a response in one piece. `head` is `None` if the request could not be parsed or was not even read.
pub(in crate::http) fn render_response(
    response: ResponseBox,
    head: Option<&Head>,
    persistence: Persistence,
) -> Vec<u8> {
    let status = response.status_code().0;
    let version = HTTPVersion(1, head.map_or(1, |head| head.minor_version));
    let without_body = head.is_some_and(|head| head.method == Method::Head);
    // tiny_http switches to chunks above a threshold; the length is always known here.
    let mut response = response.with_chunked_threshold(usize::MAX);
    for (name, value) in [
        ("Server", concat!("wscast/", env!("CARGO_PKG_VERSION"))),
        ("X-Content-Type-Options", "nosniff"),
    ] {
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
    }
    let mut bytes = Vec::with_capacity(1024 + response.data_length().unwrap_or(0));
    if response
        .raw_print(&mut bytes, version.clone(), &[], without_body, None)
        .is_err()
    {
        // Writing to memory fails only if a body's reader does; all bodies are in memory.
        bytes.clear();
    }
    if matches!(status, 204 | 304) {
        remove_content_length(&mut bytes);
    }
    insert_connection_header(&mut bytes, status, version, persistence);
    bytes
}

/// Returns the head of a response whose body follows: in chunks, or for HTTP/1.0 up to the end of the connection.
pub(in crate::http) fn render_stream_head(response: ResponseBox, head: &Head) -> Vec<u8> {
    let mut bytes = render_response(response, Some(head), Persistence::Close);
    remove_content_length(&mut bytes);
    if head.minor_version > 0 {
        insert_lines(&mut bytes, b"Transfer-Encoding: chunked\r\n");
    }
    bytes
}

/// RFC 9110 §8.6: a 204 has no Content-Length; tiny_http writes one.
fn remove_content_length(bytes: &mut Vec<u8>) {
    let line = b"Content-Length: 0\r\n";
    if let Some(at) = bytes.windows(line.len()).position(|window| window == line) {
        bytes.drain(at..at + line.len());
    }
}

/// tiny_http leaves `Connection` and `Upgrade` to its own listener, so they are inserted here.
fn insert_connection_header(
    bytes: &mut Vec<u8>,
    status: u16,
    version: HTTPVersion,
    persistence: Persistence,
) {
    let lines = match (status, persistence) {
        // RFC 9110 §15.5.22: a 426 must name the protocol to upgrade to.
        (426, Persistence::KeepAlive(_)) => "Connection: Upgrade\r\nUpgrade: websocket\r\n".into(),
        (426, Persistence::Close) => "Connection: Upgrade, close\r\nUpgrade: websocket\r\n".into(),
        (_, Persistence::Close) => "Connection: close\r\n".into(),
        (_, Persistence::KeepAlive(timeout)) => keep_alive_lines(timeout, version),
    };
    insert_lines(bytes, lines.as_bytes());
}

/// Inserts header lines after the status line.
fn insert_lines(bytes: &mut Vec<u8>, lines: &[u8]) {
    if let Some(end_of_status_line) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let at = end_of_status_line + 2;
        bytes.splice(at..at, lines.iter().copied());
    }
}

/// Returns the header that names the idle time after which the connection is closed. A proxy that reused the connection
/// at that moment would fail its client's request.
fn keep_alive_lines(timeout: Duration, version: HTTPVersion) -> Cow<'static, str> {
    match timeout.as_secs() {
        0 if version <= HTTPVersion(1, 0) => "Connection: keep-alive\r\n".into(),
        0 => "".into(),
        seconds => format!("Connection: keep-alive\r\nKeep-Alive: timeout={seconds}\r\n").into(),
    }
}
