//! A request and its response over an open connection.

use std::time::Instant;

use crate::socket::Socket;
use crate::target_url::TargetUrl;

use super::error::OutgoingError;
use super::request::OutgoingRequest;
use super::response::{OutgoingResponse, ResponseReader};

/// Bytes that are read at once.
const READ_BYTES: usize = 8 * 1024;

/// Returns the head of a request. Fails if a header has a control character, which would start another header.
pub(super) fn head(url: &TargetUrl, request: OutgoingRequest<'_>) -> Result<String, OutgoingError> {
    let OutgoingRequest {
        method,
        headers,
        body,
    } = request;
    let mut head = format!(
        "{method} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: wscast/{}\r\nConnection: close\r\n",
        url.target(),
        url.authority(),
        env!("CARGO_PKG_VERSION"),
    );
    if method != "GET" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        if value.contains(char::is_control) {
            return Err(OutgoingError::InvalidHeader((*name).to_owned()));
        }
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    Ok(head)
}

/// Sends a request and reads its response.
pub(super) fn perform(
    socket: &Socket,
    head: &str,
    body: &[u8],
    body_bytes_max: usize,
    deadline: Instant,
) -> Result<OutgoingResponse, OutgoingError> {
    let sent = socket.send_before(&[head.as_bytes(), body].concat(), deadline);
    let received = receive(socket, body_bytes_max, deadline);
    // A server may refuse a body before it has read it. Its response says more than the failed send.
    match sent {
        Ok(()) => received,
        Err(why) => received.map_err(|_| why.into()),
    }
}

fn receive(
    socket: &Socket,
    body_bytes_max: usize,
    deadline: Instant,
) -> Result<OutgoingResponse, OutgoingError> {
    let mut reader = ResponseReader::new(body_bytes_max);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = socket.read_before(&mut buffer, deadline)?;
        if read == 0 {
            return reader.finish();
        }
        if let Some(response) = reader.push(&buffer[..read])? {
            return Ok(response);
        }
    }
}
