//! The outbound queue of one client: bounded, ordered, and without blocking the sender.
//!
//! [`Outbox::push`] sends at once without blocking. Bytes that the socket does not take are queued, and a drain
//! thread exists while the queue is not empty. All sends happen under the outbox's lock, which keeps the order.
//! No send blocks, so the lock is held for one system call at most.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

use crate::metrics::{GaugeGuard, Metrics};
use crate::protocol::{ClientId, CloseCode, EventBodies, Frames, RoomName};
use crate::rooms::StreamPositions;
use crate::socket::{LINGER, Offered, Socket};
use crate::threads;

pub(crate) use crate::protocol::Wire;

/// Most queued buffers that the drain thread sends with one system call.
const DRAIN_SLICES_MAX: usize = 64;
/// Most queued buffers. It limits small frames such as empty pongs, which cost more memory than their bytes.
const QUEUE_LEN_MAX: usize = 16 * 1024;
/// Time in which an evicted client can read its Close frame.
const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// The limits of an outbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxLimits {
    /// Most bytes in the queue.
    pub(crate) bytes: usize,
    /// Time without progress after which the client is evicted as a slow consumer.
    pub(crate) slow_timeout: Duration,
}

/// A client's outbound queue. The socket is closed when the last owner drops it.
#[derive(Debug)]
pub(crate) struct Outbox {
    client: ClientId,
    /// Not behind a pointer, so that a delivery reads less memory.
    socket: Socket,
    bytes_max: usize,
    /// A `u64` is half the size of a `Duration`. The outbox therefore fits into the 176 bytes that the request's head
    /// has freed.
    slow_timeout_nanos: u64,
    metrics: Arc<Metrics>,
    wire: Wire,
    state: Mutex<OutboxState>,
    /// Notified when the queue becomes shorter, for [`Outbox::push_or_wait`].
    drained: Condvar,
}

/// The end of a body in chunks (RFC 9112 §7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[derive(Debug, Default)]
struct OutboxState {
    /// Bytes that the socket has not taken yet. The first buffer lacks the bytes that it took.
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    phase: OutboxPhase,
    /// The close code, once the server has decided to close.
    closing: Option<CloseCode>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum OutboxPhase {
    /// Nothing is queued but bytes that are held back; a push goes straight to the socket.
    #[default]
    Direct,
    /// A drain thread is sending the queue.
    Lagging,
    /// The last frame, a Close, is queued and the drain thread is sending it.
    Finishing {
        /// The deadline of an evicted client.
        until: Option<Instant>,
    },
    /// Nothing more will be sent.
    Finished,
}

impl Outbox {
    /// Returns an outbox that sends to `socket`, which stays in blocking mode for its reader.
    pub(crate) fn new(
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

    /// Returns the client's id.
    pub(crate) fn client(&self) -> ClientId {
        self.client
    }

    /// Returns the socket, for its reader.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Reads what a push needs, so that the push finds it in the cache. Returns a number, so that the reads are not left out.
    pub(crate) fn touch(&self) -> usize {
        self.bytes_max
            + usize::from(self.state.is_locked())
            + usize::from(self.socket.has_tls())
            + usize::from(self.wire.has_events())
    }

    /// Returns how many bytes may be pushed at once without evicting a client that reads: a quarter of the limit.
    pub(crate) fn burst_bytes(&self) -> usize {
        self.bytes_max / 4
    }

    /// Returns the format of the frames to push.
    pub(crate) fn wire(&self) -> Wire {
        self.wire
    }

    /// Waits until less than half of the limit is queued, then pushes frames. Returns whether the connection is still
    /// open.
    pub(crate) fn push_or_wait(self: &Arc<Self>, frames: &Frames) -> bool {
        let is_open = self.wait_for_space();
        self.push(frames);
        is_open
    }

    /// Waits until less than half of the limit is queued. Only a client's own thread may wait for its client. The wait
    /// ends at the latest when the client is evicted as a slow consumer. Returns whether the connection is still open.
    pub(crate) fn wait_for_space(&self) -> bool {
        let mut state = self.state.lock();
        while state.phase == OutboxPhase::Lagging && state.queued_bytes > self.bytes_max / 2 {
            self.drained.wait(&mut state);
        }
        matches!(state.phase, OutboxPhase::Direct | OutboxPhase::Lagging)
    }

    /// Pushes publications of a room to a client that reads several rooms as one event stream. Of those in `skipped` it is
    /// sent only the id.
    pub(crate) fn push_events(
        self: &Arc<Self>,
        positions: &StreamPositions,
        room: &RoomName,
        bodies: &EventBodies,
        skipped: &[u64],
    ) {
        let bytes_max = bodies.bytes_len() + bodies.len() * positions.id_bytes_max();
        let mut events = Vec::with_capacity(bytes_max);
        let mut positions = positions.lock();
        for (offset, body) in bodies.iter() {
            positions.advance(room, offset);
            positions.write_id(&mut events);
            let is_skipped = skipped.contains(&offset);
            events.extend_from_slice(if is_skipped { b"\n\n" } else { body });
        }
        self.push(&self.wire.encode_events(events));
    }

    /// Queues bytes that the next push sends with its own, because it follows at once.
    pub(crate) fn hold_back(&self, bytes: Bytes) {
        self.state.lock().enqueue(bytes);
    }

    /// Sends frames, or queues them behind the queued ones. Never blocks. A Close frame is the last frame: later
    /// pushes do nothing.
    pub(crate) fn push(self: &Arc<Self>, frames: &Frames) {
        let mut state = self.state.lock();
        if frames.is_close() {
            self.finish(&mut state, frames.bytes(), None);
            return;
        }
        match state.phase {
            OutboxPhase::Direct => self.send_or_queue(&mut state, frames.bytes(), Socket::offer),
            OutboxPhase::Lagging => {
                let bytes = state.queued_bytes + frames.bytes().len();
                if bytes > self.bytes_max || state.queue.len() >= QUEUE_LEN_MAX {
                    self.evict(&mut state);
                } else {
                    state.enqueue(frames.bytes().clone());
                }
            }
            OutboxPhase::Finishing { .. } | OutboxPhase::Finished => {}
        }
    }

    /// Ends the connection with a Close frame after all earlier frames. The first code wins.
    pub(crate) fn close(self: &Arc<Self>, code: CloseCode) {
        let mut state = self.state.lock();
        state.closing.get_or_insert(code);
        self.finish(&mut state, &self.encode_close(code), None);
    }

    /// Ends the connection now. Queued frames are dropped and a blocked reader wakes up.
    pub(crate) fn abort(&self) {
        self.close_now(&mut self.state.lock());
    }

    fn slow_timeout(&self) -> Duration {
        Duration::from_nanos(self.slow_timeout_nanos)
    }

    fn encode_close(&self, code: CloseCode) -> Bytes {
        match self.wire {
            Wire::WebSocket => Frames::close(code).bytes().clone(),
            Wire::Events => Bytes::new(),
            Wire::ChunkedEvents => Bytes::from_static(LAST_CHUNK),
        }
    }

    /// Returns the close code, if the server has decided to close.
    pub(crate) fn closing(&self) -> Option<CloseCode> {
        self.state.lock().closing
    }

    /// Returns whether the connection is ending, so that frames pushed now are not sent.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(
            self.state.lock().phase,
            OutboxPhase::Finishing { .. } | OutboxPhase::Finished
        )
    }

    /// Returns whether everything was sent and only the peer's close is missing.
    pub(crate) fn is_finished(&self) -> bool {
        self.state.lock().phase == OutboxPhase::Finished
    }

    fn finish(self: &Arc<Self>, state: &mut OutboxState, close: &Bytes, until: Option<Instant>) {
        match state.phase {
            OutboxPhase::Direct => {
                self.send_or_queue(state, close, Socket::offer_last);
                match state.phase {
                    OutboxPhase::Direct => self.half_close(state),
                    OutboxPhase::Lagging => state.phase = OutboxPhase::Finishing { until },
                    OutboxPhase::Finishing { .. } | OutboxPhase::Finished => {}
                }
            }
            OutboxPhase::Lagging => {
                state.enqueue(close.clone());
                state.phase = OutboxPhase::Finishing { until };
            }
            OutboxPhase::Finishing { .. } | OutboxPhase::Finished => {}
        }
    }

    /// Evicts a slow consumer. The Close frame follows the buffer that is partly sent, because a frame must not be
    /// cut off.
    fn evict(self: &Arc<Self>, state: &mut OutboxState) {
        let code = CloseCode::SlowConsumer;
        self.metrics.evicted.add(1);
        state.closing.get_or_insert(code);
        state.keep_first();
        self.finish(
            state,
            &self.encode_close(code),
            Some(Instant::now() + EVICTION_GRACE),
        );
    }

    /// Closes the sending direction (RFC 6455 §7.1.1). The session reads until the peer closes too.
    fn half_close(&self, state: &mut OutboxState) {
        state.phase = OutboxPhase::Finished;
        state.clear();
        self.socket.finish();
    }

    fn close_now(&self, state: &mut OutboxState) {
        state.phase = OutboxPhase::Finished;
        state.clear();
        self.socket.close();
    }

    fn send_or_queue(
        self: &Arc<Self>,
        state: &mut OutboxState,
        bytes: &Bytes,
        offer: impl Fn(&Socket, &[u8]) -> Result<Offered, Errno>,
    ) {
        if state.queue.is_empty() {
            match offer(&self.socket, bytes) {
                Ok(Offered::All) => return,
                Ok(Offered::Part(taken)) => state.enqueue(bytes.slice(taken..)),
                Err(_) => return self.close_now(state),
            }
        } else {
            // Bytes are held back.
            state.enqueue(bytes.clone());
            match self.send_queued(state) {
                Ok(_) if state.queue.is_empty() => return state.clear(),
                Ok(_) => {}
                Err(_) => return self.close_now(state),
            }
        }
        state.phase = OutboxPhase::Lagging;
        let (outbox, lagging) = (Arc::clone(self), self.metrics.lagging.hold());
        let spawned = threads::spawn_client("drain", move || outbox.drain(lagging));
        if spawned.is_err() {
            self.metrics.evicted.add(1);
            state.closing.get_or_insert(CloseCode::SlowConsumer);
            self.close_now(state);
        }
    }

    /// Runs the drain thread. It waits for the socket without the lock, and ends when the queue is empty.
    fn drain(self: Arc<Self>, lagging: GaugeGuard) {
        let mut progress = Instant::now();
        loop {
            let deadline = match self.state.lock().phase {
                OutboxPhase::Finishing { until: Some(until) } => until,
                _ => progress + self.slow_timeout(),
            };
            // Waits are short, because an eviction sets an earlier deadline.
            let deadline = deadline.min(Instant::now() + EVICTION_GRACE);
            let writable = self.socket.wait_writable(deadline);
            let mut state = self.state.lock();
            if writable {
                match self.send_queued(&mut state) {
                    Ok(0) => {}
                    Ok(_) => progress = Instant::now(),
                    Err(_) => self.close_now(&mut state),
                }
            } else {
                self.close_if_stalled(&mut state, progress);
            }
            self.drained.notify_all();
            match state.phase {
                OutboxPhase::Lagging if state.queue.is_empty() => {
                    state.phase = OutboxPhase::Direct;
                    return;
                }
                OutboxPhase::Finishing { until } if state.queue.is_empty() => {
                    self.half_close(&mut state);
                    drop((state, lagging));
                    if until.is_some() {
                        self.socket.wait_hung_up(LINGER);
                        self.abort();
                    }
                    return;
                }
                OutboxPhase::Finished => return,
                OutboxPhase::Direct | OutboxPhase::Lagging | OutboxPhase::Finishing { .. } => {}
            }
        }
    }

    /// Closes the connection if its deadline has passed without progress. The socket is full, so no Close frame
    /// can be sent.
    fn close_if_stalled(&self, state: &mut OutboxState, progress: Instant) {
        let out_of_time = match state.phase {
            OutboxPhase::Finishing { until: Some(until) } => until <= Instant::now(),
            _ => progress + self.slow_timeout() <= Instant::now(),
        };
        if !out_of_time {
            return;
        }
        if state.closing != Some(CloseCode::SlowConsumer) {
            self.metrics.evicted.add(1);
            state.closing = Some(CloseCode::SlowConsumer);
        }
        self.close_now(state);
    }

    fn send_queued(&self, state: &mut OutboxState) -> Result<usize, Errno> {
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
                    state.keep_waiting();
                    break;
                }
            }
        }
        Ok(total)
    }
}

impl OutboxState {
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

    /// Queues an empty buffer if the queue is empty, so that the drain thread continues while encrypted bytes wait in
    /// the socket.
    fn keep_waiting(&mut self) {
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
