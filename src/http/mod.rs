//! The HTTP side: a request's head understood strictly, a handler's answer written out.
//!
//! A handler is `fn(&Request, &App) -> ResponseBox` on tiny_http's response types. Nothing here
//! touches a socket; the connection reads and writes.

mod access;
mod answer;
mod api;
mod assets;
mod clients;
mod cors;
mod head;
mod messages;
mod respond;
mod routes;
mod sender;

pub use access::{identify, refused, unauthorized};
pub use answer::{busy, crowded, error, slow_down};
pub use head::{Body, HEAD_BYTES_MAX, Head, HeadError, Request, parse};
pub use respond::{Persistence, continue_100, render, render_stream_head};
pub use routes::{handle, is_websocket};
pub use sender::sender;
