//! The reasons why a request to another server has no response.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use crate::socket::tls::TlsError;

/// The reason why there is no response. Its text is one line, without the URL and without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutgoingError {
    /// The host's name has no address.
    Name(String),
    /// No address accepted a connection.
    Connect(String),
    /// The TLS handshake failed.
    Tls(String),
    /// A deadline passed.
    TimedOut,
    /// The server closed the connection before the response was complete.
    BrokenOff,
    /// The connection failed after it was opened.
    Socket(String),
    /// The response is not HTTP; the text says why.
    NotHttp(&'static str),
    /// A header of the request has a character that no header may have.
    InvalidHeader(String),
}

impl OutgoingError {
    pub(super) fn connecting(address: SocketAddr, why: &io::Error) -> Self {
        match why.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::TimedOut,
            _ => Self::Connect(format!("cannot connect to {address}: {why}")),
        }
    }
}

impl From<io::Error> for OutgoingError {
    fn from(why: io::Error) -> Self {
        match why.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::TimedOut,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => {
                Self::BrokenOff
            }
            _ => Self::Socket(why.to_string()),
        }
    }
}

impl From<TlsError> for OutgoingError {
    fn from(why: TlsError) -> Self {
        match why {
            TlsError::TimedOut => Self::TimedOut,
            TlsError::Closed | TlsError::NotTls => {
                Self::Tls("the server closed the connection during the TLS handshake".to_owned())
            }
            TlsError::Refused(why) if is_untrusted(&why) => Self::Tls(
                "the certificate is from an authority that is not trusted here; name a PEM file with that authority \
                 in SSL_CERT_FILE"
                    .to_owned(),
            ),
            TlsError::Refused(why) => Self::Tls(format!("TLS failed: {why}")),
        }
    }
}

/// Returns whether no trusted authority has signed the certificate, or one of the same name with another key has.
fn is_untrusted(why: &str) -> bool {
    why.contains("UnknownIssuer") || why.contains("BadSignature")
}

impl fmt::Display for OutgoingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(why) | Self::Connect(why) | Self::Tls(why) | Self::Socket(why) => {
                f.write_str(why)
            }
            Self::TimedOut => f.write_str("no response in time"),
            Self::BrokenOff => {
                f.write_str("the connection closed before the response was complete")
            }
            Self::NotHttp(why) => write!(f, "the response is not HTTP/1.1: {why}"),
            Self::InvalidHeader(name) => {
                write!(f, "the header {name} has a character that is not allowed")
            }
        }
    }
}
