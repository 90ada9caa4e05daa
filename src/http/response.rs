//! Responses: JSON bodies, errors and their headers.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tiny_http::{Header, Response, ResponseBox, StatusCode};

use crate::admission::AdmissionError;
use crate::limits::AddressLimitError;
use crate::protocol::{ErrorCode, RETRY, Refusal, refused_event};

use super::wire::HeadError;

/// Adds a header to a response.
pub(crate) trait WithHeader {
    /// `value` is text that this program wrote; a header that is not ASCII is left out.
    fn with(self, name: &str, value: &str) -> Self;
}

impl WithHeader for ResponseBox {
    fn with(mut self, name: &str, value: &str) -> Self {
        if let Ok(header) = Header::from_bytes(name, value) {
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
    // Structs of strings and numbers: serializing them to memory cannot fail.
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

/// The response of an event stream, without events.
pub(crate) fn event_stream() -> ResponseBox {
    event_stream_of(Vec::new())
}

fn event_stream_of(events: Vec<u8>) -> ResponseBox {
    data(200, "text/event-stream; charset=utf-8", events)
        // Proxies that compress responses would hold events back, and so would those that buffer them.
        .with("Cache-Control", "no-store, no-transform")
        .with("X-Accel-Buffering", "no")
}

/// Turns a response with 429 or 503 into an event stream that ends after an `error` event. An `EventSource` reconnects
/// when a stream ends, but never after another status than 200. Other responses stay as they are.
pub(crate) fn as_event_stream(response: ResponseBox) -> ResponseBox {
    if !matches!(response.status_code().0, 429 | 503) {
        return response;
    }
    let header = |header: &&Header| header.field.equiv("Retry-After");
    let seconds = response.headers().iter().find(header);
    let seconds = seconds.and_then(|header| header.value.as_str().parse().ok());
    let wait = Duration::from_secs(seconds.unwrap_or(0)).max(RETRY);
    // The body is in memory, and it is JSON that this program wrote.
    let body: serde_json::Value =
        serde_json::from_reader(response.into_reader()).unwrap_or_default();
    let mut error = body["error"].clone();
    error["retry_after_ms"] = (wait.as_millis() as u64).into();
    event_stream_of(refused_event(wait, &error.to_string()))
        .with("Retry-After", &wait.as_secs().to_string())
}

/// A JSON error: a code for programs, a sentence for people.
pub fn error(status: u16, code: &str, message: &str) -> ResponseBox {
    json_with_status(
        status,
        &json!({"error": {"code": code, "message": message}}),
    )
}

/// A JSON error with the code and the sentence of a refusal.
pub(crate) fn refused(status: u16, refusal: &Refusal) -> ResponseBox {
    error(status, refusal.code.as_str(), &refusal.message)
}

/// 400 with the code and the sentence of a refusal.
pub(crate) fn bad_request(refusal: &Refusal) -> ResponseBox {
    refused(400, refusal)
}

/// 403 for a client without the right.
pub(crate) fn forbidden(refusal: &Refusal) -> ResponseBox {
    refused(403, refusal)
}

/// 503 for a temporary state: the client may retry after a second.
pub(crate) fn unavailable(code: &str, message: &str) -> ResponseBox {
    error(503, code, message).with("Retry-After", "1")
}

/// 429 for a refusal that names the time to wait, else 503; with the code and the sentence of the refusal.
pub(crate) fn unavailable_for(refusal: &Refusal) -> ResponseBox {
    if let (ErrorCode::RateLimited, Some(wait)) = (refusal.code, refusal.retry_after) {
        return rate_limited(&refusal.message, wait);
    }
    unavailable(refusal.code.as_str(), &refusal.message)
}

/// 503 because the broadcaster did not reply in time.
pub(super) fn busy() -> ResponseBox {
    unavailable("busy", "the server is busy; try again")
}

/// 429 with the time to wait, in whole seconds (RFC 9110 §10.2.3).
pub(crate) fn rate_limited(message: &str, wait: Duration) -> ResponseBox {
    let seconds = wait.as_secs_f64().ceil().max(1.0);
    error(429, ErrorCode::RateLimited.as_str(), message).with("Retry-After", &seconds.to_string())
}

/// 503 or 429 for a connection over the limits of its address.
pub(crate) fn address_limited(error: AddressLimitError) -> ResponseBox {
    match error {
        AddressLimitError::Connections => unavailable(
            "too_many_connections",
            "too many connections from this address; close one or try again later",
        ),
        AddressLimitError::Rate(wait) => {
            rate_limited("this address opens connections too fast", wait)
        }
    }
}

/// 503 or 429 for a connection that was refused before any request was read.
pub(crate) fn connection_refused(why: AdmissionError) -> ResponseBox {
    match why {
        AdmissionError::Address(why) => address_limited(why),
        AdmissionError::ServerFull => {
            unavailable("too_many_connections", "the server is full; try again")
        }
    }
}

impl From<HeadError> for ResponseBox {
    fn from(why: HeadError) -> Self {
        match why {
            HeadError::Bad(rule) => error(400, "bad_request", rule),
            HeadError::TooLarge => error(
                431,
                "head_too_large",
                "send at most 16 KiB of head and 100 headers",
            ),
            HeadError::Coding => error(
                501,
                "unknown_transfer_coding",
                "send no Transfer-Encoding but `chunked`",
            ),
            HeadError::Version => error(505, "http_version", "speak HTTP/1.0 or HTTP/1.1"),
        }
    }
}
