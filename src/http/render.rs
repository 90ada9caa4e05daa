//! Responses as bytes, with the headers that every response has.

use tiny_http::ResponseBox;

use crate::auth::AllowedOrigins;

use super::cors;
use super::response::event_stream;
use super::wire::{Head, Persistence, render_response, render_stream_head};

/// Returns a response's bytes, with the CORS headers. `head` is `None` if the request could not be parsed or was
/// not even read.
pub fn render(
    response: ResponseBox,
    head: Option<&Head>,
    allowed: &AllowedOrigins,
    persistence: Persistence,
) -> Vec<u8> {
    render_response(cors::apply(response, head, allowed), head, persistence)
}

/// Returns the bytes of an event stream's head.
pub(crate) fn render_event_stream(head: &Head, allowed: &AllowedOrigins) -> Vec<u8> {
    render_stream_head(cors::apply(event_stream(), Some(head), allowed), head)
}
