//! A request to another server, and its bounds.

use std::time::Duration;

/// The bounds of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutgoingLimits {
    /// Time for the look-up of the name, the connection and the TLS handshake.
    pub(crate) connect_timeout: Duration,
    /// Time for everything, from the look-up of the name to the last byte of the response.
    pub(crate) total_timeout: Duration,
    /// Bytes of the response's body that are read. The rest of a longer body is dropped.
    pub(crate) body_bytes_max: usize,
}

/// A request to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutgoingRequest<'a> {
    /// `GET` or `POST`.
    pub(crate) method: &'static str,
    /// Names and values, besides `Host`, `User-Agent`, `Content-Length` and `Connection`.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}
