//! An accepted socket: the bytes before HTTP, the HTTP requests, then perhaps a session.

mod http;
mod io;
mod preface;
mod reader;

use crate::app::App;
use crate::limits::{AddressPermit, Permit};
use crate::metrics::GaugeGuard;
use crate::session::{sse, websocket};
use crate::socket::{Peer, Socket};

use self::http::{Stream, Upgrade};

pub(crate) use preface::rejection;

/// An accepted socket and what it holds until it is closed.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    /// The host or proxy that connected.
    pub(crate) peer: Peer,
    /// The permit among the connections of the server.
    pub(crate) permit: Permit,
    pub(crate) gauge: GaugeGuard,
    /// The permit among the connections of the client's address. `None` if the address is unlimited or not known yet.
    pub(crate) address_permit: Option<AddressPermit>,
    /// Held until the first request has its response.
    pub(crate) unanswered: Option<Permit>,
}

/// Serves a connection until it ends.
pub(crate) fn serve(connection: Connection, app: &App) {
    let Connection {
        mut socket,
        mut peer,
        permit: _permit,
        gauge: _gauge,
        mut address_permit,
        unanswered,
    } = connection;
    if !preface::complete(&mut socket, &mut peer, &mut address_permit, app) {
        return;
    }
    let Some(Upgrade { stream, peer, rest }) = http::serve(&socket, peer, unanswered, app) else {
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
