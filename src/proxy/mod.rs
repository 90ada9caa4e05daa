//! What proxies say about who connects to them, and which of them are believed.
//!
//! A proxy names its client in a header of each request ([`forwarded()`]) or once, before anything else
//! ([`preamble`]). Anyone can write either, so it is believed only of those on the list.

mod forwarded;
pub mod preamble;
mod trust;

pub use forwarded::{ForwardingHeader, forwarded};
pub use trust::TrustedProxies;
