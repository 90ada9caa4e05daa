//! One client's thread: a head is read under a deadline, then HTTP or a WebSocket follows.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use tiny_http::ResponseBox;

use crate::app::App;
use crate::config::{BODY_BYTES_MAX, LINGER, LINGER_BYTES_MAX};
use crate::events;
use crate::http::{self, After, Body, Head, HeadError, Request};
use crate::limits::{Place, Slot};
use crate::metrics::GaugeGuard;
use crate::proxy::preamble;
use crate::socket::tls::{self, Acceptor, HandshakeError};
use crate::socket::{Peer, Socket};
use crate::websocket::{self, Upgraded};

/// Bytes asked of the socket at a time while a head or a body is read.
const READ_BYTES: usize = 2048;
/// Requests that may be refused one after the other as too many. A client's connection is closed then, since
/// saying so is work too, and new connections are bounded; a proxy's carries the requests of others as well.
const REFUSED_IN_A_ROW_MAX: u32 = 20;
/// Time a client has to take an answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A socket that was accepted, and what it holds for as long as it is open.
pub struct Connection {
    /// The socket.
    pub socket: Socket,
    /// Who connected.
    pub peer: Peer,
    /// Its place among the connections there may be.
    pub slot: Slot,
    /// Its place in the gauge.
    pub counted: GaugeGuard,
    /// Its place at its address, if that has bounds and is known yet.
    pub place: Option<Place>,
}

/// Why reading a request ended the connection.
enum ReadError {
    /// The client closed, or idled past the keep-alive: nothing to answer.
    Closed,
    /// The deadline passed in the middle of a request: 408.
    TimedOut,
    /// The head was refused.
    Refused(HeadError),
    /// The body is longer than we take: 413.
    BodyTooLarge,
    /// The body comes in chunks: 411.
    LengthRequired,
}

/// What became of a request.
enum Served {
    /// An answer was sent and the connection carries the next request.
    Again,
    /// The connection is over.
    Over,
    /// It is a stream now, of this client, and carries no further request.
    Stream(Stream, Peer),
}

/// What a connection can become; on the heap, so that the stack of one that waits stays shallow.
enum Stream {
    WebSocket(Box<websocket::Accepted>),
    Events(Box<events::Accepted>),
}

/// What it has become.
struct Streaming {
    stream: Stream,
    /// Who asked for it.
    peer: Peer,
    /// What has come already of what follows the request.
    rest: Vec<u8>,
}

/// Serves a connection until it ends.
pub fn serve(mut connection: Connection, app: &App) {
    if !begin(&mut connection, app) {
        return;
    }
    let Connection {
        socket,
        peer,
        slot: _slot,
        counted: _counted,
        place: _place,
    } = connection;
    let Some(Streaming { stream, peer, rest }) = serve_http(&socket, peer, app) else {
        return;
    };
    let client = app.name_client();
    let accepted = match stream {
        Stream::WebSocket(accepted) => accepted,
        Stream::Events(accepted) => return events::serve(accepted, client, peer, socket, app),
    };
    websocket::serve(
        accepted,
        Upgraded {
            client,
            peer,
            socket,
            rest,
        },
        app,
    );
}

/// What comes before the first request: a proxy says whom it speaks for, hands are shaken for TLS. Says
/// whether requests can be read now.
#[inline(never)]
fn begin(connection: &mut Connection, app: &App) -> bool {
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
    http::render(response, None, &app.config.allow_origin, After::Close)
}

/// From now on the connection is the client's that the proxy speaks for. Says whether there is such a
/// client, and a place at its address.
fn introduce(connection: &mut Connection, app: &App) -> bool {
    let (socket, proxy) = (&connection.socket, connection.peer);
    let deadline = Instant::now() + app.config.limits.head_timeout;
    let client = match preamble::read(socket, deadline) {
        Ok(preamble::Client::Address(address)) => Peer::Tcp(address),
        Ok(preamble::Client::Unnamed) => return true,
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
        HandshakeError::Gone | HandshakeError::TimedOut => {}
        HandshakeError::Refused(_) => close_gently(socket),
        HandshakeError::NotTls => {
            let why = "this port speaks TLS; use https:// or wss://";
            let response = http::error(400, "tls_required", why);
            let _over = respond(socket, response, None, After::Close, app);
            close_gently(socket);
        }
    }
    false
}

/// Answers requests until one asks for a WebSocket, whose first bytes may have come already.
///
/// Not inlined: its frame is gone from the stack before the session starts, and each page of stack
/// that is never touched is 4 KiB less for every idle client.
#[inline(never)]
fn serve_http(socket: &Socket, peer: Peer, app: &App) -> Option<Streaming> {
    let mut reader = RequestReader {
        socket,
        buffer: Vec::new(),
        refused_in_a_row: 0,
        app,
    };
    let mut wait = app.config.limits.head_timeout;
    let mut first = true;
    loop {
        let served = match reader.next(wait, first) {
            Ok((mut request, body)) => {
                request.peer = http::sender(&request, peer, app);
                serve_request(&mut reader, request, body, app)
            }
            Err(error) => refuse(socket, error, None, app),
        };
        match served {
            Served::Again => {
                wait = app.config.limits.keep_alive;
                first = false;
            }
            // A copy of its own size: the session keeps this allocation as its read buffer.
            Served::Stream(stream, peer) => {
                let rest = reader.buffer.as_slice().into();
                return Some(Streaming { stream, peer, rest });
            }
            Served::Over => {
                close_gently(socket);
                return None;
            }
        }
    }
}

fn serve_request(
    reader: &mut RequestReader<'_>,
    mut request: Request,
    body: Body,
    app: &App,
) -> Served {
    if http::is_websocket(&request, app) {
        return upgrade(reader, &request, body, app);
    }
    if events::is_events(&request) && body == Body::None {
        return stream_events(reader, &request, app);
    }
    if let Err(wait) = app.count_request(request.peer) {
        return slow_down(reader, &request, body, wait, app);
    }
    reader.refused_in_a_row = 0;
    match reader.read_body(&request, body) {
        Ok(bytes) => request.body = bytes,
        Err(error) => return refuse(reader.socket, error, Some(&request), app),
    }
    let after = after(&request, app);
    let response = http::handle(&mut request, app);
    respond(reader.socket, response, Some(&request), after, app)
}

/// The answer to one of too many requests, whose body is not read.
fn slow_down(
    reader: &mut RequestReader<'_>,
    request: &Request,
    body: Body,
    wait: Duration,
    app: &App,
) -> Served {
    reader.refused_in_a_row += 1;
    let is_proxys = matches!(request.peer, Peer::Forwarded(_));
    let has_patience = is_proxys || reader.refused_in_a_row < REFUSED_IN_A_ROW_MAX;
    let goes_on = body == Body::None && has_patience;
    let after = match goes_on {
        true => after(request, app),
        false => After::Close,
    };
    let response = http::slow_down("this address asks too much in too short a time", wait);
    respond(reader.socket, response, Some(request), after, app)
}

fn after(request: &Request, app: &App) -> After {
    match request.keeps_alive() && !app.shutdown.is_requested() {
        true => After::KeepAlive,
        false => After::Close,
    }
}

fn upgrade(reader: &RequestReader<'_>, request: &Request, body: Body, app: &App) -> Served {
    let accepted = if body == Body::None {
        websocket::accept(request, app)
    } else {
        app.metrics.handshakes_refused.add(1);
        Err(http::error(
            400,
            "bad_handshake",
            "a WebSocket handshake has no body",
        ))
    };
    match accepted {
        Ok(accepted) => match send_all(reader.socket, accepted.response().as_bytes()) {
            Ok(()) => Served::Stream(Stream::WebSocket(accepted), request.peer),
            Err(_) => Served::Over,
        },
        Err(response) => respond(reader.socket, response, Some(request), After::Close, app),
    }
}

fn stream_events(reader: &RequestReader<'_>, request: &Request, app: &App) -> Served {
    app.metrics.http_requests.add(1);
    match events::accept(request, app) {
        Ok(accepted) => match send_all(reader.socket, &events::head(app, request)) {
            Ok(()) => Served::Stream(Stream::Events(accepted), request.peer),
            Err(_) => Served::Over,
        },
        Err(response) => respond(reader.socket, response, Some(request), After::Close, app),
    }
}

fn refuse(socket: &Socket, error: ReadError, request: Option<&Request>, app: &App) -> Served {
    let response = match error {
        ReadError::Closed => return Served::Over,
        ReadError::Refused(why) => ResponseBox::from(why),
        ReadError::TimedOut => http::error(408, "request_timeout", "the request took too long"),
        ReadError::BodyTooLarge => {
            http::error(413, "message_too_large", "send at most 1 MiB of body")
        }
        ReadError::LengthRequired => {
            http::error(411, "length_required", "send Content-Length, not chunks")
        }
    };
    respond(socket, response, request, After::Close, app)
}

fn respond(
    socket: &Socket,
    response: ResponseBox,
    request: Option<&Request>,
    after: After,
    app: &App,
) -> Served {
    let bytes = http::render(response, request, &app.config.allow_origin, after);
    let sent = send_all(socket, &bytes);
    match (sent, after) {
        (Ok(()), After::KeepAlive) => Served::Again,
        _ => Served::Over,
    }
}

/// Reads requests off a socket; what follows one stays in the buffer for the next.
struct RequestReader<'a> {
    socket: &'a Socket,
    buffer: Vec<u8>,
    refused_in_a_row: u32,
    app: &'a App,
}

impl RequestReader<'_> {
    /// Waits up to `wait` for a request to begin and up to the head's deadline for it to be complete.
    fn next(&mut self, wait: Duration, first: bool) -> Result<(Request, Body), ReadError> {
        let mut scanned = 0;
        let head_timeout = self.app.config.limits.head_timeout;
        let begun = Instant::now();
        let mut deadline = begun
            + if self.buffer.is_empty() {
                wait
            } else {
                head_timeout
            };
        loop {
            match http::parse(&self.buffer, &mut scanned).map_err(ReadError::Refused)? {
                Some(Head { request, body, len }) => {
                    self.buffer.drain(..len);
                    return Ok((request, body));
                }
                None => {
                    let was_empty = self.buffer.is_empty();
                    self.fill(deadline).map_err(|error| match error {
                        ReadError::TimedOut if was_empty => ReadError::Closed,
                        other => other,
                    })?;
                    if was_empty && !first {
                        deadline = Instant::now() + head_timeout;
                    }
                }
            }
        }
    }

    fn read_body(&mut self, request: &Request, body: Body) -> Result<Vec<u8>, ReadError> {
        let length = match body {
            Body::None => return Ok(Vec::new()),
            Body::Chunked => return Err(ReadError::LengthRequired),
            Body::Length(length) if length > BODY_BYTES_MAX as u64 => {
                return Err(ReadError::BodyTooLarge);
            }
            Body::Length(length) => length as usize,
        };
        if self.buffer.len() < length
            && request.minor_version > 0
            && request.header_lists("Expect", "100-continue")
        {
            send_all(self.socket, http::continue_100()).map_err(|_| ReadError::Closed)?;
        }
        let deadline = Instant::now() + self.app.config.limits.head_timeout;
        while self.buffer.len() < length {
            self.fill(deadline)?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), ReadError> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + READ_BYTES, 0);
        let read = self
            .socket
            .read_before(&mut self.buffer[filled..], deadline);
        self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(ReadError::Closed),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(ReadError::TimedOut),
            Err(_) => Err(ReadError::Closed),
        }
    }
}

/// Sends an answer within a time of its own: a client that does not read holds its thread no longer.
fn send_all(socket: &Socket, bytes: &[u8]) -> io::Result<()> {
    socket.send_before(bytes, Instant::now() + RESPONSE_TIMEOUT)
}

/// Half-closes and reads off what is left, so that unread input does not reset the answer away.
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
