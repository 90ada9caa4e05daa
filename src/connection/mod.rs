//! One client's thread: a head is read under a deadline, then HTTP or a WebSocket follows.

mod preface;
mod request;

use std::io;
use std::time::{Duration, Instant};

use tiny_http::ResponseBox;

use crate::app::App;
use crate::http::{self, Body, Persistence, Request};
use crate::limits::{AddressPermit, Permit};
use crate::metrics::GaugeGuard;
use crate::session::websocket::Upgraded;
use crate::session::{sse, websocket};
use crate::socket::{LINGER, LINGER_BYTES_MAX, Peer, Socket};

use preface::begin;
use request::{ReadError, RequestReader};

pub use preface::parting_words;

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
    pub slot: Permit,
    /// Its place in the gauge.
    pub counted: GaugeGuard,
    /// Its place at its address, if that has bounds and is known yet.
    pub place: Option<AddressPermit>,
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
    WebSocket(Box<websocket::AcceptedHandshake>),
    Events(Box<sse::AcceptedStream>),
}

/// What it has become.
struct Streaming {
    stream: Stream,
    /// ClientSelector asked for it.
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
        Stream::Events(accepted) => return sse::serve(accepted, client, peer, socket, app),
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

/// Answers requests until one asks for a WebSocket, whose first bytes may have come already.
///
/// Not inlined: its frame is gone from the stack before the session starts, and each page of stack
/// that is never touched is 4 KiB less for every idle client.
#[inline(never)]
fn serve_http(socket: &Socket, peer: Peer, app: &App) -> Option<Streaming> {
    let mut reader = RequestReader::new(socket, app);
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
                let rest = reader.rest().into();
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
    if sse::is_events(&request) && body == Body::None {
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
        false => Persistence::Close,
    };
    let response = http::slow_down("this address asks too much in too short a time", wait);
    respond(reader.socket, response, Some(request), after, app)
}

fn after(request: &Request, app: &App) -> Persistence {
    match request.keeps_alive() && !app.shutdown.is_requested() {
        true => Persistence::KeepAlive,
        false => Persistence::Close,
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
        Err(response) => respond(
            reader.socket,
            response,
            Some(request),
            Persistence::Close,
            app,
        ),
    }
}

fn stream_events(reader: &RequestReader<'_>, request: &Request, app: &App) -> Served {
    app.metrics.http_requests.add(1);
    match sse::accept(request, app) {
        Ok(accepted) => match send_all(reader.socket, &sse::head(app, request)) {
            Ok(()) => Served::Stream(Stream::Events(accepted), request.peer),
            Err(_) => Served::Over,
        },
        Err(response) => respond(
            reader.socket,
            response,
            Some(request),
            Persistence::Close,
            app,
        ),
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
    respond(socket, response, request, Persistence::Close, app)
}

fn respond(
    socket: &Socket,
    response: ResponseBox,
    request: Option<&Request>,
    after: Persistence,
    app: &App,
) -> Served {
    let bytes = http::render(response, request, &app.config.allow_origin, after);
    let sent = send_all(socket, &bytes);
    match (sent, after) {
        (Ok(()), Persistence::KeepAlive) => Served::Again,
        _ => Served::Over,
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
