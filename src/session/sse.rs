//! A session over Server-Sent Events: `GET /rooms/{room}/events` streams one room to a client that only reads, and
//! `GET /events?room=` several rooms.
//!
//! The client is a member like any other, with the same outbox. A `Last-Event-ID` resumes: the messages after it come
//! first.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tiny_http::ResponseBox;

use crate::app::App;
use crate::auth::Identity;
use crate::broadcaster::Event;
use crate::http::{self, Admitted, Parameters, Requirement};
use crate::limits::AddressPermit;
use crate::outbox::{Outbox, Wire};
use crate::protocol::{
    ClientId, CloseCode, LastEventId, LastStreamId, Position, RETRY, Refusal, RoomName,
    SessionHash, refused_event,
};
use crate::rooms::{Seat, StreamPositions};
use crate::socket::{Peer, Socket};
use crate::store::StoreError;
use crate::threads;

use super::resume::HeldRoom;
use super::{TOKEN_CHECK_INTERVAL, new_outbox};

/// Bytes that a client may send after its request. They are ignored; more end the stream.
const IGNORED_BYTES_MAX: usize = 16 * 1024;
/// The shortest read time-out, because zero would mean none.
const READ_TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// A request that becomes a stream once its response is sent.
pub(crate) struct AcceptedStream {
    identity: Arc<Identity>,
    /// The session that the client chose, if it chose one.
    session: Option<SessionHash>,
    rooms: Vec<StreamRoom>,
    /// The positions of a stream whose ids hold the position in every room.
    positions: Option<Arc<StreamPositions>>,
    /// The number of newest messages that the client asks for if it does not resume, or cannot.
    last: usize,
    wire: Wire,
    _address_permit: Option<AddressPermit>,
}

/// The parameters of a stream of one room.
const ROOM_PARAMETERS: Parameters = Parameters {
    used: &[],
    unused: &[
        ("room", ROOM_IN_PATH),
        ("me", ROOM_IN_PATH),
        ("since", RESUMED_BY_ID),
        ("epoch", RESUMED_BY_ID),
        ("offset", RESUMED_BY_ID),
        ("after", RESUMED_BY_ID),
    ],
};
/// The parameters of a stream of several rooms.
const ROOMS_PARAMETERS: Parameters = Parameters {
    used: &["room", "me"],
    unused: &[
        ("since", RESUMED_BY_ID),
        ("epoch", RESUMED_BY_ID),
        ("offset", RESUMED_BY_ID),
        ("after", RESUMED_BY_ID),
    ],
};
const RESUMED_BY_ID: &str = "write `last_event_id`, the id of the last event that you have";
const ROOM_IN_PATH: &str = "the room is that of the path; /events?room=a&room=b streams several";

/// A room of a stream.
struct StreamRoom {
    seat: Seat,
    /// The id of the room's last event that the client has.
    last_event_id: LastEventId,
}

/// Reserves the client's seats in the room of the path, or with [`Requirement::ReadRooms`] in those of the query. `Err` is
/// the response if that fails.
pub(crate) fn accept(
    admitted: &Admitted<'_>,
    requirement: Requirement,
    app: &App,
) -> Result<Box<AcceptedStream>, ResponseBox> {
    let request = admitted.request;
    let has_rooms_in_query = requirement == Requirement::ReadRooms;
    let last = request.last().map_err(|why| http::bad_request(&why))?;
    let session = request.session().map_err(|why| http::bad_request(&why))?;
    let names = requested_rooms(admitted, has_rooms_in_query, app)?;
    let address_permit = app
        .admission
        .open_stream(request.peer)
        .map_err(http::address_limited)?;
    let id = request.last_event_id();
    let ids = has_rooms_in_query.then(|| LastStreamId::parse(id));
    let rooms = names.iter().map(|name| {
        let seat = app.admission.take_seat(name, request.peer)?;
        let last_event_id = match &ids {
            Some(ids) => ids.of_room(name),
            None => LastEventId::parse(id),
        };
        Ok(StreamRoom {
            seat,
            last_event_id,
        })
    });
    let rooms: Vec<StreamRoom> = rooms
        .collect::<Result<_, Refusal>>()
        .map_err(|why| http::unavailable_for(&why))?;
    let numberings = rooms.iter().map(|room| &**room.seat.numbering());
    let positions = has_rooms_in_query.then(|| Arc::new(StreamPositions::new(numberings)));
    Ok(Box::new(AcceptedStream {
        identity: Arc::clone(&admitted.identity),
        session: session.as_ref().and_then(SessionHash::of),
        positions,
        rooms,
        last,
        wire: if request.head.minor_version > 0 {
            Wire::ChunkedEvents
        } else {
            Wire::Events
        },
        _address_permit: address_permit,
    }))
}

fn requested_rooms(
    admitted: &Admitted<'_>,
    has_rooms_in_query: bool,
    app: &App,
) -> Result<Vec<RoomName>, ResponseBox> {
    let request = admitted.request;
    let parameters = if has_rooms_in_query {
        &ROOMS_PARAMETERS
    } else {
        &ROOM_PARAMETERS
    };
    let names = parameters.check_names(&request.head.query);
    names.map_err(|why| http::bad_request(&why))?;
    if !has_rooms_in_query {
        let room = request.room().map_err(|why| http::bad_request(&why))?;
        return Ok(vec![room]);
    }
    let rooms = http::stream_rooms(request, &admitted.identity)?;
    let count = app.admission.check_room_count(rooms.len());
    count.map_err(|why| http::bad_request(&why))?;
    Ok(rooms)
}

/// Streams until the client leaves or the server closes.
#[inline(never)]
pub(crate) fn serve(
    accepted: Box<AcceptedStream>,
    client: ClientId,
    peer: Peer,
    socket: Socket,
    app: &App,
) {
    let outbox = new_outbox(client, socket, accepted.wire, app);
    let _gauge = app.metrics.clients.hold();
    let rooms = accepted.rooms.len();
    log::debug!("{client} {peer} opened an event stream of {rooms} room(s)");
    let disconnect = DisconnectOnDrop { app, client };
    let is_live = threads::run_on_deep_stack(|| start(&accepted, &outbox, app));
    // A revocation either finds the client in the broadcaster, or is found here.
    if is_live && app.admission.is_revoked(&accepted.identity) {
        outbox.close(CloseCode::Unauthorized);
    } else if is_live {
        await_end(&outbox, &accepted.identity, app);
    }
    drop(disconnect);
    log::debug!("{client} {peer} closed its event stream");
    outbox.abort();
}

fn push(outbox: &Arc<Outbox>, events: Vec<u8>) {
    outbox.push(&outbox.wire().encode_events(events));
}

/// Makes the client a member of its rooms and sends the messages it missed. Returns whether it is live now.
fn start(accepted: &AcceptedStream, outbox: &Arc<Outbox>, app: &App) -> bool {
    let numberings = accepted.rooms.iter().map(|room| room.seat.numbering());
    let held = app.broadcaster.hold(|hold| Event::Connect {
        outbox: Arc::clone(outbox),
        user: accepted.identity.user.clone(),
        session: accepted.session,
        positions: accepted.positions.clone(),
        rooms: numberings.map(Arc::clone).collect(),
        hold,
    });
    let Some(states) = held.filter(|states| states.len() == accepted.rooms.len()) else {
        outbox.close(CloseCode::InternalError);
        return false;
    };
    let rooms = states
        .into_iter()
        .zip(&accepted.rooms)
        .map(|(state, room)| HeldRoom::after_event(app, state, room.last_event_id, accepted.last));
    let Some(rooms) = rooms.collect::<Option<Vec<HeldRoom>>>() else {
        push(outbox, storage_unavailable());
        outbox.close(CloseCode::TryAgainLater);
        return false;
    };
    let positions = accepted.positions.as_deref();
    if let Some(positions) = positions {
        rooms.iter().for_each(|room| positions.start(&room.state));
    }
    push(outbox, joined_events(&rooms, positions));
    rooms.into_iter().all(|room| match positions {
        Some(positions) => room.go_live_in_stream(app, outbox, positions),
        None => room.go_live(app, outbox),
    })
}

/// The first events, one for each room. They carry the positions at which the stream starts, so that a client that
/// receives no message can resume too.
fn joined_events(rooms: &[HeldRoom], positions: Option<&StreamPositions>) -> Vec<u8> {
    let mut events = format!("retry: {}\n", RETRY.as_millis()).into_bytes();
    for HeldRoom { state, .. } in rooms {
        match positions {
            Some(positions) => positions.lock().write_id(&mut events),
            None => {
                let Position { epoch, offset } = state.position;
                events.extend_from_slice(format!("id: {epoch}-{offset}").as_bytes());
            }
        }
        // A struct of strings and numbers: serializing it to memory cannot fail.
        let json = serde_json::to_string(state).unwrap_or_default();
        events.extend_from_slice(format!("\nevent: joined\ndata: {json}\n\n").as_bytes());
    }
    events
}

/// The event before the end of a stream whose missed messages cannot be read now.
fn storage_unavailable() -> Vec<u8> {
    let refusal = Refusal {
        retry_after: Some(RETRY),
        ..Refusal::from(StoreError::Unreachable)
    };
    // A struct of strings and numbers: serializing it to memory cannot fail.
    let json = serde_json::to_string(&refusal).unwrap_or_default();
    refused_event(RETRY, &json)
}

/// Waits for the client to close the socket. Closes the stream when its token expires or the client sends too much,
/// and sends a comment after each ping interval, which detects a client that is gone.
fn await_end(outbox: &Arc<Outbox>, identity: &Identity, app: &App) {
    let ping_interval = app.config.get().limits.ping_interval;
    let socket = outbox.socket();
    let (mut ignored, mut ignored_bytes) = ([0; 256], 0);
    let mut ping_at = Instant::now() + ping_interval;
    while ignored_bytes <= IGNORED_BYTES_MAX {
        let until_ping = ping_at.saturating_duration_since(Instant::now());
        let timeout = match identity.time_left() {
            Some(Duration::ZERO) => return outbox.close(CloseCode::Unauthorized),
            Some(left) => until_ping.min(left).min(TOKEN_CHECK_INTERVAL),
            None => until_ping,
        };
        if socket
            .set_read_timeout(timeout.max(READ_TIMEOUT_MIN))
            .is_err()
        {
            return;
        }
        match socket.read(&mut ignored) {
            Ok(0) => return,
            Ok(read) => ignored_bytes += read,
            // TLS records without data cost work too, so each counts as a byte.
            Err(error) if error.kind() == ErrorKind::Interrupted => ignored_bytes += 1,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let now = Instant::now();
                if now < ping_at {
                    continue;
                }
                // The server has closed the stream, and the client had this long to close the socket.
                if outbox.is_ending() {
                    return;
                }
                push(outbox, b":\n\n".to_vec());
                ping_at = now + ping_interval;
            }
            Err(_) => return,
        }
    }
}

/// Removes the client from its rooms at any end of the stream, also at a panic.
struct DisconnectOnDrop<'a> {
    app: &'a App,
    client: ClientId,
}

impl Drop for DisconnectOnDrop<'_> {
    fn drop(&mut self) {
        let client = self.client;
        self.app.broadcaster.send(Event::Disconnect { client });
    }
}
