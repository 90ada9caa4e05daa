//! The outbound queue of one client: bounded, ordered, and never a reason to wait.
//!
//! [`Outbox::push`] sends at once without blocking. Only what the socket refuses is queued, and only
//! while something is queued does a drain thread exist. All sends happen under the outbox's lock and
//! none of them blocks, so order is kept and the lock is held for a system call at most.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::io::Errno;

use crate::metrics::{GaugeGuard, Metrics};
use crate::protocol::{ClientId, CloseCode, Frames};
use crate::socket::{LINGER, Offered, Socket};
use crate::threads;

/// Queued buffers that share one system call while a client catches up.
const DRAIN_SLICES_MAX: usize = 64;
/// Queued buffers, whatever their size: empty pongs must not cost more memory than they count for.
const QUEUE_LEN_MAX: usize = 16 * 1024;
/// Time an evicted client has to read the Close frame that says why.
const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// Bounds of every outbox.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// Bytes that may be queued.
    pub bytes: usize,
    /// Time without progress before the client counts as a slow consumer.
    pub slow_timeout: Duration,
}

/// Cheap to share; the last owner to drop it closes the socket.
#[derive(Debug)]
pub struct Outbox {
    client: ClientId,
    /// In place, not behind a pointer: a delivery touches as little memory as it can.
    socket: Socket,
    bytes_max: usize,
    /// Half the size of a `Duration`: so an outbox fits where a request's parts were, 176 bytes a client.
    slow_timeout_nanos: u64,
    metrics: Arc<Metrics>,
    wire: Wire,
    state: Mutex<State>,
    /// Told when the queue has become shorter, for whoever waits in [`Outbox::push_patiently`].
    drained: Condvar,
}

/// How frames look on this socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// WebSocket frames; the connection ends with a Close frame.
    WebSocket,
    /// Server-Sent Events; the connection just ends.
    Events,
}

#[derive(Debug, Default)]
struct State {
    /// What the socket has refused so far, the first buffer without the bytes it took.
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    phase: Phase,
    /// Why the connection ends, once that is decided.
    closing: Option<CloseCode>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing is queued; a push goes straight to the socket.
    #[default]
    Direct,
    /// A drain thread is sending the queue.
    Lagging,
    /// The last frame, a Close, is queued and the drain thread is sending it.
    Finishing {
        /// When to give up on a client that does not read it.
        until: Option<Instant>,
    },
    /// Nothing more will be sent.
    Finished,
}

impl Outbox {
    /// An outbox that sends to `socket`, which stays in blocking mode for its reader.
    pub fn new(
        client: ClientId,
        socket: Socket,
        limits: OutboxLimits,
        metrics: Arc<Metrics>,
        wire: Wire,
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            socket,
            bytes_max: limits.bytes,
            slow_timeout_nanos: u64::try_from(limits.slow_timeout.as_nanos()).unwrap_or(u64::MAX),
            metrics,
            wire,
            state: Mutex::default(),
            drained: Condvar::new(),
        })
    }

    /// Whose outbox this is.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// The socket, for its reader.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Bytes that may come in one burst without evicting a client that reads: a quarter of the bound.
    pub fn burst_bytes(&self) -> usize {
        self.bytes_max / 4
    }

    /// How frames must look that are pushed here.
    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// Pushes frames once less than half of the bound is queued: for a client's own thread, which may
    /// wait for its client. A client that makes no progress is evicted as always, which ends the wait.
    /// Says whether the connection goes on.
    pub fn push_patiently(self: &Arc<Self>, frames: &Frames) -> bool {
        let mut state = self.lock();
        while state.phase == Phase::Lagging && state.queued_bytes > self.bytes_max / 2 {
            self.drained.wait(&mut state);
        }
        let open = matches!(state.phase, Phase::Direct | Phase::Lagging);
        drop(state);
        self.push(frames);
        open
    }

    /// Sends frames, or queues them behind those that wait. Never blocks; after the end of the
    /// connection was decided it does nothing. A Close frame is the last one that is taken.
    pub fn push(self: &Arc<Self>, frames: &Frames) {
        let mut state = self.lock();
        if frames.is_close() {
            self.finish(&mut state, frames.bytes(), None);
            return;
        }
        match state.phase {
            Phase::Direct => self.send_or_queue(&mut state, frames.bytes()),
            Phase::Lagging => {
                let bytes = state.queued_bytes + frames.bytes().len();
                if bytes > self.bytes_max || state.queue.len() >= QUEUE_LEN_MAX {
                    self.evict(&mut state);
                } else {
                    state.enqueue(frames.bytes().clone());
                }
            }
            Phase::Finishing { .. } | Phase::Finished => {}
        }
    }

    /// Ends the connection with a Close frame after all that was pushed before; the first code wins.
    pub fn close(self: &Arc<Self>, code: CloseCode) {
        let mut state = self.lock();
        state.closing.get_or_insert(code);
        self.finish(&mut state, &self.last_words(code), None);
    }

    /// Ends the connection now; what is queued is dropped and a blocked reader wakes up.
    pub fn abort(&self) {
        self.abandon(&mut self.lock());
    }

    fn slow_timeout(&self) -> Duration {
        Duration::from_nanos(self.slow_timeout_nanos)
    }

    fn last_words(&self, code: CloseCode) -> Bytes {
        match self.wire {
            Wire::WebSocket => Frames::close(code).bytes().clone(),
            Wire::Events => Bytes::new(),
        }
    }

    /// Why the server decided to end the connection, if it did.
    pub fn closing(&self) -> Option<CloseCode> {
        self.lock().closing
    }

    /// Whether the end was decided: nothing that is pushed now will be sent.
    pub fn is_ending(&self) -> bool {
        matches!(self.lock().phase, Phase::Finishing { .. } | Phase::Finished)
    }

    /// Whether all was sent and only the peer's own close is missing.
    pub fn is_finished(&self) -> bool {
        self.lock().phase == Phase::Finished
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn finish(self: &Arc<Self>, state: &mut State, close: &Bytes, until: Option<Instant>) {
        match state.phase {
            Phase::Direct => {
                self.send_or_queue(state, close);
                match state.phase {
                    Phase::Direct => self.half_close(state),
                    Phase::Lagging => state.phase = Phase::Finishing { until },
                    Phase::Finishing { .. } | Phase::Finished => {}
                }
            }
            Phase::Lagging => {
                state.enqueue(close.clone());
                state.phase = Phase::Finishing { until };
            }
            Phase::Finishing { .. } | Phase::Finished => {}
        }
    }

    /// Gives the slow consumer one second to learn why; the buffer it is in the middle of comes
    /// first, since a frame must not break off.
    fn evict(self: &Arc<Self>, state: &mut State) {
        let code = CloseCode::SlowConsumer;
        self.metrics.evicted.add(1);
        state.closing.get_or_insert(code);
        state.keep_first();
        self.finish(
            state,
            &self.last_words(code),
            Some(Instant::now() + EVICTION_GRACE),
        );
    }

    /// RFC 6455 §7.1.1: the write side first; the session reads until the peer closes too.
    fn half_close(&self, state: &mut State) {
        state.phase = Phase::Finished;
        state.clear();
        self.socket.finish();
    }

    fn abandon(&self, state: &mut State) {
        state.phase = Phase::Finished;
        state.clear();
        self.socket.close();
    }

    fn send_or_queue(self: &Arc<Self>, state: &mut State, bytes: &Bytes) {
        let taken = match self.socket.offer(bytes) {
            Ok(Offered::All) => return,
            Ok(Offered::Part(taken)) => taken,
            Err(_) => return self.abandon(state),
        };
        state.enqueue(bytes.slice(taken..));
        state.phase = Phase::Lagging;
        let (outbox, lagging) = (Arc::clone(self), self.metrics.lagging.hold());
        let spawned = threads::spawn_client("drain", move || outbox.drain(lagging));
        if spawned.is_err() {
            self.metrics.evicted.add(1);
            state.closing.get_or_insert(CloseCode::SlowConsumer);
            self.abandon(state);
        }
    }

    /// The drain thread: waits for the socket, not the lock, and ends with the queue.
    fn drain(self: Arc<Self>, lagging: GaugeGuard) {
        let mut progress = Instant::now();
        loop {
            let deadline = match self.lock().phase {
                Phase::Finishing { until: Some(until) } => until,
                _ => progress + self.slow_timeout(),
            };
            // In short waits, since a push that evicts brings the deadline forward.
            let deadline = deadline.min(Instant::now() + EVICTION_GRACE);
            let writable = self.socket.wait_writable(deadline);
            let mut state = self.lock();
            if writable {
                match self.send_queued(&mut state) {
                    Ok(0) => {}
                    Ok(_) => progress = Instant::now(),
                    Err(_) => self.abandon(&mut state),
                }
            } else {
                self.give_up(&mut state, progress);
            }
            self.drained.notify_all();
            match state.phase {
                Phase::Lagging if state.queue.is_empty() => {
                    state.phase = Phase::Direct;
                    return;
                }
                Phase::Finishing { until } if state.queue.is_empty() => {
                    self.half_close(&mut state);
                    drop((state, lagging));
                    if until.is_some() {
                        self.socket.wait_hung_up(LINGER);
                        self.abort();
                    }
                    return;
                }
                Phase::Finished => return,
                Phase::Direct | Phase::Lagging | Phase::Finishing { .. } => {}
            }
        }
    }

    /// The deadline passed without a byte taken. A slow consumer's socket is full, so it could not be
    /// told; one that became slow while it was being closed has had its time as well.
    fn give_up(&self, state: &mut State, progress: Instant) {
        let out_of_time = match state.phase {
            Phase::Finishing { until: Some(until) } => until <= Instant::now(),
            _ => progress + self.slow_timeout() <= Instant::now(),
        };
        if !out_of_time {
            return;
        }
        if state.closing != Some(CloseCode::SlowConsumer) {
            self.metrics.evicted.add(1);
            state.closing = Some(CloseCode::SlowConsumer);
        }
        self.abandon(state);
    }

    fn send_queued(&self, state: &mut State) -> Result<usize, Errno> {
        let mut total = 0;
        while !state.queue.is_empty() {
            let slices: Vec<IoSlice<'_>> = state
                .queue
                .iter()
                .take(DRAIN_SLICES_MAX)
                .map(|b| IoSlice::new(b))
                .collect();
            match self.socket.offer_slices(&slices)? {
                Offered::All => {
                    let sent = slices.iter().map(|slice| slice.len()).sum();
                    total += sent;
                    state.dequeue(sent);
                }
                Offered::Part(sent) => {
                    total += sent;
                    state.dequeue(sent);
                    state.wait_for_more();
                    break;
                }
            }
        }
        Ok(total)
    }
}

impl State {
    fn enqueue(&mut self, bytes: Bytes) {
        self.queued_bytes += bytes.len();
        self.queue.push_back(bytes);
    }

    fn dequeue(&mut self, mut sent: usize) {
        self.queued_bytes -= sent;
        while let Some(front) = self.queue.front_mut() {
            if sent < front.len() {
                front.advance(sent);
                return;
            }
            sent -= front.len();
            self.queue.pop_front();
        }
    }

    /// The queue is never empty while the socket holds back some of what it took: nothing stands for
    /// that, and goes when it does.
    fn wait_for_more(&mut self) {
        if self.queue.is_empty() {
            self.enqueue(Bytes::new());
        }
    }

    fn keep_first(&mut self) {
        self.queue.truncate(1);
        self.queued_bytes = self.queue.iter().map(Bytes::len).sum();
    }

    fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.queued_bytes = 0;
    }
}
