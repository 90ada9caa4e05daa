//! Sockets that were refused: each gets a response that fits its request, and a moment to read it.
//!
//! Closing a socket with unread input sends a reset, which discards the response. The request is therefore drained
//! before the close.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::http::{self, Head};
use crate::socket::Socket;
use crate::threads;

/// Refused sockets that are kept open at the same time.
const REFUSED_SOCKETS_MAX: usize = 256;
/// Time for which each is kept open.
const LINGER: Duration = Duration::from_millis(500);
/// Time for a request to arrive. A client sends it together with the end of the TCP handshake.
const REQUEST_WAIT: Duration = Duration::from_millis(50);
/// Time between two checks of the sockets whose request is awaited.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Returns the response to a request, or to a client that sent none.
type Response = Box<dyn FnOnce(Option<&Head>) -> Vec<u8> + Send>;

/// A handle of the `refusals` thread, which keeps refused sockets open for a moment.
pub(super) struct Refusals(Sender<RefusedSocket>);

struct RefusedSocket {
    socket: Socket,
    close_at: Instant,
    /// The response, until it is sent.
    response: Option<Response>,
    /// The request, as far as it arrived before the response.
    request: Vec<u8>,
    /// The bytes of the request that the parser has seen.
    scanned: usize,
}

impl Refusals {
    /// Starts the thread, which ends when the handle is dropped.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, receiver) = bounded(REFUSED_SOCKETS_MAX);
        threads::spawn_service("refusals", move || run(&receiver))?;
        Ok(Self(sender))
    }

    /// Hands over a socket. The thread sends the response that fits the client's request. Never blocks the accept loop:
    /// if too many refused sockets are open, this socket gets its response now and is closed.
    pub(super) fn refuse(&self, socket: Socket, response: Response) {
        let refused = RefusedSocket {
            socket,
            close_at: Instant::now() + LINGER,
            response: Some(response),
            request: Vec::new(),
            scanned: 0,
        };
        if let Err(refused) = self.0.try_send(refused) {
            refused.into_inner().respond(None);
        }
    }
}

impl RefusedSocket {
    /// Responds if the request is complete, or if none arrived in time.
    fn respond_if_ready(&mut self, now: Instant) {
        if self.response.is_none() {
            return;
        }
        let has_ended = !self.socket.read_now(&mut self.request);
        match http::parse(&self.request, &mut self.scanned) {
            Ok(Some(head)) => self.respond(Some(&head)),
            Ok(None) if !has_ended && now + LINGER < self.close_at + REQUEST_WAIT => {}
            Ok(None) | Err(_) => self.respond(None),
        }
    }

    /// Sends the response. Bytes that the socket does not take at once are dropped.
    fn respond(&mut self, head: Option<&Head>) {
        if let Some(response) = self.response.take() {
            // The client may be gone already.
            self.socket.offer(&response(head)).ok();
            self.socket.finish();
            self.request = Vec::new();
        }
    }
}

/// Responds to sockets, then drains and closes them in the order in which they were refused, which is that of their
/// deadlines.
fn run(refused: &Receiver<RefusedSocket>) {
    let mut open: VecDeque<RefusedSocket> = VecDeque::new();
    loop {
        let awaits_request = open.iter().any(|refused| refused.response.is_some());
        let next = match open.front() {
            None => refused.recv().ok(),
            Some(oldest) => {
                let poll_at = awaits_request.then(|| Instant::now() + POLL_INTERVAL);
                let wake_at = poll_at.map_or(oldest.close_at, |at| at.min(oldest.close_at));
                refused.recv_deadline(wake_at).ok()
            }
        };
        open.extend(next);
        if open.is_empty() {
            return;
        }
        let now = Instant::now();
        for refused in &mut open {
            refused.respond_if_ready(now);
        }
        while open.len() > REFUSED_SOCKETS_MAX || open.front().is_some_and(|r| r.close_at <= now) {
            let Some(mut oldest) = open.pop_front() else {
                break;
            };
            oldest.respond(None);
            oldest.socket.discard();
        }
    }
}
