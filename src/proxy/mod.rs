//! How proxies name the clients they connect for, and which proxies are trusted to do so.
//!
//! A proxy names its client in a header of each request ([`forwarded()`]), or once at the start of the
//! connection ([`proxy_header`]). Anyone can write either, so only [`TrustedProxies`] are believed.

mod forwarded;
pub mod proxy_header;
mod trusted;

pub use forwarded::{ForwardingHeader, forwarded};
pub use trusted::TrustedProxies;
