//! The accept loop. No error ends it: only shutdown does.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::app::App;
use crate::connection::{self, Connection};
use crate::http::{self, After};
use crate::limits::Slots;
use crate::socket::{Peer, Socket};
use crate::threads;

/// Pause after an accept that failed for want of something: descriptors, memory.
const PAUSE: Duration = Duration::from_millis(50);
/// Most often the same kind of trouble is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Sockets turned away that wait for their answer to be read.
const REFUSED_MAX: usize = 256;
/// Time such a socket has.
const REFUSED_LINGER: Duration = Duration::from_millis(500);

/// Accepts until shutdown is requested and the listening socket is shut down.
pub fn run(listener: &TcpListener, slots: &Slots, app: &Arc<App>) {
    let mut troubles = Troubles::default();
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
                    troubles.log(why);
                }
            }
            // The client was gone before it was accepted: nothing is wrong with us.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {
                app.metrics.accept_errors.add(1);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                app.metrics.accept_errors.add(1);
                troubles.log(&format!("cannot accept: {error}"));
                // The connection stays in the kernel's queue; trying again at once would spin.
                app.shutdown.wait(PAUSE);
            }
        }
    }
}

fn start_connection(
    socket: TcpStream,
    peer: SocketAddr,
    slots: &Slots,
    app: &Arc<App>,
    refusals: &Sender<Refused>,
) -> Result<(), &'static str> {
    let Some(slot) = slots.take() else {
        turn_away(socket, refusals, app);
        return Err("all connections are taken; --max-connections sets how many there may be");
    };
    // Small frames must not wait for each other (RFC 896); without it they only come later.
    let _unsupported = socket.set_nodelay(true);
    // Shared until the thread has taken it: if there is no thread, the client is still told.
    let handover = Arc::new(Mutex::new(Some(socket)));
    let counted = app.metrics.connections.hold();
    let (theirs, offered) = (Arc::clone(app), Arc::clone(&handover));
    let spawned = threads::spawn_client("connection", move || {
        let taken = take(&offered);
        drop(offered);
        if let Some(socket) = taken {
            let connection = Connection {
                socket: Socket::new(socket),
                peer: Peer::Tcp(peer),
                slot,
                counted,
            };
            connection::serve(connection, &theirs);
        }
    });
    spawned.map_err(|_| {
        if let Some(socket) = take(&handover) {
            turn_away(socket, refusals, app);
        }
        "no more threads: the machine's limit is reached"
    })
}

fn take(handover: &Mutex<Option<TcpStream>>) -> Option<TcpStream> {
    handover
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
}

struct Refused {
    socket: TcpStream,
    until: Instant,
}

/// Says 503 at once. The thread that accepts never waits: whoever reads the answer is waited for
/// elsewhere, and nobody if too many are waited for already.
fn turn_away(socket: TcpStream, refusals: &Sender<Refused>, app: &App) {
    let response = http::busy("too_many_connections", "the server is full; try again");
    let bytes = http::render(response, None, &app.config.allow_origin, After::Close);
    let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
    let _gone = rustix::net::send(&socket, &bytes, flags);
    let _gone = socket.shutdown(Shutdown::Write);
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
            let Some(mut oldest) = waiting.pop_front() else {
                break;
            };
            let mut request = [0; 4096];
            let _nothing_to_read = oldest.socket.set_nonblocking(true);
            let _discarded = oldest.socket.read(&mut request);
        }
    }
}

/// Logs trouble, the same at most once a second however often it strikes.
#[derive(Default)]
struct Troubles {
    logged: Option<Instant>,
    untold: u64,
}

impl Troubles {
    fn log(&mut self, what: &str) {
        let now = Instant::now();
        if self
            .logged
            .is_some_and(|at| now.duration_since(at) < LOG_INTERVAL)
        {
            self.untold += 1;
            return;
        }
        match std::mem::take(&mut self.untold) {
            0 => log::warn!("{what}"),
            more => log::warn!("{what} (and {more} more since the last such line)"),
        }
        self.logged = Some(now);
    }
}
