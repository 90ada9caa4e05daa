//! Requests of this server to other servers: one request, one response, every wait with a deadline.
//!
//! A connection carries a single request. Redirects are not followed: the response with 3xx is returned as it is. With the
//! feature `tls` a server of `https` must have a certificate of an authority that this system trusts; the variables
//! SSL_CERT_FILE and SSL_CERT_DIR name other authorities.

mod error;
mod exchange;
mod name_lookup;
mod request;
mod response;

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::socket::Socket;
use crate::socket::tls::TlsConnector;
use crate::target_url::TargetUrl;

pub(crate) use self::error::OutgoingError;
pub(crate) use self::request::{OutgoingLimits, OutgoingRequest};
pub(crate) use self::response::OutgoingResponse;

use self::name_lookup::NameLookup;

/// Shortest time that one address of a server is given to accept a connection.
const CONNECT_MIN: Duration = Duration::from_millis(1);

/// Sends requests to one URL.
#[derive(Debug)]
pub(crate) struct OutgoingClient {
    url: TargetUrl,
    lookup: NameLookup,
    /// `Some` if the URL is one of `https`.
    connector: Option<TlsConnector>,
}

impl OutgoingClient {
    /// Prepares requests to a URL. For `https` it reads the authorities that this system trusts. An `Err` is one line.
    pub(crate) fn new(url: TargetUrl) -> Result<Self, String> {
        let connector = match url.has_tls() {
            true => Some(trusted_authorities(&url)?),
            false => None,
        };
        Ok(Self {
            lookup: NameLookup::new(url.host(), url.port()),
            url,
            connector,
        })
    }

    /// Returns the URL; its text has no query, which may hold a secret.
    pub(crate) fn url(&self) -> &TargetUrl {
        &self.url
    }

    /// Sends a request and returns the response, whatever its status.
    ///
    /// Blocks for `total_timeout` at most. The TLS handshake needs a deeper stack than the thread of a client has.
    pub(crate) fn send(
        &self,
        request: OutgoingRequest<'_>,
        limits: OutgoingLimits,
    ) -> Result<OutgoingResponse, OutgoingError> {
        let start = Instant::now();
        let deadline = start + limits.total_timeout;
        let socket = self.connect(deadline.min(start + limits.connect_timeout))?;
        let head = exchange::head(&self.url, request)?;
        exchange::perform(
            &socket,
            &head,
            request.body,
            limits.body_bytes_max,
            deadline,
        )
    }

    fn connect(&self, deadline: Instant) -> Result<Socket, OutgoingError> {
        let addresses = self.lookup.addresses(deadline)?;
        let stream = connect_tcp(&addresses, deadline)?;
        // Fails only if the connection is gone, which the request reports.
        stream.set_nodelay(true).ok();
        let mut socket = Socket::new(stream);
        if let Some(connector) = &self.connector {
            socket.start_tls_with(connector, self.url.host(), deadline)?;
        }
        Ok(socket)
    }
}

#[cfg(feature = "tls")]
fn trusted_authorities(url: &TargetUrl) -> Result<TlsConnector, String> {
    TlsConnector::new(None).map_err(|_| {
        format!(
            "{url}: this system has no certificate authorities; install the package ca-certificates, or name a PEM \
             file in SSL_CERT_FILE"
        )
    })
}

#[cfg(not(feature = "tls"))]
fn trusted_authorities(url: &TargetUrl) -> Result<TlsConnector, String> {
    TlsConnector::new(None).map_err(|why| format!("{url}: {why}"))
}

/// Connects to the first address that accepts. Each address has an equal share of the time that is left.
fn connect_tcp(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, OutgoingError> {
    let mut last = OutgoingError::Name("the name has no address".to_owned());
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - tried) as u32;
        match TcpStream::connect_timeout(address, share.max(CONNECT_MIN)) {
            Ok(stream) => return Ok(stream),
            Err(why) => last = OutgoingError::connecting(*address, &why),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests;
