//! A session over Server-Sent Events: `GET /rooms/{room}/events` streams one room to a client that only reads.
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
use crate::http::{self, Admitted};
use crate::limits::AddressPermit;
use crate::outbox::{Outbox, Wire};
use crate::protocol::{ClientId, CloseCode, LastEventId, RETRY, Refusal, refused_event};
use crate::rooms::Seat;
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
    seat: Seat,
    last_event_id: LastEventId,
    wire: Wire,
    _address_permit: Option<AddressPermit>,
}

/// Reserves a seat for the client; `Err` is the response if that fails.
pub(crate) fn accept(
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<Box<AcceptedStream>, ResponseBox> {
    let request = admitted.request;
    let room = request.room().map_err(|why| http::bad_request(&why))?;
    let address_permit = app
        .admission
        .open_stream(request.peer)
        .map_err(http::address_limited)?;
    let seat = app
        .admission
        .take_seat(&room, request.peer)
        .map_err(|why| http::unavailable_for(&why))?;
    Ok(Box::new(AcceptedStream {
        identity: Arc::clone(&admitted.identity),
        seat,
        last_event_id: request.last_event_id(),
        wire: if request.head.minor_version > 0 {
            Wire::ChunkedEvents
        } else {
            Wire::Events
        },
        _address_permit: address_permit,
    }))
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
    // Held until the socket is closed, because shutdown waits for it.
    let _permit = app.sessions.take();
    let _gauge = app.metrics.clients.hold();
    let room = accepted.seat.numbering().name();
    log::debug!("{client} {peer} opened an event stream of {room}");
    let disconnect = DisconnectOnDrop { app, client };
    if threads::run_on_deep_stack(|| start(&accepted, &outbox, app)) {
        await_end(&outbox, &accepted.identity, app);
    }
    drop(disconnect);
    log::debug!("{client} {peer} closed its event stream");
    outbox.abort();
}

fn push(outbox: &Arc<Outbox>, events: Vec<u8>) {
    outbox.push(&outbox.wire().encode_events(events));
}

/// Makes the client a member and sends the messages it missed. Returns whether it is live now.
fn start(accepted: &AcceptedStream, outbox: &Arc<Outbox>, app: &App) -> bool {
    let held = app.broadcaster.hold(|hold| Event::Connect {
        outbox: Arc::clone(outbox),
        user: accepted.identity.user.clone(),
        rooms: vec![Arc::clone(accepted.seat.numbering())],
        hold,
    });
    let Some(state) = held.and_then(|mut states| states.pop()) else {
        outbox.close(CloseCode::InternalError);
        return false;
    };
    let room = match accepted.last_event_id {
        LastEventId::Missing => HeldRoom::new(app, state, None),
        LastEventId::Zero => HeldRoom::from_oldest(app, state),
        LastEventId::Position(since) => HeldRoom::new(app, state, Some(since)),
        LastEventId::Foreign => Some(HeldRoom::not_recovered(app, state)),
    };
    let Some(room) = room else {
        push(outbox, storage_unavailable());
        outbox.close(CloseCode::TryAgainLater);
        return false;
    };
    push(outbox, joined_event(&room));
    room.go_live(app, outbox)
}

/// The first event. It carries the position at which the stream starts, so that a client that receives no message
/// can resume too.
fn joined_event(room: &HeldRoom) -> Vec<u8> {
    let (state, recovered) = (&room.state, room.state.recovered);
    let (epoch, offset) = (state.position.epoch, state.position.offset);
    let retry = RETRY.as_millis();
    let text = format!(
        "retry: {retry}\nid: {epoch}-{offset}\nevent: joined\ndata: {{\"room\":\"{}\",\"epoch\":\"{epoch}\",\
         \"offset\":{offset},\"recovered\":{recovered},\"members\":{}}}\n\n",
        state.room, state.members
    );
    text.into_bytes()
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
    let ping_interval = app.config.limits.ping_interval;
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

/// Removes the client from its room at any end of the stream, also at a panic.
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
