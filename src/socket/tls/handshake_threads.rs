//! The threads that compute the server's handshakes.
//!
//! Key exchange and signature need a deep stack, which a client's thread does not have, and a new thread for each
//! handshake would cost about as much as they do. These threads never wait for a client.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, Thread, available_parallelism};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::threads;

/// Most threads. There is one for each core, because they only compute. However many clients connect, no more threads
/// compute handshakes beside live traffic.
const THREADS_MAX: usize = 16;
/// Most steps of handshakes that wait for a thread. While the queue is full, clients' threads wait.
const QUEUE_STEPS_MAX: usize = 64;

type Step = Box<dyn FnOnce() + Send>;

/// The queue of the threads. They end when it is dropped.
#[derive(Debug)]
pub(super) struct HandshakeThreads {
    steps: Sender<Step>,
}

impl HandshakeThreads {
    pub(super) fn start() -> io::Result<Self> {
        let (steps, queue) = bounded(QUEUE_STEPS_MAX);
        let cores = available_parallelism().map_or(1, usize::from);
        for _ in 0..cores.min(THREADS_MAX) {
            let queue = queue.clone();
            threads::spawn_service("tls", move || run(&queue))?;
        }
        Ok(Self { steps })
    }

    /// Computes a step of a handshake. Returns `None` if it panicked, or if no thread had computed it by the deadline.
    pub(super) fn compute<R: Send + 'static>(
        &self,
        deadline: Instant,
        step: impl FnOnce() -> R + Send + 'static,
    ) -> Option<R> {
        let state = Arc::new(Mutex::new(StepState::Pending));
        let reply = StepReply {
            state: Arc::clone(&state),
            waiting: thread::current(),
        };
        let step = move || reply.send(step());
        self.steps.send_deadline(Box::new(step), deadline).ok()?;
        loop {
            if let StepState::Ended(result) = &mut *state.lock() {
                return result.take();
            }
            thread::park_timeout(deadline.checked_duration_since(Instant::now())?);
        }
    }
}

enum StepState<R> {
    Pending,
    /// `None` after a panic.
    Ended(Option<R>),
}

/// Tells the client's thread that a step has ended, also by a panic.
///
/// A channel would take ten times the memory. The client's thread frees it, and the allocator keeps small freed blocks
/// for the thread that has freed them, here as long as the client is connected.
struct StepReply<R> {
    state: Arc<Mutex<StepState<R>>>,
    waiting: Thread,
}

impl<R> StepReply<R> {
    fn send(self, result: R) {
        *self.state.lock() = StepState::Ended(Some(result));
    }
}

impl<R> Drop for StepReply<R> {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if matches!(*state, StepState::Pending) {
            *state = StepState::Ended(None);
        }
        drop(state);
        self.waiting.unpark();
    }
}

fn run(queue: &Receiver<Step>) {
    for step in queue {
        // The panic was logged, and it ends only the connection, which the step owns.
        panic::catch_unwind(AssertUnwindSafe(step)).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[test]
    fn step_that_panics_ends_neither_its_thread_nor_later_steps() {
        let threads = HandshakeThreads::start().expect("threads");
        for number in 0..2 * THREADS_MAX {
            assert_eq!(
                threads.compute(soon(), || -> usize { panic!("a test") }),
                None
            );
            assert_eq!(threads.compute(soon(), move || number), Some(number));
        }
    }

    #[test]
    fn step_is_not_awaited_beyond_the_deadline() {
        let threads = HandshakeThreads::start().expect("threads");
        let (release, released) = bounded::<()>(0);
        let deadline = Instant::now() + Duration::from_millis(20);
        assert_eq!(threads.compute(deadline, move || released.recv()), None);
        drop(release);
    }
}
