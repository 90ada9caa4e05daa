//! The accept loop of one listening socket. No error ends it, only shutdown.

mod accept_queue;
mod bind;
mod endpoint;
mod inherited;
mod refusals;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::admission::AdmissionError;
use crate::app::App;
use crate::connection::{self, Connection};
use crate::http::Head;
use crate::logging::ThrottledLog;
use crate::socket::{Peer, Socket};
use crate::threads;

use refusals::Refusals;

pub(crate) use accept_queue::log_accept_queue;
pub(crate) use bind::{BindError, Bound, bind_port};
pub(crate) use endpoint::Endpoint;
pub(crate) use inherited::InheritedSocket;

/// Pause after an accept that failed because descriptors or memory ran out.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the server closes its endpoints.
pub(crate) fn run(endpoint: &Endpoint, app: &Arc<App>) {
    let refusals = match Refusals::start() {
        Ok(refusals) => refusals,
        Err(error) => {
            log::error!("cannot start a thread: {error}");
            return;
        }
    };
    let accept_log = ThrottledLog::default();
    loop {
        let accepted = endpoint.accept();
        // A connection that was accepted just before the end is served, because no other process can get it.
        if app.shutdown.is_closing() && accepted.is_err() {
            return;
        }
        match accepted {
            Ok((socket, peer)) => {
                app.metrics.connections_total.add(1);
                start_connection(socket, peer, &refusals, app);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The client disconnected before it was accepted, which is no failure of the server.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {
                app.metrics.accept_errors.add(1);
            }
            Err(error) => {
                app.metrics.accept_errors.add(1);
                accept_log.warn(format_args!("cannot accept: {error}"));
                // The connection stays in the kernel's queue, so an immediate retry would spin.
                app.shutdown.wait_until_closing(PAUSE);
            }
        }
    }
}

/// Starts a thread for an admitted socket; a refused socket gets a response.
fn start_connection(socket: Socket, peer: Peer, refusals: &Refusals, app: &Arc<App>) {
    let refuse = |socket, why: AdmissionError| {
        let app = Arc::clone(app);
        let response = move |head: Option<&Head>| connection::rejection(why, head, peer, &app);
        refusals.refuse(socket, Box::new(response));
    };
    let (permit, address_permit) = match app.admission.connect(peer) {
        Ok(permits) => permits,
        Err(why) => return refuse(socket, why),
    };
    // The socket stays here until the thread takes it, so that the client gets a response if no thread can start.
    let handover = Arc::new(Mutex::new(Some(socket)));
    let gauge = app.metrics.connections.hold();
    let unanswered = app.requests.take();
    let (thread_app, offered) = (Arc::clone(app), Arc::clone(&handover));
    let spawned = threads::spawn_client("connection", move || {
        let taken = offered.lock().take();
        drop(offered);
        if let Some(socket) = taken {
            let connection = Connection {
                socket,
                peer,
                permit,
                gauge,
                address_permit,
                unanswered,
            };
            connection::serve(connection, &thread_app);
        }
    });
    if spawned.is_err() {
        let why = app.admission.refuse_without_thread();
        if let Some(socket) = handover.lock().take() {
            refuse(socket, why);
        }
    }
}
