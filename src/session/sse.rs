//! `GET /rooms/{room}/events`: a room as Server-Sent Events, for those who only read.
//!
//! The reader is a member like any other and is served through the same outbox; what it missed since
//! its `Last-Event-ID` comes first.

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
use crate::protocol::{ClientId, CloseCode, Frames, Since};
use crate::rooms::Seat;
use crate::session::new_outbox;
use crate::session::resume::HeldRoom;
use crate::socket::{Peer, Socket};
use crate::threads;

/// Bytes a reader may say after its request, which are ignored: it has nothing to say.
const IGNORED_BYTES_MAX: usize = 16 * 1024;
/// A time-out of zero would mean none.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// A request that may be answered with a stream.
pub(crate) struct AcceptedStream {
    identity: Arc<Identity>,
    seat: Seat,
    since: Option<Since>,
    _address_permit: Option<AddressPermit>,
}

/// Reserves a seat for a reader; `Err` is the response if that fails.
pub(crate) fn accept(
    admitted: &Admitted<'_>,
    app: &App,
) -> Result<Box<AcceptedStream>, ResponseBox> {
    let request = admitted.request;
    let room = request.room().map_err(|why| http::bad_request(&why))?;
    let since = request
        .last_event_id()
        .map_err(|why| http::bad_request(&why))?;
    let address_permit = app
        .admission
        .open_stream(request.peer)
        .map_err(http::address_limited)?;
    let seat = app
        .admission
        .take_seat(&room)
        .map_err(|why| http::unavailable_for(&why))?;
    Ok(Box::new(AcceptedStream {
        identity: Arc::clone(&admitted.identity),
        seat,
        since,
        _address_permit: address_permit,
    }))
}

/// Streams until the reader leaves or the server closes. `client` is the reader's name.
pub(crate) fn serve(
    accepted: Box<AcceptedStream>,
    client: ClientId,
    peer: Peer,
    socket: Socket,
    app: &App,
) {
    let outbox = new_outbox(client, socket, Wire::Events, app);
    let _slot = app.sessions.take();
    let _counted = app.metrics.clients.hold();
    log::debug!(
        "{client} {peer} reads {} as events",
        accepted.seat.numbering().name()
    );
    let reader = Reader { app, client };
    stream(&accepted, &outbox, app);
    drop(reader);
    log::debug!("{client} {peer} reads no more");
    outbox.abort();
}

fn stream(accepted: &AcceptedStream, outbox: &Arc<Outbox>, app: &App) {
    if threads::run_on_deep_stack(|| begin(accepted, outbox, app)) {
        await_end(outbox, accepted.identity.time_left(), app);
    }
}

/// Says whether the reader is live.
fn begin(accepted: &AcceptedStream, outbox: &Arc<Outbox>, app: &App) -> bool {
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
    let Some(room) = HeldRoom::new(app, state, accepted.since) else {
        outbox.close(CloseCode::TryAgainLater);
        return false;
    };
    outbox.push(&greeting(&room));
    room.go_live(app, outbox)
}

/// Says where the stream starts, so that a reader who was never sent a message can resume as well.
fn greeting(room: &HeldRoom) -> Frames {
    let (state, recovered) = (&room.state, room.state.recovered);
    let (epoch, offset) = (state.position.epoch, state.position.offset);
    let text = format!(
        "retry: 2000\nid: {epoch}-{offset}\nevent: joined\ndata: {{\"room\":\"{}\",\"epoch\":\"{epoch}\",\
         \"offset\":{offset},\"recovered\":{recovered},\"members\":{}}}\n\n",
        state.room, state.members
    );
    Frames::from(text.into_bytes())
}

/// A reader says nothing; what comes is its leaving, and one that goes on talking is left. Silence is broken
/// by a comment, which finds out whether it is still there. With its token the stream ends.
fn await_end(outbox: &Arc<Outbox>, time_left: Option<Duration>, app: &App) {
    let end = time_left.and_then(|left| Instant::now().checked_add(left));
    let socket = outbox.socket();
    let (mut ignored, mut ignored_bytes) = ([0; 256], 0);
    while ignored_bytes <= IGNORED_BYTES_MAX {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return outbox.close(CloseCode::Unauthorized);
        }
        let silence = app.config.limits.ping_interval;
        let silence = silence.min(left.unwrap_or(silence)).max(SHORTEST_WAIT);
        if socket.set_read_timeout(silence).is_err() {
            return;
        }
        match socket.read(&mut ignored) {
            Ok(0) => return,
            Ok(read) => ignored_bytes += read,
            // Of TLS there may come what says nothing, again and again.
            Err(error) if error.kind() == ErrorKind::Interrupted => ignored_bytes += 1,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                // Closed, and the reader has had all this time to go.
                if outbox.is_ending() {
                    return;
                }
                outbox.push(&Frames::from(b":\n\n".to_vec()));
            }
            Err(_) => return,
        }
    }
}

/// The end of a reader, however it came.
struct Reader<'a> {
    app: &'a App,
    client: ClientId,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let client = self.client;
        self.app.broadcaster.send(Event::Disconnect { client });
    }
}
