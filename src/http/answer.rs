//! What handlers answer with: JSON bodies, errors, headers.

use std::time::Duration;

use serde::Serialize;
use tiny_http::{Header, Response, ResponseBox, StatusCode};

use crate::limits::AddressLimitError;
use crate::protocol::ErrorCode;

use super::HeadError;

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

/// 429: too much in too short a time, and when it is worth trying again (in whole seconds, RFC 9110
/// §10.2.3).
pub fn slow_down(message: &str, wait: Duration) -> ResponseBox {
    let seconds = wait.as_secs_f64().ceil().max(1.0);
    error(429, ErrorCode::RateLimited.as_str(), message).with("Retry-After", &seconds.to_string())
}

/// One connection too many for its address.
pub fn crowded(crowded: AddressLimitError) -> ResponseBox {
    match crowded {
        AddressLimitError::Connections => busy(
            "too_many_connections",
            "this address has as many connections as it may have; try again",
        ),
        AddressLimitError::Rate(wait) => slow_down("this address makes connections too fast", wait),
    }
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
