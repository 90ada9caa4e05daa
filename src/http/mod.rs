//! The HTTP side: a request's head understood strictly, a handler's answer written out.
//!
//! A handler is `fn(&Request, &App) -> ResponseBox` on tiny_http's response types. Nothing here
//! touches a socket; the connection reads and writes.

mod api;
mod assets;
mod cors;
mod head;
mod respond;
mod routes;

pub use head::{Body, Head, HeadError, Request, parse};
pub use respond::{After, busy, continue_100, error, render};
pub use routes::{handle, is_websocket};
