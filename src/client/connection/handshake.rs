//! The opening handshake of a client (RFC 6455 §4.1), and what a server says that refuses it.

use std::io::ErrorKind;
use std::time::Instant;

use data_encoding::BASE64;
use serde::Deserialize;
use tungstenite::handshake::derive_accept_key;

use super::address::ServerAddress;
use crate::client::error::ClientError;
use crate::socket::Socket;

/// Longest head of a response, and longest body of a refusal, in bytes.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// Most headers of a response.
const HEADERS_MAX: usize = 64;

/// Sends the request and reads the response. Returns the bytes that came after it: the first frames.
pub(super) fn perform(
    socket: &Socket,
    address: &ServerAddress,
    query: &str,
    token: Option<&str>,
    deadline: Instant,
) -> Result<Vec<u8>, ClientError> {
    let broken = |why: std::io::Error| match why.kind() {
        ErrorKind::TimedOut => ClientError::Unreachable(format!(
            "{address}: the server does not respond; is --url the address of a wscast server?"
        )),
        _ => ClientError::Unreachable(format!("{address}: {why}")),
    };
    let key = BASE64.encode(&rand::random::<[u8; 16]>());
    let request = request(address, query, token, &key);
    socket
        .send_before(request.as_bytes(), deadline)
        .map_err(broken)?;
    let mut received = Vec::new();
    loop {
        if let Some((response, length)) = parse(&received, address)? {
            if response.status == 101 {
                check_key(&response, &key, address)?;
                return Ok(received.split_off(length));
            }
            let length_max = (length + response.body_bytes).min(RESPONSE_BYTES_MAX);
            // The refusal is reported without its reason if the body does not come.
            while received.len() < length_max
                && read_more(socket, &mut received, deadline).is_ok_and(|read| read > 0)
            {
            }
            return Err(refusal(address, &response, &received[length..]));
        }
        if received.len() > RESPONSE_BYTES_MAX {
            return Err(not_http(address));
        }
        if read_more(socket, &mut received, deadline).map_err(broken)? == 0 {
            return Err(ClientError::Unreachable(format!(
                "{address}: the server closed the connection{}",
                if address.has_tls {
                    ""
                } else {
                    "; if it uses TLS, write wss://"
                }
            )));
        }
    }
}

fn request(address: &ServerAddress, query: &str, token: Option<&str>, key: &str) -> String {
    let ServerAddress { path, .. } = address;
    let host = address.authority();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    format!(
        "GET {path}?{query} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nUser-Agent: wscast/{}\r\n{}\r\n",
        env!("CARGO_PKG_VERSION"),
        token.unwrap_or_default()
    )
}

fn read_more(socket: &Socket, received: &mut Vec<u8>, deadline: Instant) -> std::io::Result<usize> {
    let mut buffer = [0; 8 * 1024];
    let read = socket.read_before(&mut buffer, deadline)?;
    received.extend_from_slice(&buffer[..read]);
    Ok(read)
}

/// The parts of a response that a client needs.
struct Response {
    status: u16,
    accept_key: String,
    location: String,
    body_bytes: usize,
}

/// Parses the head of a response; `None` until it is complete.
fn parse(bytes: &[u8], address: &ServerAddress) -> Result<Option<(Response, usize)>, ClientError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(parsed) = response.parse(bytes) else {
        return Err(not_http(address));
    };
    let httparse::Status::Complete(length) = parsed else {
        return Ok(None);
    };
    let header = |name: &str| {
        let mut headers = response.headers.iter();
        let found = headers.find(|header| header.name.eq_ignore_ascii_case(name));
        found.map_or_else(String::new, |header| {
            String::from_utf8_lossy(header.value).trim().to_owned()
        })
    };
    let parts = Response {
        status: response.code.unwrap_or_default(),
        accept_key: header("Sec-WebSocket-Accept"),
        location: header("Location"),
        body_bytes: header("Content-Length").parse().unwrap_or(0),
    };
    Ok(Some((parts, length)))
}

fn check_key(response: &Response, key: &str, address: &ServerAddress) -> Result<(), ClientError> {
    if response.accept_key == derive_accept_key(key.as_bytes()) {
        return Ok(());
    }
    Err(ClientError::Refused(format!(
        "{address}: the response belongs to another handshake; a proxy between is broken"
    )))
}

fn not_http(address: &ServerAddress) -> ClientError {
    let hint = if address.has_tls {
        ""
    } else {
        "; if it uses TLS, write wss://"
    };
    ClientError::Refused(format!("{address}: the server does not speak HTTP{hint}"))
}

/// Returns the line for a response other than 101.
fn refusal(address: &ServerAddress, response: &Response, body: &[u8]) -> ClientError {
    #[derive(Deserialize)]
    struct Body {
        error: Reason,
    }
    #[derive(Deserialize)]
    struct Reason {
        message: String,
    }
    let status = response.status;
    let body: Option<Body> = serde_json::from_slice(body).ok();
    let reason = body.map(|body| crate::client::one_line(&body.error.message));
    let line = match &reason {
        Some(reason) => format!("{address}: {status}: {reason}"),
        None => format!("{address}: the server responds with {status}"),
    };
    match status {
        429 | 500..=599 => ClientError::Unreachable(line),
        401 => ClientError::Refused(format!("{line}; write a token in WSCAST_TOKEN or --token")),
        300..=399 => ClientError::Refused(format!("{line} and names {}", response.location)),
        404 | 405 | 200..=299 => ClientError::Refused(format!(
            "{line}; is the path of --url that of a wscast server?"
        )),
        _ => ClientError::Refused(line),
    }
}
