//! An accepted socket: the bytes before HTTP, the HTTP requests, then perhaps a session.

mod access;
mod http;
mod io;
mod preface;
mod reader;

use std::sync::Arc;

use crate::app::App;
use crate::limits::{AddressPermit, Permit};
use crate::metrics::GaugeGuard;
use crate::session::{sse, websocket};
use crate::socket::{Peer, Socket};
use crate::threads;

use self::http::{Stream, Upgrade};

pub(crate) use preface::rejection;

/// An accepted socket and what it holds until it is closed.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    /// The host or proxy that connected.
    pub(crate) peer: Peer,
    /// The permit among the connections of the server.
    pub(crate) _permit: Permit,
    pub(crate) _gauge: GaugeGuard,
    /// The permit among the connections of the client's address. `None` if the address is unlimited or not known yet.
    pub(crate) address_permit: Option<AddressPermit>,
    /// The permit among the requests, held until the first one has its response.
    pub(crate) unanswered: Option<Permit>,
}

/// How much of its stack a thread has used. A thread keeps the pages for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StackUse {
    /// No more than a stream needs.
    Shallow,
    /// As much as the response to a request needs, twice as much.
    Deep,
}

/// The outcome of serving a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// It has ended.
    Ended,
    /// It became a stream that continues on a new thread.
    Moved,
}

/// Serves a connection until it ends, or until it became a stream that continues on a new thread: no stream keeps a
/// deep stack for hours.
pub(crate) fn serve(mut connection: Connection, stack: &mut StackUse, app: &Arc<App>) -> Served {
    match connection.open_stream(app) {
        None => *stack = StackUse::Deep,
        Some(upgrade) if *stack == StackUse::Shallow => connection.serve_stream(upgrade, app),
        Some(upgrade) => {
            connection.move_stream(upgrade, app);
            return Served::Moved;
        }
    }
    Served::Ended
}

// Not inlined, like all functions that precede a session; see `http`.
impl Connection {
    /// Serves requests until the connection ends or becomes a stream.
    #[inline(never)]
    fn open_stream(&mut self, app: &App) -> Option<Upgrade> {
        preface::complete(
            &mut self.socket,
            &mut self.peer,
            &mut self.address_permit,
            app,
        )
        .then(|| http::serve(&self.socket, self.peer, self.unanswered.take(), app))?
    }

    #[inline(never)]
    fn serve_stream(self, upgrade: Upgrade, app: &App) {
        let Upgrade {
            stream,
            session: _session,
            peer,
            rest,
            access,
        } = upgrade;
        let client = app.admission.next_client_id();
        match stream {
            Stream::Events(accepted) => sse::serve(accepted, client, peer, self.socket, app),
            Stream::WebSocket(accepted) => {
                let upgraded = websocket::Upgraded {
                    client,
                    peer,
                    socket: self.socket,
                    rest,
                };
                websocket::serve(accepted, upgraded, app);
            }
        }
        if let Some(access) = access {
            access.log(None);
        }
    }

    #[inline(never)]
    fn move_stream(self, upgrade: Upgrade, app: &Arc<App>) {
        // On the heap, because each closure that holds them would deepen the stack of the new thread.
        let stream = Box::new((self, upgrade));
        let app = Arc::clone(app);
        threads::move_to_new_thread("connection", move || {
            let (connection, upgrade) = *stream;
            connection.serve_stream(upgrade, &app);
        });
    }
}
