//! HTTP: the requests the server answers, without the sockets they arrive on.
//!
//! `wire` parses and renders, `route` is the table of all paths, `authorize` decides who may ask, and `api` and
//! `assets` hold the handlers.

mod api;
mod assets;
mod authorize;
mod client_address;
mod cors;
mod request;
mod response;
mod route;
mod wire;

pub use response::{error, render};
pub use wire::{BodyLength, HEAD_BYTES_MAX, Head, HeadError, Headers, Persistence, Query, parse};

pub(crate) use authorize::{Requirement, authorize, unauthorized};
pub(crate) use client_address::client_address;
pub(crate) use request::{Admitted, Request};
pub(crate) use response::{
    WithHeader, address_limited, bad_request, connection_refused, event_stream, forbidden,
    rate_limited, render_event_stream, unavailable_for,
};
pub(crate) use route::{Handler, Route, WebSocketKind, find, upgrade_required};
pub(crate) use wire::CONTINUE_100;
