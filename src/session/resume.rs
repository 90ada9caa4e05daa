//! Stored messages for a client that joins: those it missed, or the newest. The member is held, the messages are read, then
//! the held messages follow.
//!
//! There is no gap and no duplicate. The messages are read on the client's own thread, so no other client waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::App;
use crate::broadcaster::ReleaseOutcome;
use crate::outbox::{Outbox, Wire};
use crate::protocol::{
    Backlog, CloseCode, Epoch, EventBodies, FrameBuffer, LastEventId, PAGE_BYTES_MAX,
    PAGE_MESSAGES_MAX, Page, Position, Publication, RoomName, RoomState, Since, write_event,
};
use crate::rooms::StreamPositions;
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
    /// True if messages up to the target may be missing, because the client is notified of a gap.
    may_have_gaps: bool,
}

impl HeldRoom {
    /// Decides which stored messages can be delivered; `state` is the broadcaster's. `None` if the store cannot be read
    /// now, so that the client must try again later.
    pub(crate) fn new(app: &App, mut state: RoomState, backlog: Backlog) -> Option<Self> {
        let target = state.position.offset;
        if let Some(since) = backlog.since {
            state.recovered = is_recoverable(app, &state, since)?;
            if state.recovered {
                state.position.offset = since.offset;
                app.metrics.recovered.add(1);
            } else {
                app.metrics.not_recovered.add(1);
            }
        }
        let epoch = state.position.epoch;
        let is_here = |since: &Since| {
            since.epoch.is_none_or(|theirs| theirs == epoch) && since.offset <= target
        };
        let known = backlog
            .since
            .filter(is_here)
            .map_or(0, |since| since.offset);
        Self {
            state,
            target,
            may_have_gaps: false,
        }
        .with_newest(app, backlog.last, known)
    }

    /// Decides which stored messages a client is sent whose last event of the room has this id. `None` if the store cannot
    /// be read now.
    pub(crate) fn after_event(
        app: &App,
        state: RoomState,
        id: LastEventId,
        last: usize,
    ) -> Option<Self> {
        let backlog = |since| Backlog { since, last };
        match id {
            LastEventId::Missing => Self::new(app, state, backlog(None)),
            LastEventId::Zero => Self::from_oldest(app, state),
            LastEventId::Position(since) => Self::new(app, state, backlog(Some(since))),
            LastEventId::Foreign => Self::not_recovered(app, state, last),
        }
    }

    /// Starts without the missed messages, for a client whose own position is unknown. `None` if the newest messages
    /// cannot be read now.
    fn not_recovered(app: &App, state: RoomState, last: usize) -> Option<Self> {
        app.metrics.not_recovered.add(1);
        let target = state.position.offset;
        Self {
            state,
            target,
            may_have_gaps: false,
        }
        .with_newest(app, last, 0)
    }

    /// Starts before the `last` newest messages, unless the client resumes or wants none. The client has the message at
    /// the offset `known`, so it is sent only later ones. `None` if the store cannot be read now.
    fn with_newest(mut self, app: &App, last: usize, known: u64) -> Option<Self> {
        if !self.state.recovered && last > 0 {
            self.state.live_after = Some(self.target);
            self.may_have_gaps = true;
            self.state.position.offset = before_newest(app, &self.state, last)?.max(known);
        }
        Some(self)
    }

    /// Starts with the oldest message that the store has. It is recovered if that is the first of the room and no later
    /// one is gone. `None` if the store cannot be reached.
    fn from_oldest(app: &App, state: RoomState) -> Option<Self> {
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
        let backlog = Backlog {
            since: Some(since),
            last: 0,
        };
        let mut room = Self::new(app, state, backlog)?;
        if !room.state.recovered {
            // A message in between is gone. The others follow.
            room.state.position.offset = oldest - 1;
            room.may_have_gaps = true;
        }
        room.state.recovered &= is_complete;
        Some(room)
    }

    /// Sends the missed messages and releases the member. The client must have been sent `state` before. Returns
    /// whether the session continues.
    pub(crate) fn go_live(self, app: &App, outbox: &Arc<Outbox>) -> bool {
        self.go_live_in(app, &BacklogReader::of(outbox))
    }

    /// The same for a client that reads several rooms as one event stream.
    pub(crate) fn go_live_in_stream(
        self,
        app: &App,
        outbox: &Arc<Outbox>,
        positions: &StreamPositions,
    ) -> bool {
        let positions = Some(positions);
        self.go_live_in(app, &BacklogReader { outbox, positions })
    }

    fn go_live_in(self, app: &App, reader: &BacklogReader<'_>) -> bool {
        let outbox = reader.outbox;
        let room = &self.state.room;
        let Position { epoch, offset } = self.state.position;
        let (mut reached, mut target) = (offset, self.target);
        if self.may_have_gaps {
            if send_newest(app, reader, room, epoch, reached, target).is_none() {
                return false;
            }
            reached = target;
        }
        let behind_until = Instant::now() + REPLY_TIMEOUT;
        loop {
            while reached < target {
                match send_page(app, reader, room, epoch, reached, target) {
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
    // The messages after a later offset are delivered live, so none of them is read.
    let is_ahead = since.offset > offset;
    // A store that was restored from a backup may end before messages that were delivered.
    let needed = since.offset.max(offset);
    let has_all =
        |page: Page| (page.contiguous || is_ahead) && page.epoch == epoch && page.last >= needed;
    Some(page.is_some_and(has_all))
}

/// Returns the offset before the `last` newest messages, or before those of them that fit into a page. `None` if the
/// store cannot be read now.
fn before_newest(app: &App, state: &RoomState, last: usize) -> Option<u64> {
    let Position { epoch, offset } = state.position;
    let query = HistoryQuery {
        since: None,
        messages_max: last,
        bytes_max: PAGE_BYTES_MAX,
        until: None,
    };
    let page = read(app, &state.room, query).ok()?;
    let page = page.filter(|page| page.epoch == epoch);
    let oldest = page.and_then(|page| Some(page.messages.first()?.offset));
    // Messages that were stored but not delivered yet follow as live messages.
    Some(oldest.map_or(offset, |oldest| offset.min(oldest - 1)))
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
    reader: &BacklogReader<'_>,
    room: &RoomName,
    epoch: Epoch,
    reached: u64,
    target: u64,
) -> Option<u64> {
    let messages = missed_messages(app, room, epoch, reached, target)
        .map_err(|code| reader.outbox.close(code))
        .ok()?;
    let last = messages.last()?.offset;
    send_messages(app, reader, room, epoch, &messages)?;
    Some(last)
}

/// Sends the messages after `reached` and up to `target` that the store still has. A missing one is no gap that ends the
/// session, because the client was not promised all of them. `None` if the session ends.
fn send_newest(
    app: &App,
    reader: &BacklogReader<'_>,
    room: &RoomName,
    epoch: Epoch,
    mut reached: u64,
    target: u64,
) -> Option<()> {
    while reached < target {
        let query = HistoryQuery {
            since: Some(reached),
            messages_max: PAGE_MESSAGES_MAX,
            bytes_max: PAGE_BYTES_MAX,
            until: None,
        };
        let Ok(page) = read(app, room, query) else {
            reader.outbox.close(CloseCode::TryAgainLater);
            return None;
        };
        let page = page.filter(|page| page.epoch == epoch);
        let mut messages = page.map(|page| page.messages).unwrap_or_default();
        messages.retain(|message| message.offset <= target);
        let Some(last) = messages.last() else {
            return Some(());
        };
        reached = last.offset;
        send_messages(app, reader, room, epoch, &messages)?;
    }
    Some(())
}

/// A client that is sent stored messages.
struct BacklogReader<'a> {
    outbox: &'a Arc<Outbox>,
    /// The positions of a client that reads several rooms as one event stream.
    positions: Option<&'a StreamPositions>,
}

impl<'a> BacklogReader<'a> {
    fn of(outbox: &'a Arc<Outbox>) -> Self {
        let positions = None;
        Self { outbox, positions }
    }
}

/// Sends stored messages of a room to one client. `None` if the connection has ended.
fn send_messages(
    app: &App,
    reader: &BacklogReader<'_>,
    room: &RoomName,
    epoch: Epoch,
    messages: &[Arc<Publication>],
) -> Option<()> {
    app.metrics.deliveries.add(messages.len() as u64);
    let mut burst = Burst::new(reader, room, epoch);
    for message in messages {
        burst.add(message)?;
    }
    burst.send()
}

/// Messages of a room encoded for one client, in bursts of a size that its outbox takes even while the client lags.
struct Burst<'a> {
    reader: &'a BacklogReader<'a>,
    room: &'a RoomName,
    epoch: Epoch,
    json: Vec<u8>,
    frames: FrameBuffer,
    events: Vec<u8>,
    bodies: EventBodies,
}

impl<'a> Burst<'a> {
    fn new(reader: &'a BacklogReader<'a>, room: &'a RoomName, epoch: Epoch) -> Self {
        Self {
            reader,
            room,
            epoch,
            json: Vec::new(),
            frames: FrameBuffer::default(),
            events: Vec::new(),
            bodies: EventBodies::default(),
        }
    }

    /// Adds a message, after sending the burst if the message does not fit. `None` if the connection has ended.
    fn add(&mut self, message: &Publication) -> Option<()> {
        self.json.clear();
        message.write_json(&mut self.json);
        let BacklogReader { outbox, positions } = self.reader;
        let id_bytes = positions.map_or(0, StreamPositions::id_bytes_max);
        let ids = (self.bodies.len() + 1) * id_bytes;
        let waiting = self.frames.len() + self.events.len() + self.bodies.bytes_len();
        if waiting > 0 && waiting + self.json.len() + ids > outbox.burst_bytes() {
            self.send()?;
        }
        let (epoch, offset) = (self.epoch, message.offset);
        match outbox.wire() {
            Wire::WebSocket => self.frames.push_text(&self.json),
            Wire::Events | Wire::ChunkedEvents if positions.is_some() => {
                self.bodies.push(offset, &self.json);
            }
            Wire::Events | Wire::ChunkedEvents => {
                write_event(&mut self.events, Position { epoch, offset }, &self.json);
            }
        }
        Some(())
    }

    /// Sends the burst. `None` if the connection has ended.
    fn send(&mut self) -> Option<()> {
        let BacklogReader { outbox, positions } = self.reader;
        if let Some(positions) = positions {
            let bodies = std::mem::take(&mut self.bodies);
            let is_open = outbox.wait_for_space();
            outbox.push_events(positions, self.room, &bodies, &[]);
            return is_open.then_some(());
        }
        let burst = match outbox.wire() {
            Wire::WebSocket => self.frames.take().0,
            wire @ (Wire::Events | Wire::ChunkedEvents) => {
                wire.encode_events(std::mem::take(&mut self.events))
            }
        };
        outbox.push_or_wait(&burst).then_some(())
    }
}
