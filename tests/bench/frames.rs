//! The requests and frames that the load generator and the floor send.

use wscast::protocol::client_frames::{CLOSE, PONG, TEXT, client_frame, server_frame};

/// The code of an ordinary Close (section 7.4.1).
const NORMAL_CLOSURE: u16 = 1000;

/// Returns the request that opens a WebSocket at this path and query.
pub(crate) fn upgrade_request(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n"
    )
}

pub(crate) fn client_text(payload: &[u8]) -> Vec<u8> {
    client_frame(TEXT, payload)
}

pub(crate) fn client_pong(payload: &[u8]) -> Vec<u8> {
    client_frame(PONG, payload)
}

/// Returns a server's text frame of `frame_bytes` in total, or as close to it as headers allow.
pub(crate) fn server_text(frame_bytes: usize) -> Vec<u8> {
    let header_bytes = if frame_bytes > 127 { 4 } else { 2 };
    let payload = vec![b'x'; frame_bytes.saturating_sub(header_bytes)];
    server_frame(TEXT, &payload)
}

pub(crate) fn client_close() -> Vec<u8> {
    client_frame(CLOSE, &NORMAL_CLOSURE.to_be_bytes())
}
