//! The HTTP requests of one connection, until it closes or becomes a stream.
//!
//! Each request passes the same steps: head, client address, route, rate, authorization, body, handler, response.
//!
//! The functions that precede a session are not inlined into each other. A page of stack that a thread has touched
//! stays in memory until its client disconnects. The deepest call before a session therefore determines how many
//! pages of 4 KiB each idle client keeps.

use std::sync::Arc;
use std::time::Instant;

use tiny_http::ResponseBox;

use crate::app::App;
use crate::http::{
    self, Admitted, Handler, Persistence, Request, Requirement, Route, WebSocketKind,
};
use crate::limits::Permit;
use crate::proxy::proxy_header;
use crate::session::{sse, websocket};
use crate::socket::{Peer, Socket};

use super::access::Access;
use super::io::{close_gently, respond, send_all};
use super::reader::{ReadError, RequestReader};

/// Responses with 429 in a row after which a client's connection is closed. Even these responses cost work, and the
/// rate of new connections is limited too. A trusted proxy's connection stays open, because it carries the requests
/// of other clients.
const RATE_LIMITED_IN_A_ROW_MAX: u32 = 20;

/// A stream that a connection has become.
pub(super) struct Upgrade {
    pub(super) stream: Stream,
    /// The permit among the sessions. Taken before the one of the request is returned, so that shutdown waits for one of
    /// them at any time.
    pub(super) session: Option<Permit>,
    /// The client that asked for it.
    pub(super) peer: Peer,
    /// Bytes received after the request.
    pub(super) rest: Vec<u8>,
    /// Logged once the stream has ended, if accesses are logged.
    pub(super) access: Option<Box<Access>>,
}

/// On the heap, so that the stack of a thread that serves an idle client stays shallow.
pub(super) enum Stream {
    WebSocket(Box<websocket::AcceptedHandshake>),
    Events(Box<sse::AcceptedStream>),
}

/// The state of the connection after a request.
enum Next {
    Request,
    Stream(Stream),
    Close,
}

/// The reply to a request that does not become a stream.
enum Reply {
    Response(ResponseBox),
    /// A response after which the connection closes in any case.
    Last(ResponseBox),
    /// No response: the client disconnected.
    Gone,
}

impl From<ResponseBox> for Reply {
    fn from(response: ResponseBox) -> Self {
        Self::Response(response)
    }
}

impl From<ReadError> for Reply {
    fn from(error: ReadError) -> Self {
        error.into_response().map_or(Self::Gone, Self::Last)
    }
}

/// Serves requests until one becomes a stream. Returns `None` if the connection was closed.
#[inline(never)]
pub(super) fn serve(
    socket: &Socket,
    peer: Peer,
    unanswered: Option<Permit>,
    app: &App,
) -> Option<Upgrade> {
    let mut connection = HttpConnection {
        socket,
        peer,
        reader: RequestReader::new(socket, app.config.get().limits.head_timeout),
        rate_limited_in_a_row: 0,
        unanswered,
        user: None,
        started: Instant::now(),
        app,
    };
    let mut is_first = true;
    loop {
        let request = match connection.read_request(is_first) {
            Ok(request) => request,
            Err(error) => {
                connection.reject(error);
                break;
            }
        };
        // Shutdown waits for the response.
        connection.unanswered = connection.unanswered.or_else(|| app.requests.take());
        let next = match connection.handshake_kind(&request) {
            // Counted by the rate of new connections instead of the rate of requests.
            Some(kind) => connection.upgrade(&request, kind),
            None => connection.serve_request(&request),
        };
        match next {
            Next::Request => {
                is_first = false;
                connection.unanswered = None;
            }
            Next::Stream(stream) => {
                return Some(Upgrade {
                    session: app.sessions.take(),
                    access: connection.access_of_stream(&request, &stream),
                    stream,
                    peer: request.peer,
                    // A copy without spare capacity: the session keeps it as its read buffer.
                    rest: connection.reader.rest().into(),
                });
            }
            Next::Close => break,
        }
    }
    close_gently(socket);
    None
}

struct HttpConnection<'a> {
    socket: &'a Socket,
    /// The host or proxy that sends the requests.
    peer: Peer,
    reader: RequestReader<'a>,
    rate_limited_in_a_row: u32,
    /// Held while a request has no response.
    unanswered: Option<Permit>,
    /// The user of the request, once its token was checked.
    user: Option<Arc<str>>,
    /// When the head of the request had arrived.
    started: Instant,
    app: &'a App,
}

impl HttpConnection<'_> {
    /// Reads a head and finds the client's address. The request is on the heap because a handshake goes deeper while
    /// it is there.
    #[inline(never)]
    fn read_request(&mut self, is_first: bool) -> Result<Box<Request>, ReadError> {
        let head = if is_first {
            self.reader.first_head()?
        } else {
            self.reader
                .next_head(self.app.config.get().limits.keep_alive)?
        };
        (self.user, self.started) = (None, Instant::now());
        let peer = http::client_address(&head, self.peer, self.app);
        Ok(Box::new(Request { head, peer }))
    }

    /// Responds to a head that could not be read or parsed, if its error has a response.
    #[inline(never)]
    fn reject(&self, error: ReadError) {
        if proxy_header::is_start(self.reader.rest()) {
            self.app.admission.log_unexpected_proxy_header(self.peer);
        }
        if let Some(response) = error.into_response() {
            let status = response.status_code().0;
            // The client may be gone already.
            let sent = respond(self.socket, response, None, Persistence::Close, self.app).ok();
            if self.logs_accesses() {
                Access::unparsed(self.peer, status, self.started).log(sent);
            }
        }
    }

    /// The kind of WebSocket that the request asks for, if it asks for one.
    #[inline(never)]
    fn handshake_kind(&self, request: &Request) -> Option<WebSocketKind> {
        let head = &request.head;
        if !http::asks_for_upgrade(head) {
            return None;
        }
        let route = http::find(head, self.app).ok();
        if let Some(Handler::WebSocket(kind)) = route.map(|route| route.handler) {
            return Some(kind);
        }
        let is_of_page = head.is_refused_by_close() && head.headers.contains("Sec-WebSocket-Key");
        is_of_page.then_some(WebSocketKind::Missing)
    }

    /// Serves a request that is not a handshake from its route on.
    #[inline(never)]
    fn serve_request(&mut self, request: &Request) -> Next {
        let route = http::find(&request.head, self.app);
        if let Err(reply) = self.count(request) {
            return match route {
                Ok(route) if route.is_event_stream(&request.head) => {
                    self.refuse_events(reply, request)
                }
                _ => self.respond(reply, request),
            };
        }
        match route {
            Ok(route) => match route.stream_requirement(&request.head) {
                Some(requirement) => self.stream_events(request, requirement, route),
                None => self.call_handler(request, route),
            },
            Err(response) => self.respond(response.into(), request),
        }
    }

    #[inline(never)]
    fn upgrade(&self, request: &Request, kind: WebSocketKind) -> Next {
        match websocket::accept(request, kind, self.app) {
            // The session sends the response, together with its first frame.
            Ok(accepted) => Next::Stream(Stream::WebSocket(accepted)),
            Err(response) => self.respond(Reply::Last(response), request),
        }
    }

    #[inline(never)]
    fn stream_events(
        &mut self,
        request: &Request,
        requirement: Requirement,
        route: &Route,
    ) -> Next {
        let accepted = self
            .admit(request, requirement, route)
            .and_then(|admitted| {
                let accepted = sse::accept(&admitted, requirement, self.app);
                accepted.map_err(Reply::Last)
            });
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(reply) => return self.refuse_events(reply, request),
        };
        let head = http::render_event_stream(&request.head, &self.app.config.get().allow_origin);
        match send_all(self.socket, &head) {
            Ok(()) => Next::Stream(Stream::Events(accepted)),
            Err(_) => Next::Close,
        }
    }

    #[inline(never)]
    fn refuse_events(&self, reply: Reply, request: &Request) -> Next {
        let reply = match reply {
            Reply::Response(response) if request.head.accepts_events() => {
                Reply::Response(http::as_event_stream(response))
            }
            Reply::Last(response) if request.head.accepts_events() => {
                Reply::Last(http::as_event_stream(response))
            }
            reply => reply,
        };
        self.respond(reply, request)
    }

    #[inline(never)]
    fn call_handler(&mut self, request: &Request, route: &Route) -> Next {
        let reply = match self.response(request, route) {
            Ok(response) => Reply::Response(response),
            Err(reply) => reply,
        };
        self.respond(reply, request)
    }

    /// Returns the handler's response; `Err` is the reply of the step that stopped the request.
    fn response(&mut self, request: &Request, route: &Route) -> Result<ResponseBox, Reply> {
        match route.handler {
            Handler::Public(handler) => {
                self.read_body(request, route)?;
                Ok(handler(request, self.app))
            }
            Handler::Private(requirement, handler) => {
                let admitted = self.admit(request, requirement, route)?;
                Ok(handler(&admitted, self.app)?)
            }
            Handler::EventStream(requirement) => {
                self.admit(request, requirement, route)?;
                Ok(http::event_stream())
            }
            Handler::WebSocket(_) => {
                self.read_body(request, route)?;
                Ok(http::upgrade_required())
            }
        }
    }

    /// Counts a request against the rate of its client's address; `Err` is the 429.
    #[inline(never)]
    fn count(&mut self, request: &Request) -> Result<(), Reply> {
        let Err(wait) = self.app.admission.count_request(request.peer) else {
            self.rate_limited_in_a_row = 0;
            self.app.metrics.http_requests.add(1);
            return Ok(());
        };
        self.rate_limited_in_a_row += 1;
        let response = http::rate_limited("too many requests from this address", wait);
        let is_from_proxy = matches!(request.peer, Peer::Forwarded(_));
        if is_from_proxy || self.rate_limited_in_a_row < RATE_LIMITED_IN_A_ROW_MAX {
            Err(Reply::Response(response))
        } else {
            Err(Reply::Last(response))
        }
    }

    /// Authorizes a request, then reads its body.
    fn admit<'r>(
        &mut self,
        request: &'r Request,
        requirement: Requirement,
        route: &Route,
    ) -> Result<Admitted<'r>, Reply> {
        let identity = http::authorize(request, requirement, self.app)?;
        self.user.clone_from(&identity.user);
        let body = self.read_body(request, route)?;
        Ok(Admitted {
            request,
            identity,
            body,
        })
    }

    fn read_body(&mut self, request: &Request, route: &Route) -> Result<Vec<u8>, Reply> {
        let max = route.body_bytes_max(&self.app.config.get().limits);
        Ok(self.reader.read_body(&request.head, max)?)
    }

    /// Sends a reply and decides whether the connection stays open.
    #[inline(never)]
    fn respond(&self, reply: Reply, request: &Request) -> Next {
        let (response, is_last) = match reply {
            Reply::Response(response) => (response, false),
            Reply::Last(response) => (response, true),
            Reply::Gone => {
                self.log_access(request, None, None);
                return Next::Close;
            }
        };
        let status = response.status_code().0;
        // The bytes of an unread body must not be taken for a request.
        let goes_on = !is_last
            && request.head.keeps_alive()
            && !self.reader.has_unread_body()
            && !self.app.shutdown.is_requested();
        let persistence = if goes_on {
            Persistence::KeepAlive(self.app.config.get().limits.keep_alive)
        } else {
            Persistence::Close
        };
        let head = Some(&request.head);
        let sent = respond(self.socket, response, head, persistence, self.app);
        self.log_access(request, Some(status), sent.as_ref().ok().copied());
        match sent {
            Ok(_) if goes_on => Next::Request,
            _ => Next::Close,
        }
    }

    fn logs_accesses(&self) -> bool {
        self.app.config.get().access_log
    }

    /// Logs a request whose response was sent, if accesses are logged.
    #[inline(never)]
    fn log_access(&self, request: &Request, status: Option<u16>, bytes: Option<usize>) {
        if self.logs_accesses() {
            Access::new(request, self.user.clone(), status, self.started).log(bytes);
        }
    }

    /// Returns the access of a request that becomes a stream, if accesses are logged.
    #[inline(never)]
    fn access_of_stream(&self, request: &Request, stream: &Stream) -> Option<Box<Access>> {
        let (status, user) = match stream {
            Stream::WebSocket(accepted) => (101, accepted.user()),
            Stream::Events(_) => (200, self.user.clone()),
        };
        let access = || Access::new(request, user, Some(status), self.started);
        self.logs_accesses().then(|| Box::new(access()))
    }
}
