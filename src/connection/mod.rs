//! One accepted socket: what precedes HTTP, the HTTP requests, then perhaps a session.

mod http;
mod preface;
mod reader;

use std::io;
use std::time::{Duration, Instant};

use tiny_http::ResponseBox;

use crate::app::App;
use crate::http::{Head, Persistence, render};
use crate::limits::{AddressPermit, Permit};
use crate::metrics::GaugeGuard;
use crate::session::{sse, websocket};
use crate::socket::{LINGER, LINGER_BYTES_MAX, Peer, Socket};

use self::http::{Stream, Upgrade};

pub(crate) use preface::rejection;

/// Time for a client to take a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// An accepted socket and what it holds until it is closed.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    /// The host or proxy that connected.
    pub(crate) peer: Peer,
    /// Its share of the connections the server can have.
    pub(crate) permit: Permit,
    pub(crate) gauge: GaugeGuard,
    /// Its share of the connections of its address, if that is limited and known yet.
    pub(crate) address_permit: Option<AddressPermit>,
}

/// Serves a connection until it ends.
pub(crate) fn serve(mut connection: Connection, app: &App) {
    if !preface::complete(&mut connection, app) {
        return;
    }
    let Connection {
        socket,
        peer,
        permit: _permit,
        gauge: _gauge,
        address_permit: _address_permit,
    } = connection;
    let Some(Upgrade { stream, peer, rest }) = http::serve(&socket, peer, app) else {
        return;
    };
    let client = app.admission.next_client_id();
    match stream {
        Stream::Events(accepted) => sse::serve(accepted, client, peer, socket, app),
        Stream::WebSocket(accepted) => {
            let upgraded = websocket::Upgraded {
                client,
                peer,
                socket,
                rest,
            };
            websocket::serve(accepted, upgraded, app);
        }
    }
}

/// Renders and sends a response. `head` is `None` if the request could not be parsed or was not even read.
fn respond(
    socket: &Socket,
    response: ResponseBox,
    head: Option<&Head>,
    persistence: Persistence,
    app: &App,
) -> io::Result<()> {
    let bytes = render(response, head, &app.config.allow_origin, persistence);
    send_all(socket, &bytes)
}

/// Sends within a time of its own, so that a client that does not read cannot hold its thread.
fn send_all(socket: &Socket, bytes: &[u8]) -> io::Result<()> {
    socket.send_before(bytes, Instant::now() + RESPONSE_TIMEOUT)
}

/// Half-closes and drains the input, because closing a socket with unread input would reset the response away.
fn close_gently(socket: &Socket) {
    socket.finish();
    let deadline = Instant::now() + LINGER;
    let (mut discarded, mut bytes) = ([0; 512], 0);
    while let Ok(read @ 1..) = socket.read_before(&mut discarded, deadline)
        && bytes < LINGER_BYTES_MAX
    {
        bytes += read;
    }
}
