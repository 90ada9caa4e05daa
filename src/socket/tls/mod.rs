//! TLS (`https`, `wss`) over a socket that is already there: certificates, handshakes, records.
//!
//! Nothing here waits with a lock held. A client's records are sealed and opened under its own lock, and
//! bytes move to and from the socket without blocking; who waits for the socket waits outside.
//!
//! Left out of the build (`--no-default-features`), the same names are types without values.

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod acceptor;
#[cfg(feature = "tls")]
mod session;

use std::fmt;

#[cfg(not(feature = "tls"))]
pub use absent::{Acceptor, Session};
#[cfg(feature = "tls")]
pub use acceptor::Acceptor;
#[cfg(feature = "tls")]
pub use session::Session;

/// A fatal alert in a record of its own (RFC 8446 §6): `internal_error`, for a client that is turned away
/// before anyone reads its hello.
pub const TURNED_AWAY: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// First byte of every handshake (RFC 8446 §5.1).
pub const HANDSHAKE_BYTE: u8 = 22;

/// Why a connection did not come to speak TLS.
#[derive(Debug)]
pub enum TlsError {
    /// What came first is no TLS: an HTTP request, most likely. Nothing was read or sent.
    NotTls,
    /// The client went away.
    Gone,
    /// The deadline passed, or the handshake came in too many pieces.
    TimedOut,
    /// The client's side of it cannot be accepted; an alert has told it why.
    Refused(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTls => f.write_str("what came was not TLS"),
            Self::Gone => f.write_str("the client went away"),
            Self::TimedOut => f.write_str("the client took too long"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}
