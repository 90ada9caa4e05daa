//! HTTP: from a request to its response, without sockets.
//!
//! `wire` parses and renders, `route` is the table of all paths, `authorize` decides who may call, and `api`, `assets`
//! and `docs` hold the handlers.

mod api;
mod assets;
mod authorize;
mod client_address;
mod cors;
#[cfg(feature = "docs")]
mod docs;
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

pub(crate) use authorize::{Requirement, authorize, unauthorized};
pub(crate) use client_address::client_address;
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
