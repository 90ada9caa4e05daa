//! What comes before the first request: a proxy's introduction, and TLS.

use std::io::ErrorKind;
use std::time::Instant;

use tiny_http::ResponseBox;

use crate::app::App;
use crate::http::{self, Persistence};
use crate::proxy::proxy_header::{self, Progress, ProxyHeader, ProxyHeaderError};
use crate::socket::tls::{self, Acceptor, TlsError};
use crate::socket::{Peer, Socket};

use super::{Connection, close_gently, respond, send_all};

/// What comes before the first request: a proxy says whom it speaks for, hands are shaken for TLS. Says
/// whether requests can be read now.
#[inline(never)]
pub(super) fn begin(connection: &mut Connection, app: &App) -> bool {
    let tls = app.tls.as_ref();
    let tls = tls.filter(|_| speaks_tls(connection.peer, app));
    let is_proxy = app.config.proxy_protocol && app.is_trusted_proxy(connection.peer);
    if is_proxy && !introduce(connection, app) {
        return false;
    }
    tls.is_none_or(|tls| start_tls(&mut connection.socket, connection.peer, tls, app))
}

/// Proxies on this machine have ended TLS already.
fn speaks_tls(peer: Peer, app: &App) -> bool {
    app.tls.is_some() && peer != Peer::Unix
}

/// What is said to one who is turned away before any request is read.
pub fn parting_words(response: ResponseBox, peer: Peer, app: &App) -> Vec<u8> {
    if speaks_tls(peer, app) {
        // It could read an answer only after a handshake, which is more than it is to cost.
        return tls::TURNED_AWAY.to_vec();
    }
    http::render(response, None, &app.config.allow_origin, Persistence::Close)
}

/// From now on the connection is the client's that the proxy speaks for. Says whether there is such a
/// client, and a place at its address.
fn introduce(connection: &mut Connection, app: &App) -> bool {
    let (socket, proxy) = (&connection.socket, connection.peer);
    let deadline = Instant::now() + app.config.limits.head_timeout;
    let client = match read_proxy_header(socket, deadline) {
        Ok(ProxyHeader::Client(address)) => Peer::Tcp(address),
        Ok(ProxyHeader::NoClient) => return true,
        Err(why) => {
            app.metrics.proxy_headers_refused.add(1);
            log::debug!("{proxy} refused: {why}");
            return false;
        }
    };
    match app.place(client) {
        Ok(place) => {
            (connection.peer, connection.place) = (client, place);
            true
        }
        Err(crowded) => {
            app.metrics.connections_refused.add(1);
            let words = parting_words(http::crowded(crowded), proxy, app);
            let _gone = send_all(socket, &words);
            close_gently(socket);
            false
        }
    }
}

/// Says whether the socket speaks TLS now. Who speaks plain HTTP instead is told so in plain HTTP.
#[inline(never)]
fn start_tls(socket: &mut Socket, peer: Peer, tls: &Acceptor, app: &App) -> bool {
    let deadline = Instant::now() + app.config.limits.head_timeout;
    let Err(why) = socket.start_tls(tls, deadline) else {
        return true;
    };
    app.metrics.tls_refused.add(1);
    log::debug!("{peer} refused: {why}");
    match why {
        TlsError::Gone | TlsError::TimedOut => {}
        TlsError::Refused(_) => close_gently(socket),
        TlsError::NotTls => {
            let why = "this port speaks TLS; use https:// or wss://";
            let response = http::error(400, "tls_required", why);
            let _over = respond(socket, response, None, Persistence::Close, app);
            close_gently(socket);
        }
    }
    false
}

/// Takes the header off a socket, and not a byte more, until the deadline at most.
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
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                return Err(ProxyHeaderError::TimedOut);
            }
            Ok(0) | Err(_) => return Err(ProxyHeaderError::Closed),
        }
    }
}
