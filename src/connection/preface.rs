//! The bytes before the first request: a proxy's PROXY header, and the TLS handshake.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::admission::AdmissionError;
use crate::app::App;
use crate::http::{self, Head, Persistence};
use crate::limits::AddressPermit;
use crate::proxy::proxy_header::{self, Progress, ProxyHeader, ProxyHeaderError};
use crate::socket::tls::{self, TlsAcceptor, TlsError};
use crate::socket::{Peer, Socket};

use super::io::{close_gently, respond, send_all};
use super::reader::RequestReader;

/// Time for the request of a refused client, which decides how it is refused.
const REQUEST_WAIT: Duration = Duration::from_millis(50);

/// Reads the PROXY header and performs the TLS handshake, if the settings require them. Returns whether requests can
/// be read now.
///
/// The PROXY header replaces the proxy's peer and address permit by the client's.
#[inline(never)]
pub(super) fn complete(
    socket: &mut Socket,
    peer: &mut Peer,
    address_permit: &mut Option<AddressPermit>,
    app: &App,
) -> bool {
    // Decided by the proxy's peer, because a Unix socket never speaks TLS.
    let tls = app.tls.as_ref().filter(|_| speaks_tls(*peer, app));
    if app.config.get().proxy_protocol && app.admission.is_trusted_proxy(*peer) {
        match read_client(socket, *peer, app) {
            Ok(Some((client, permit))) => (*peer, *address_permit) = (client, permit),
            Ok(None) => {}
            Err(Refused) => return false,
        }
    }
    tls.is_none_or(|tls| start_tls(socket, *peer, tls, app))
}

/// Returns whether the peer connects with TLS. Unix sockets never do: a proxy has terminated TLS already.
fn speaks_tls(peer: Peer, app: &App) -> bool {
    app.tls.is_some() && peer != Peer::Unix
}

/// The bytes sent to a connection that is rejected without serving its request. `head` is `None` if none arrived.
pub(crate) fn rejection(
    why: AdmissionError,
    head: Option<&Head>,
    peer: Peer,
    app: &App,
) -> Vec<u8> {
    if speaks_tls(peer, app) {
        // The client could read a response only after a handshake, which costs more than a rejection may.
        return tls::INTERNAL_ERROR_ALERT.to_vec();
    }
    let response = http::connection_refused(why);
    let response = match head {
        Some(head) if http::asks_for_events(head, app) => http::as_event_stream(response),
        _ => response,
    };
    http::render(
        response,
        head,
        &app.config.get().allow_origin,
        Persistence::Close,
    )
}

/// The connection was refused, and its client has its response.
struct Refused;

/// Returns the client in the PROXY header with its address permit, or `None` if the proxy connects for itself.
fn read_client(
    socket: &Socket,
    proxy: Peer,
    app: &App,
) -> Result<Option<(Peer, Option<AddressPermit>)>, Refused> {
    let deadline = Instant::now() + app.config.get().limits.head_timeout;
    let client = match read_proxy_header(socket, deadline) {
        Ok(ProxyHeader::Client(address)) => Peer::tcp(address),
        Ok(ProxyHeader::NoClient) => return Ok(None),
        Err(why) => {
            app.metrics.proxy_headers_refused.add(1);
            if why == ProxyHeaderError::Missing {
                app.admission.log_missing_proxy_header(proxy);
            }
            log::debug!("{proxy} refused: {why}");
            return Err(Refused);
        }
    };
    match app.admission.connect_address(client) {
        Ok(permit) => Ok(Some((client, permit))),
        Err(why) => {
            let head = RequestReader::new(socket, REQUEST_WAIT).first_head().ok();
            let bytes = rejection(why, head.as_ref(), proxy, app);
            // The proxy may be gone already.
            send_all(socket, &bytes).ok();
            close_gently(socket);
            Err(Refused)
        }
    }
}

/// Returns whether the socket speaks TLS now. A client that speaks plain HTTP gets its error in plain HTTP.
#[inline(never)]
fn start_tls(socket: &mut Socket, peer: Peer, tls: &TlsAcceptor, app: &App) -> bool {
    let deadline = Instant::now() + app.config.get().limits.head_timeout;
    let Err(why) = socket.start_tls(tls, deadline) else {
        return true;
    };
    app.metrics.tls_refused.add(1);
    log::debug!("{peer} refused: {why}");
    match why {
        TlsError::Closed | TlsError::TimedOut => {}
        TlsError::Refused(_) => close_gently(socket),
        TlsError::NotTls => {
            let message = "this port speaks TLS; use https:// or wss://";
            let response = http::error(400, "tls_required", message);
            // The client may be gone already.
            respond(socket, response, None, Persistence::Close, app).ok();
            close_gently(socket);
        }
    }
    false
}

/// Reads exactly the PROXY header and not a byte more.
fn read_proxy_header(socket: &Socket, deadline: Instant) -> Result<ProxyHeader, ProxyHeaderError> {
    let mut header = Vec::new();
    loop {
        let wanted = match proxy_header::parse(&header)? {
            Progress::Complete(header, _) => return Ok(header),
            Progress::Needs(bytes) => bytes,
        };
        let filled = header.len();
        header.resize(wanted, 0);
        let read = socket.read_before(&mut header[filled..], deadline);
        header.truncate(filled + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(1..) => {}
            // A proxy that sends the header does so at once.
            Err(error) if error.kind() == ErrorKind::TimedOut && filled == 0 => {
                return Err(ProxyHeaderError::Missing);
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                return Err(ProxyHeaderError::TimedOut);
            }
            Ok(0) | Err(_) => return Err(ProxyHeaderError::Closed),
        }
    }
}
