//! HTTP: from a request to its response, without sockets.
//!
//! `wire` parses and renders, `route` is the table of all paths, `authorize` decides who may call, and `api`, `assets`
//! and `docs` hold the handlers.

mod api;
mod assets;
mod auth_question;
mod authorize;
mod client_address;
mod cookie;
mod cors;
#[cfg(feature = "docs")]
mod docs;
mod packed;
mod parameters;
mod render;
mod request;
mod response;
mod route;
mod wire;

pub use render::render;
pub use response::error;
pub use wire::{
    BodyLength, ChunkedBody, ChunkedError, HEAD_BYTES_MAX, Head, HeadError, Headers, Persistence,
    Query, TOKEN_SUBPROTOCOL, parse,
};

pub(crate) use auth_question::auth_question;
pub(crate) use authorize::{Requirement, authorize, stream_rooms, unauthorized};
pub(crate) use client_address::client_address;
pub(crate) use cookie::token;
pub(crate) use parameters::{Parameters, check_once};
pub(crate) use render::render_event_stream;
pub(crate) use request::{Admitted, Request};
pub(crate) use response::{
    WithHeader, address_limited, as_event_stream, bad_request, connection_refused, event_stream,
    forbidden, rate_limited, unavailable_for,
};
pub(crate) use route::{
    Handler, Route, WebSocketKind, asks_for_events, asks_for_upgrade, find, upgrade_required,
};
pub(crate) use wire::CONTINUE_100;
