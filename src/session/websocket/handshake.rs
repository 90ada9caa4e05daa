//! The opening handshake (RFC 6455 §4.2): judged header by header, each refusal saying which.

use std::sync::Arc;

use data_encoding::BASE64;
use tiny_http::{Method, ResponseBox};
use tungstenite::handshake::derive_accept_key;

use crate::app::App;
use crate::auth::{AuthError, Identity};
use crate::http::{self, BodyLength, Head, Request, WebSocketKind, WithHeader, error};
use crate::limits::{AddressLimitError, AddressPermit};
use crate::protocol::{CloseCode, ErrorCode, Refusal, RoomName, Scope, Since};
use crate::rooms::Seat;

/// A key is 16 bytes in base64 (RFC 6455 §4.1).
const KEY_BYTES: usize = 16;

/// A handshake that succeeded, not yet answered.
pub enum AcceptedHandshake {
    /// `/ws`
    Session {
        /// The answer's bytes.
        response: String,
        /// What the session begins with.
        entry: Entry,
        /// Within what the ids of its publishes are compared, if it chose that.
        scope: Option<Scope>,
        /// Its place at its address, if its connection has none.
        place: Option<AddressPermit>,
    },
    /// `/echo`
    Echo {
        /// The answer's bytes.
        response: String,
        /// As for a session.
        place: Option<AddressPermit>,
    },
}

/// What a session begins with.
pub enum Entry {
    /// The client is known and is welcomed in these rooms.
    Known {
        /// Who it is.
        identity: Arc<Identity>,
        /// The rooms the client starts in.
        rooms: Vec<WantedRoom>,
    },
    /// It has yet to send a token; then it enters these rooms.
    Unknown {
        /// Which, as it asked for them.
        rooms: RoomsAsked,
    },
    /// It is told why it may not enter: a page cannot read the status of a refused handshake, but it
    /// can read a Close frame.
    Refused(CloseCode),
}

/// Rooms with where the client's knowledge of each ends.
pub type RoomsAsked = Vec<(RoomName, Option<Since>)>;

/// A room that a client asks for on connecting.
pub struct WantedRoom {
    /// Its seat in the room.
    pub seat: Seat,
    /// Where the client's knowledge of it ends.
    pub since: Option<Since>,
}

impl AcceptedHandshake {
    /// The 101 that completes the handshake.
    pub fn response(&self) -> &str {
        match self {
            Self::Session { response, .. } | Self::Echo { response, .. } => response,
        }
    }
}

/// Why a handshake is refused.
enum Refused {
    /// 400: this header or method is wrong.
    Malformed(&'static str),
    /// 426: another version of the protocol.
    Version,
    /// 403: the page's origin is not on the list.
    Origin,
    /// 400: a parameter, or the rooms asked for, cannot be taken.
    Query(Refusal),
    /// 401: the token grants nothing.
    Token(AuthError),
    /// 403: the token does not grant one of the rooms.
    Room(Refusal),
    /// 503: there is no place for it in one of the rooms, or for another room.
    Full(Refusal),
    /// 503 or 429: its address has too many connections, or makes them too fast.
    AddressLimitError(AddressLimitError),
}

pub(super) fn accept(
    request: &Request,
    kind: WebSocketKind,
    app: &App,
) -> Result<AcceptedHandshake, ResponseBox> {
    judge(request, kind, app).map_err(|refused| {
        app.metrics.handshakes_refused.add(1);
        refused.into_response()
    })
}

fn judge(request: &Request, kind: WebSocketKind, app: &App) -> Result<AcceptedHandshake, Refused> {
    let accept_key = check_headers(&request.head)?;
    if !app
        .admission
        .allows_origins(request.head.headers.lines("Origin"))
    {
        return Err(Refused::Origin);
    }
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept_key}\r\n\r\n"
    );
    let place = app
        .admission
        .open_stream(request.peer)
        .map_err(Refused::AddressLimitError);
    if kind == WebSocketKind::Echo {
        let place = place?;
        return Ok(AcceptedHandshake::Echo { response, place });
    }
    let scope = request.session().map_err(Refused::Query)?;
    let asked = rooms_asked(request, app)?;
    let entered = place.and_then(|place| Ok((enter(request, asked, app)?, place)));
    let (entry, place) = match entered {
        Err(refused) if is_page(request) => (Entry::Refused(refused.close_code()?), None),
        entered => entered?,
    };
    Ok(AcceptedHandshake::Session {
        response,
        entry,
        scope,
        place,
    })
}

/// Only browsers send an Origin, and they always do (RFC 6455 §4.1).
fn is_page(request: &Request) -> bool {
    request.head.headers.contains("Origin")
}

fn enter(request: &Request, asked: RoomsAsked, app: &App) -> Result<Entry, Refused> {
    match app.admission.identify(request.head.token(), request.peer) {
        Ok(identity) => {
            let rooms = open_rooms(asked, &identity, app)?;
            Ok(Entry::Known { identity, rooms })
        }
        Err(AuthError::TokenNeeded) => Ok(Entry::Unknown { rooms: asked }),
        Err(why) => Err(Refused::Token(why)),
    }
}

/// Opens the rooms that a client starts in, all of them or none.
fn open_rooms(
    asked: RoomsAsked,
    identity: &Identity,
    app: &App,
) -> Result<Vec<WantedRoom>, Refused> {
    let opened = asked.into_iter().map(|(name, since)| {
        identity.may_subscribe(&name).map_err(Refused::Room)?;
        let seat = app.admission.take_seat(&name).map_err(Refused::Full)?;
        Ok(WantedRoom { seat, since })
    });
    opened.collect()
}

/// The same for a client that came without a token and has sent it now.
pub(super) fn open_later(
    asked: RoomsAsked,
    identity: &Identity,
    app: &App,
) -> Result<Vec<WantedRoom>, Refusal> {
    open_rooms(asked, identity, app).map_err(|refused| match refused {
        Refused::Room(refusal) | Refused::Full(refusal) => refusal,
        _ => Refusal::new(ErrorCode::Forbidden, "these rooms cannot be entered"),
    })
}

/// Gives the value of `Sec-WebSocket-Accept`.
fn check_headers(head: &Head) -> Result<String, Refused> {
    if head.method != Method::Get {
        return Err(Refused::Malformed("a WebSocket handshake is a GET"));
    }
    if head.minor_version < 1 {
        return Err(Refused::Malformed("a WebSocket handshake is HTTP/1.1"));
    }
    if head.body != BodyLength::None {
        return Err(Refused::Malformed("a WebSocket handshake has no body"));
    }
    if !head.headers.lists("Upgrade", "websocket") {
        return Err(Refused::Malformed("the Upgrade header must be `websocket`"));
    }
    if !head.headers.lists("Connection", "upgrade") {
        return Err(Refused::Malformed(
            "the Connection header must list `Upgrade`",
        ));
    }
    match head.headers.get("Sec-WebSocket-Version") {
        Some("13") => {}
        _ => return Err(Refused::Version),
    }
    let Some(key) = head.headers.get("Sec-WebSocket-Key") else {
        return Err(Refused::Malformed("Sec-WebSocket-Key must stand once"));
    };
    match BASE64.decode(key.as_bytes()) {
        Ok(bytes) if bytes.len() == KEY_BYTES => Ok(derive_accept_key(key.as_bytes())),
        _ => Err(Refused::Malformed(
            "Sec-WebSocket-Key must be 16 bytes in base64",
        )),
    }
}

fn rooms_asked(request: &Request, app: &App) -> Result<RoomsAsked, Refused> {
    let mut wanted = RoomsAsked::new();
    let mut since = request.positions().map_err(Refused::Query)?.into_iter();
    for name in request.rooms() {
        let name = name.map_err(Refused::Query)?;
        let since = since.next();
        if wanted.iter().all(|(known, _)| *known != name) {
            wanted.push((name, since));
        }
        app.admission
            .check_room_count(wanted.len())
            .map_err(Refused::Query)?;
    }
    if wanted.is_empty() {
        wanted.push((RoomName::lobby(), since.next()));
    }
    Ok(wanted)
}

impl Refused {
    /// What a page is told that is let in to be told; `Err` is for what none of its users can mend, and for
    /// a rush, in which letting everyone in would be what it wants.
    fn close_code(self) -> Result<CloseCode, Self> {
        match self {
            Self::Token(why) => Ok(why.close_code()),
            Self::Room(_) => Ok(CloseCode::Forbidden),
            Self::AddressLimitError(AddressLimitError::Connections) => {
                Ok(CloseCode::TooManyConnections)
            }
            Self::Full(refusal) if refusal.code == ErrorCode::RoomFull => Ok(CloseCode::RoomFull),
            other => Err(other),
        }
    }

    fn into_response(self) -> ResponseBox {
        match self {
            Self::Malformed(why) => error(400, "bad_handshake", why),
            Self::Version => error(426, "websocket_version", "speak WebSocket version 13")
                .with("Sec-WebSocket-Version", "13"),
            Self::Origin => error(
                403,
                "origin_not_allowed",
                "this origin is not on the server's list",
            ),
            Self::Query(refusal) => http::bad_request(&refusal),
            Self::Token(why) => http::unauthorized(&why),
            Self::Room(refusal) => http::forbidden(&refusal),
            Self::Full(refusal) => http::unavailable_for(&refusal),
            Self::AddressLimitError(crowded) => http::address_limited(crowded),
        }
    }
}
