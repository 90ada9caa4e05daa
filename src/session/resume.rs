//! Continuing after a gap: the member is held, the gap is read on the client's own thread, then what
//! was held follows. No gap, no duplicate, and nobody else waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::App;
use crate::broadcaster::ReleaseOutcome;
use crate::outbox::{Outbox, Wire};
use crate::protocol::{
    CloseCode, Epoch, FrameBuffer, Frames, PAGE_BYTES_MAX, PAGE_MESSAGES_MAX, Position,
    Publication, RoomName, RoomState, Since, write_event,
};
use crate::store::{HistoryQuery, StoreError};
use crate::threads::REPLY_TIMEOUT;

/// How often a node that is behind its client is looked at again.
const BEHIND_INTERVAL: Duration = Duration::from_millis(5);

/// A room whose member is held.
#[derive(Debug)]
pub struct HeldRoom {
    /// As the client is to be told: its stream starts at `state.position`.
    pub state: RoomState,
    /// Up to where the store must be read before the member can be released.
    target: u64,
}

impl HeldRoom {
    /// Decides whether all that was missed can be delivered. `state` is as the broadcaster gave it. `None` if
    /// the store cannot be asked now, and the client is to come back when it can.
    pub fn new(app: &App, mut state: RoomState, since: Option<Since>) -> Option<Self> {
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

    /// Delivers what was missed and makes the member live. The client must have been told where its
    /// stream starts. Says whether the connection goes on.
    pub fn go_live(self, app: &App, outbox: &Arc<Outbox>) -> bool {
        let room = &self.state.room;
        let Position { epoch, offset } = self.state.position;
        let (mut reached, mut target) = (offset, self.target);
        let behind_until = Instant::now() + REPLY_TIMEOUT;
        loop {
            while reached < target {
                match deliver_page(app, outbox, room, epoch, reached, target) {
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

/// A client that has more than this node was at another one, which was faster: the store says whether it has
/// too much.
fn is_recoverable(app: &App, state: &RoomState, since: Since) -> Option<bool> {
    let Position { epoch, offset } = state.position;
    if since.epoch.is_some_and(|theirs| theirs != epoch) {
        return Some(false);
    }
    if since.offset == offset {
        return Some(true);
    }
    let slice = HistoryQuery {
        since: Some(since.offset),
        messages_max: 1,
        bytes_max: 1,
    };
    match read(app, &state.room, epoch, slice) {
        Ok(messages) => Some(messages.is_some()),
        Err(StoreError::Unreachable) => None,
        Err(_) => Some(false),
    }
}

/// What follows an offset, if the store has it without a gap.
fn read(
    app: &App,
    room: &RoomName,
    epoch: Epoch,
    slice: HistoryQuery,
) -> Result<Option<Vec<Arc<Publication>>>, StoreError> {
    let Some(stream) = app.broker.find(room)? else {
        return Ok(None);
    };
    let page = app.broker.history(&stream, slice)?;
    Ok((page.contiguous && page.epoch == epoch).then_some(page.messages))
}

/// Gives the last offset delivered. `None` ends the connection: the client reads more slowly than
/// history is dropped, so it is told to come back and then hears that there is a gap.
fn deliver_page(
    app: &App,
    outbox: &Arc<Outbox>,
    room: &RoomName,
    epoch: Epoch,
    reached: u64,
    target: u64,
) -> Option<u64> {
    let slice = HistoryQuery {
        since: Some(reached),
        messages_max: PAGE_MESSAGES_MAX,
        bytes_max: PAGE_BYTES_MAX,
    };
    let read = read(app, room, epoch, slice);
    let mut messages = read.ok().flatten().unwrap_or_default();
    messages.retain(|message| message.offset <= target);
    let Some(last) = messages.last().map(|message| message.offset) else {
        outbox.close(CloseCode::SlowConsumer);
        return None;
    };
    app.metrics.deliveries.add(messages.len() as u64);
    let mut burst = Burst::new(epoch);
    let sent = messages
        .iter()
        .try_for_each(|message| burst.add(message, outbox));
    (sent.is_some() && burst.send(outbox).is_some()).then_some(last)
}

/// Messages encoded for one client, sent in bursts that its outbox takes even while it lags.
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
            Wire::Events => {
                write_event(&mut self.events, Position { epoch, offset }, &self.json);
            }
        }
        Some(())
    }

    /// `None` when the connection has ended.
    fn send(&mut self, outbox: &Arc<Outbox>) -> Option<()> {
        let burst = match outbox.wire() {
            Wire::WebSocket => self.frames.take().0,
            Wire::Events => Frames::from(std::mem::take(&mut self.events)),
        };
        outbox.push_or_wait(&burst).then_some(())
    }
}
