//! HTTP/1.1 on the wire (RFC 9112): bytes to values and back, without sockets or server state.

mod body;
mod chunked;
mod error;
mod head;
mod headers;
mod render;
mod target;

pub use body::BodyLength;
pub use chunked::{ChunkedBody, ChunkedError};
pub use error::HeadError;
pub use head::{HEAD_BYTES_MAX, Head, TOKEN_SUBPROTOCOL, parse};
pub use headers::Headers;
pub use render::Persistence;
pub use target::Query;

pub(crate) use body::CONTINUE_100;
pub(super) use headers::is_token;
pub(super) use render::{render_response, render_stream_head};
