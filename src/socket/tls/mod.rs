//! TLS (`https`, `wss`) over a socket: certificates, handshakes, records.
//!
//! Nothing here waits while it holds a lock. A client's records are encrypted and decrypted under the lock of
//! its connection, and bytes move to and from the socket without blocking. Waiting happens outside the lock.
//!
//! In a build without the feature `tls`, all types are `NoTls`, which has no values.

#[cfg(feature = "tls")]
mod acceptor;
#[cfg(feature = "tls")]
mod connection;
#[cfg(feature = "tls")]
mod connector;
#[cfg(not(feature = "tls"))]
mod disabled;
#[cfg(feature = "tls")]
mod handshake_threads;

use std::fmt;

#[cfg(feature = "tls")]
pub(crate) use acceptor::TlsAcceptor;
#[cfg(feature = "tls")]
pub(crate) use connection::TlsConnection;
#[cfg(feature = "tls")]
pub(crate) use connector::TlsConnector;
#[cfg(not(feature = "tls"))]
pub(crate) use disabled::{NoTls as TlsAcceptor, NoTls as TlsConnection, NoTls as TlsConnector};

/// A fatal alert `internal_error` in a record of its own (RFC 8446 §6), for a client that is refused before
/// its handshake.
pub(crate) const INTERNAL_ERROR_ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// First byte of every handshake (RFC 8446 §5.1).
pub(crate) const HANDSHAKE_BYTE: u8 = 22;

/// The reason why a TLS handshake failed.
#[derive(Debug)]
pub(crate) enum TlsError {
    /// The client does not speak TLS; most likely it sent an HTTP request. Nothing was read or sent.
    NotTls,
    /// The client closed the connection.
    Closed,
    /// The deadline passed, or the handshake came in too many pieces.
    TimedOut,
    /// The client's part of the handshake was refused. An alert named the reason.
    Refused(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTls => f.write_str("the client does not speak TLS"),
            Self::Closed => f.write_str("the client closed the connection"),
            Self::TimedOut => f.write_str("the TLS handshake took too long"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}
