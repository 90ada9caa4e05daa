//! The accept loop. No error ends it: only shutdown does.

mod bound;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use tiny_http::ResponseBox;

use crate::app::App;
use crate::connection::{self, Connection};
use crate::http;
use crate::limits::Permits;
use crate::logging::ThrottledLog;
use crate::socket::{Peer, Socket};
use crate::threads;

pub use bound::{Listener, SocketFile};

/// Pause after an accept that failed for want of something: descriptors, memory.
const PAUSE: Duration = Duration::from_millis(50);
/// Sockets turned away that wait for their answer to be read.
const REFUSED_MAX: usize = 256;
/// Time such a socket has.
const REFUSED_LINGER: Duration = Duration::from_millis(500);

/// Accepts until shutdown is requested and the listening socket is shut down.
pub fn run(listener: &Listener, slots: &Permits, app: &Arc<App>) {
    let (refused, failed) = (ThrottledLog::default(), ThrottledLog::default());
    let Some(refusals) = start_refusals() else {
        return;
    };
    loop {
        let accepted = listener.accept();
        if app.shutdown.is_requested() {
            return;
        }
        match accepted {
            Ok((socket, peer)) => {
                app.metrics.connections_total.add(1);
                if let Err(why) = start_connection(socket, peer, slots, app, &refusals) {
                    app.metrics.connections_refused.add(1);
                    match why {
                        Refusal::Machine(why) => refused.log(why),
                        Refusal::Address => {}
                    }
                }
            }
            // The client was gone before it was accepted: nothing is wrong with us.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {
                app.metrics.accept_errors.add(1);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                app.metrics.accept_errors.add(1);
                failed.log(format_args!("cannot accept: {error}"));
                // The connection stays in the kernel's queue; trying again at once would spin.
                app.shutdown.wait(PAUSE);
            }
        }
    }
}

/// Why a socket is turned away.
enum Refusal {
    /// The machine, or the server, has no more to give.
    Machine(&'static str),
    /// Its address has as much as it may have, and that was logged.
    Address,
}

fn start_connection(
    socket: Socket,
    peer: Peer,
    slots: &Permits,
    app: &Arc<App>,
    refusals: &Sender<Refused>,
) -> Result<(), Refusal> {
    let full = || http::unavailable("too_many_connections", "the server is full; try again");
    let address_permit = match app.place(peer) {
        Ok(permit) => permit,
        Err(crowded) => {
            turn_away(socket, peer, http::address_limited(crowded), refusals, app);
            return Err(Refusal::Address);
        }
    };
    let Some(permit) = slots.take() else {
        turn_away(socket, peer, full(), refusals, app);
        return Err(Refusal::Machine(
            "all connections are taken; --max-connections sets how many there may be",
        ));
    };
    // Shared until the thread has taken it: if there is no thread, the client is still told.
    let handover = Arc::new(Mutex::new(Some(socket)));
    let gauge = app.metrics.connections.hold();
    let (theirs, offered) = (Arc::clone(app), Arc::clone(&handover));
    let spawned = threads::spawn_client("connection", move || {
        let taken = take(&offered);
        drop(offered);
        if let Some(socket) = taken {
            let connection = Connection {
                socket,
                peer,
                permit,
                gauge,
                address_permit,
            };
            connection::serve(connection, &theirs);
        }
    });
    spawned.map_err(|_| {
        if let Some(socket) = take(&handover) {
            turn_away(socket, peer, full(), refusals, app);
        }
        Refusal::Machine("no more threads: the machine's limit is reached")
    })
}

fn take(handover: &Mutex<Option<Socket>>) -> Option<Socket> {
    handover
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
}

struct Refused {
    socket: Socket,
    until: Instant,
}

/// Says why at once. The thread that accepts never waits: whoever reads the answer is waited for
/// elsewhere, and nobody if too many are waited for already.
fn turn_away(
    socket: Socket,
    peer: Peer,
    response: ResponseBox,
    refusals: &Sender<Refused>,
    app: &App,
) {
    let _gone = socket.offer(&connection::rejection(response, peer, app));
    socket.finish();
    let _full = refusals.try_send(Refused {
        socket,
        until: Instant::now() + REFUSED_LINGER,
    });
}

/// A socket closed with unread input is reset, and the 503 with it; so its request is read off first.
fn start_refusals() -> Option<Sender<Refused>> {
    let (sender, receiver) = bounded(REFUSED_MAX);
    match threads::spawn_service("refusals", move || read_off(&receiver)) {
        Ok(_detached) => Some(sender),
        Err(error) => {
            log::error!("cannot start a thread: {error}");
            None
        }
    }
}

fn read_off(refused: &Receiver<Refused>) {
    let mut waiting: VecDeque<Refused> = VecDeque::new();
    loop {
        let next = match waiting.front() {
            None => refused.recv().ok(),
            Some(oldest) => refused.recv_deadline(oldest.until).ok(),
        };
        waiting.extend(next);
        if waiting.is_empty() {
            return;
        }
        let now = Instant::now();
        while waiting.len() > REFUSED_MAX || waiting.front().is_some_and(|r| r.until <= now) {
            let Some(oldest) = waiting.pop_front() else {
                break;
            };
            oldest.socket.discard();
        }
    }
}
