//! Continuing after a gap: the member is held, the missed messages are read, then the held messages follow.
//!
//! There is no gap and no duplicate. The messages are read on the client's own thread, so no other client waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::App;
use crate::broadcaster::ReleaseOutcome;
use crate::outbox::{Outbox, Wire};
use crate::protocol::{
    CloseCode, Epoch, FrameBuffer, PAGE_BYTES_MAX, PAGE_MESSAGES_MAX, Page, Position, Publication,
    RoomName, RoomState, Since, write_event,
};
use crate::store::{HistoryQuery, StoreError};
use crate::threads::REPLY_TIMEOUT;

/// Time between two attempts to release a member on a node that is behind.
const BEHIND_INTERVAL: Duration = Duration::from_millis(5);

/// A room in which the client is a held member.
#[derive(Debug)]
pub(crate) struct HeldRoom {
    /// The state to send to the client; its messages start after `state.position`.
    pub(crate) state: RoomState,
    /// The offset up to which the store must be read before the member can be released.
    target: u64,
}

impl HeldRoom {
    /// Decides whether all missed messages can be delivered; `state` is the broadcaster's. `None` if the store cannot
    /// be read now, so that the client must try again later.
    pub(crate) fn new(app: &App, mut state: RoomState, since: Option<Since>) -> Option<Self> {
        let target = state.position.offset;
        if let Some(since) = since {
            state.recovered = is_recoverable(app, &state, since)?;
            if state.recovered {
                state.position.offset = since.offset;
                app.metrics.recovered.add(1);
            } else {
                app.metrics.not_recovered.add(1);
            }
        }
        Some(Self { state, target })
    }

    /// Starts after the current position, for a client whose own position is unknown.
    pub(crate) fn not_recovered(app: &App, state: RoomState) -> Self {
        app.metrics.not_recovered.add(1);
        let target = state.position.offset;
        Self { state, target }
    }

    /// Starts with the oldest message that the store has. It is recovered if that is the first of the room. `None` if
    /// the store cannot be reached.
    pub(crate) fn from_oldest(app: &App, state: RoomState) -> Option<Self> {
        let Position { epoch, offset } = state.position;
        let query = HistoryQuery {
            since: Some(0),
            messages_max: 1,
            bytes_max: 1,
            until: None,
        };
        let numbering = app.broker.find(&state.room);
        let page = numbering.and_then(|numbering| {
            let page = numbering.map(|numbering| app.broker.history(&numbering, query));
            page.transpose()
        });
        let oldest = match page {
            Ok(Some(page)) if page.epoch == epoch => page.first.min(offset + 1),
            Err(StoreError::Unreachable) => return None,
            _ => offset + 1,
        };
        let since = Since {
            offset: oldest - 1,
            epoch: Some(epoch),
        };
        let is_complete = oldest == 1;
        let mut room = Self::new(app, state, Some(since))?;
        room.state.recovered &= is_complete;
        Some(room)
    }

    /// Sends the missed messages and releases the member. The client must have been sent `state` before. Returns
    /// whether the session continues.
    pub(crate) fn go_live(self, app: &App, outbox: &Arc<Outbox>) -> bool {
        let room = &self.state.room;
        let Position { epoch, offset } = self.state.position;
        let (mut reached, mut target) = (offset, self.target);
        let behind_until = Instant::now() + REPLY_TIMEOUT;
        loop {
            while reached < target {
                match send_page(app, outbox, room, epoch, reached, target) {
                    Some(last) => reached = last,
                    None => return false,
                }
            }
            match app
                .broadcaster
                .release(outbox.client(), room.clone(), reached)
            {
                Some(ReleaseOutcome::Live) => return true,
                Some(ReleaseOutcome::ReadOn(offset)) => target = offset,
                Some(ReleaseOutcome::Behind) if Instant::now() < behind_until => {
                    std::thread::park_timeout(BEHIND_INTERVAL);
                }
                Some(ReleaseOutcome::Behind) | None => return false,
            }
        }
    }
}

/// Returns whether the store has every message after `since`. `None` if it cannot be read now.
///
/// A client may have a later offset than this node, because it came from a node that was faster. The store decides
/// whether such an offset exists.
fn is_recoverable(app: &App, state: &RoomState, since: Since) -> Option<bool> {
    let Position { epoch, offset } = state.position;
    if since.epoch.is_some_and(|theirs| theirs != epoch) {
        return Some(false);
    }
    if since.offset == offset {
        return Some(true);
    }
    let query = HistoryQuery {
        since: Some(since.offset),
        messages_max: 1,
        bytes_max: 1,
        until: Some(offset),
    };
    let page = read(app, &state.room, query).ok()?;
    // A store that was restored from a backup may end before messages that were delivered.
    let has_all = |page: Page| page.contiguous && page.epoch == epoch && page.last >= offset;
    Some(page.is_some_and(has_all))
}

/// Reads a page; `None` if the store does not know the room.
fn read(app: &App, room: &RoomName, query: HistoryQuery) -> Result<Option<Page>, StoreError> {
    let Some(numbering) = app.broker.find(room)? else {
        return Ok(None);
    };
    app.broker.history(&numbering, query).map(Some)
}

/// Returns the messages between two offsets that fit into a page, up to a gap; the close code if there are none.
fn missed_messages(
    app: &App,
    room: &RoomName,
    epoch: Epoch,
    reached: u64,
    target: u64,
) -> Result<Vec<Arc<Publication>>, CloseCode> {
    let query = HistoryQuery {
        since: Some(reached),
        messages_max: PAGE_MESSAGES_MAX,
        bytes_max: PAGE_BYTES_MAX,
        until: None,
    };
    // After a failure the client reconnects and learns whether there is a gap.
    let Ok(Some(mut page)) = read(app, room, query) else {
        return Err(CloseCode::TryAgainLater);
    };
    if page.epoch != epoch {
        return Err(CloseCode::TryAgainLater);
    }
    let offsets = page.messages.iter().map(|message| message.offset);
    let readable = offsets
        .zip(reached + 1..=target)
        .take_while(|(found, expected)| found == expected)
        .count();
    page.messages.truncate(readable);
    match readable {
        0 if page.first > reached + 1 => Err(CloseCode::SlowConsumer),
        0 => Err(CloseCode::TryAgainLater),
        _ => Ok(page.messages),
    }
}

/// Sends the messages after `reached` and returns the last offset sent.
///
/// `None` if the session ends. A client that reads more slowly than history is dropped is closed as a slow consumer.
/// If the store fails, the client is closed and must try again later. Both receive the gap when they resume.
fn send_page(
    app: &App,
    outbox: &Arc<Outbox>,
    room: &RoomName,
    epoch: Epoch,
    reached: u64,
    target: u64,
) -> Option<u64> {
    let messages = missed_messages(app, room, epoch, reached, target)
        .map_err(|code| outbox.close(code))
        .ok()?;
    let last = messages.last()?.offset;
    app.metrics.deliveries.add(messages.len() as u64);
    let mut burst = Burst::new(epoch);
    for message in &messages {
        burst.add(message, outbox)?;
    }
    burst.send(outbox)?;
    Some(last)
}

/// Messages encoded for one client, in bursts of a size that its outbox takes even while the client lags.
struct Burst {
    epoch: Epoch,
    json: Vec<u8>,
    frames: FrameBuffer,
    events: Vec<u8>,
}

impl Burst {
    fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            json: Vec::new(),
            frames: FrameBuffer::default(),
            events: Vec::new(),
        }
    }

    /// Adds a message, after sending the burst if the message does not fit. `None` if the connection has ended.
    fn add(&mut self, message: &Publication, outbox: &Arc<Outbox>) -> Option<()> {
        self.json.clear();
        message.write_json(&mut self.json);
        let waiting = self.frames.len() + self.events.len();
        if waiting > 0 && waiting + self.json.len() > outbox.burst_bytes() {
            self.send(outbox)?;
        }
        let (epoch, offset) = (self.epoch, message.offset);
        match outbox.wire() {
            Wire::WebSocket => self.frames.push_text(&self.json),
            Wire::Events | Wire::ChunkedEvents => {
                write_event(&mut self.events, Position { epoch, offset }, &self.json);
            }
        }
        Some(())
    }

    /// Sends the burst. `None` if the connection has ended.
    fn send(&mut self, outbox: &Arc<Outbox>) -> Option<()> {
        let burst = match outbox.wire() {
            Wire::WebSocket => self.frames.take().0,
            wire @ (Wire::Events | Wire::ChunkedEvents) => {
                wire.encode_events(std::mem::take(&mut self.events))
            }
        };
        outbox.push_or_wait(&burst).then_some(())
    }
}
