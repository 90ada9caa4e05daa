//! Accepting: the threads that serve clients accept them too.
//!
//! A thread whose client has gone waits in `accept` for the next one, which costs neither a new thread nor a hand-over
//! between threads. Only a thread that has moved a stream to a new thread ends instead. At least one thread waits at any
//! time: the last one that leaves `accept` with a client first starts another. No error ends the accepting, only
//! shutdown.

mod accept_queue;
mod bind;
mod endpoint;
mod inherited;
mod refusals;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::admission::AdmissionError;
use crate::app::App;
use crate::connection::{self, Connection, Served, StackUse};
use crate::http::Head;
use crate::limits::Permit;
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
/// Threads that wait for a client of one endpoint. Each holds the stack that its earlier clients have used, about
/// 16 KiB, until it ends.
const WAITING_THREADS_MAX: usize = 32;

/// Starts to accept at an endpoint, until the server closes it.
pub(crate) fn start(endpoint: Arc<Endpoint>, app: Arc<App>) -> io::Result<()> {
    let acceptor = Acceptor {
        refusals: Refusals::start()?,
        endpoint,
        app,
        waiting: AtomicUsize::new(0),
        log: ThrottledLog::default(),
    };
    Arc::new(acceptor).start_thread()
}

/// The state that all threads of an endpoint share.
struct Acceptor {
    endpoint: Arc<Endpoint>,
    app: Arc<App>,
    refusals: Refusals,
    /// Threads that wait for a client, or are about to. Each counts until it has a client or ends.
    waiting: AtomicUsize,
    log: ThrottledLog,
}

impl Acceptor {
    /// Starts a thread that serves one client after another.
    fn start_thread(self: &Arc<Self>) -> io::Result<()> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let acceptor = Arc::clone(self);
        threads::spawn_client("connection", move || acceptor.run()).inspect_err(|_| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        })
    }

    /// Accepts and serves clients until other threads suffice, or until it has moved a stream. A panic of a connection ends this thread, which does
    /// not count as waiting then.
    fn run(self: &Arc<Self>) {
        let mut stack = StackUse::Shallow;
        while let Some(connection) = self.next_connection() {
            let served = connection::serve(connection, &mut stack, &self.app);
            // After a move, more streams are likely to come, and this thread could serve none of them itself.
            if served == Served::Moved || !self.wait_again() {
                return;
            }
        }
    }

    /// Waits for a connection. Returns `None` if this thread shall end.
    ///
    /// Not inlined, so that its frame is off the stack while a client is served.
    #[inline(never)]
    fn next_connection(self: &Arc<Self>) -> Option<Connection> {
        // Without a thread that waits, nobody would be served again.
        threads::exit_on_panic("accepting", || {
            loop {
                match self.accept() {
                    Accepted::Connection(connection) => return Some(connection),
                    Accepted::Nothing => {}
                    Accepted::Surplus => {
                        if self.end_unless_last() {
                            return None;
                        }
                    }
                    Accepted::Closed => return None,
                }
            }
        })
    }

    fn accept(self: &Arc<Self>) -> Accepted {
        // Taken first, so that shutdown waits for this thread to find that nothing is accepted any more.
        let unanswered = self.app.requests.take();
        let accepted = self.endpoint.accept();
        let (app, metrics) = (&self.app, &self.app.metrics);
        // A connection that was accepted just before the end is served, because no other process can get it.
        if app.shutdown.is_closing() && accepted.is_err() {
            return Accepted::Closed;
        }
        match accepted {
            Ok((socket, peer)) => {
                metrics.connections_total.add(1);
                self.admit(socket, peer, unanswered)
                    .map_or(Accepted::Nothing, Accepted::Connection)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Accepted::Nothing,
            // No client came in time.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Accepted::Surplus,
            // The client disconnected before it was accepted, which is no failure of the server.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {
                metrics.accept_errors.add(1);
                Accepted::Nothing
            }
            Err(error) => {
                metrics.accept_errors.add(1);
                self.log.warn(format_args!("cannot accept: {error}"));
                // The connection stays in the kernel's queue, so an immediate retry would spin.
                app.shutdown.wait_until_closing(PAUSE);
                Accepted::Surplus
            }
        }
    }

    /// Takes the permits of a connection and makes sure that a thread waits for the next one. A refused socket gets a
    /// response.
    fn admit(
        self: &Arc<Self>,
        socket: Socket,
        peer: Peer,
        unanswered: Option<Permit>,
    ) -> Option<Connection> {
        let (permit, address_permit) = match self.app.admission.connect(peer) {
            Ok(permits) => permits,
            Err(why) => return self.refuse(socket, peer, why),
        };
        let was_last = self.waiting.fetch_sub(1, Ordering::Relaxed) == 1;
        if was_last && self.start_thread().is_err() {
            // This thread has to go on waiting.
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let why = self.app.admission.refuse_without_thread();
            return self.refuse(socket, peer, why);
        }
        Some(Connection {
            socket,
            peer,
            _permit: permit,
            _gauge: self.app.metrics.connections.hold(),
            address_permit,
            unanswered,
        })
    }

    fn refuse(&self, socket: Socket, peer: Peer, why: AdmissionError) -> Option<Connection> {
        let app = Arc::clone(&self.app);
        let response = move |head: Option<&Head>| connection::rejection(why, head, peer, &app);
        self.refusals.refuse(socket, Box::new(response));
        None
    }

    /// Counts this thread as waiting again, unless enough threads wait.
    fn wait_again(&self) -> bool {
        self.change_waiting(|waiting| (waiting < WAITING_THREADS_MAX).then_some(waiting + 1))
    }

    /// No longer counts this thread as waiting, unless it is the last one.
    fn end_unless_last(&self) -> bool {
        self.change_waiting(|waiting| (waiting > 1).then_some(waiting - 1))
    }

    fn change_waiting(&self, change: impl FnMut(usize) -> Option<usize>) -> bool {
        self.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change)
            .is_ok()
    }
}

/// The outcome of one wait for a client.
enum Accepted {
    Connection(Connection),
    /// The socket was refused, or there was none.
    Nothing,
    /// No client came, or none could be accepted: one thread less can wait.
    Surplus,
    /// The server has closed the endpoint.
    Closed,
}
