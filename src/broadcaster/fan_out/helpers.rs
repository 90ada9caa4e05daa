//! The helper threads, with which the broadcaster shares the fan-out to a large room.
//!
//! The broadcaster offers a job and wakes as many helpers as are worth it. Each thread has a share of the items, the
//! same one in each job of this length, so that the sockets of its members stay in its core's cache. It takes chunks of
//! its own share, then chunks that are left of the others. When none is left, the broadcaster waits only for the helpers
//! that still work on a chunk. A helper that wakes up too late finds no job and sleeps again.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, available_parallelism};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::threads;

/// Items of a job for each thread that works on it. A job with less than twice as many wakes no helper. Measured with
/// two threads: a room of 128 takes 0.9 of the time of one thread, but 1.14 of its CPU time; a room of 512 takes 0.6.
const ITEMS_PER_THREAD: usize = 256;
/// Items that a thread takes at once. After the last chunk is taken, the broadcaster waits for this many at most.
const CHUNK_ITEMS: usize = 16;
/// Most helpers of `--fan-out-threads auto`.
const AUTO_HELPERS_MAX: usize = 7;

/// Work on a number of items, in any order. Clones are the same job.
pub(in crate::broadcaster) trait Job: Clone + Send + 'static {
    fn len(&self) -> usize;

    /// Works on some of the items. A panic ends the process, as in the broadcaster's thread.
    fn run(&self, items: Range<usize>);
}

/// The helper threads. They end when this is dropped.
pub(in crate::broadcaster) struct Helpers<J: Job> {
    desk: Arc<Desk<J>>,
    threads: Vec<JoinHandle<()>>,
}

/// The place where the broadcaster offers a job to the helpers.
struct Desk<J> {
    state: Mutex<DeskState<J>>,
    /// Notified when the last busy helper is done.
    done: Condvar,
    /// In the share of each thread, the first item that no thread has taken. The first share is the broadcaster's.
    next: Vec<AtomicUsize>,
}

struct DeskState<J> {
    /// The job and the number of its shares, while it may have items that no thread has taken.
    job: Option<(J, usize)>,
    /// The helpers that work on the job.
    busy: usize,
    stopping: bool,
}

/// Returns the number of helpers of `--fan-out-threads auto`: one for each core that the process may use besides the
/// broadcaster's, up to a maximum.
pub(crate) fn auto_helpers() -> usize {
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    (cores - 1).min(AUTO_HELPERS_MAX)
}

impl<J: Job> Helpers<J> {
    pub(in crate::broadcaster) fn start(count: usize) -> io::Result<Self> {
        let desk = Arc::new(Desk {
            state: Mutex::new(DeskState {
                job: None,
                busy: 0,
                stopping: false,
            }),
            done: Condvar::new(),
            next: (0..=count).map(|_| AtomicUsize::new(0)).collect(),
        });
        // Threads that have started end when an error drops this.
        let mut helpers = Self {
            desk,
            threads: Vec::new(),
        };
        for share in 1..=count {
            let desk = Arc::clone(&helpers.desk);
            let thread = threads::spawn_service("fan-out", move || desk.help(share))?;
            helpers.threads.push(thread);
        }
        Ok(helpers)
    }

    /// Works on all items of a job, together with helpers if there are many. Returns when all are done.
    pub(in crate::broadcaster) fn run(&self, job: &J) {
        let shares = (job.len() / ITEMS_PER_THREAD).clamp(1, self.threads.len() + 1);
        if shares == 1 {
            return job.run(0..job.len());
        }
        for (share, next) in self.desk.next.iter().enumerate().take(shares) {
            next.store(share_of(job.len(), share, shares).start, Ordering::Relaxed);
        }
        self.desk.state.lock().job = Some((job.clone(), shares));
        for helper in &self.threads[..shares - 1] {
            helper.thread().unpark();
        }
        self.desk.work_on(job, 0, shares);
        self.desk.wait_until_done();
    }
}

impl<J: Job> Drop for Helpers<J> {
    fn drop(&mut self) {
        self.desk.state.lock().stopping = true;
        for helper in self.threads.drain(..) {
            helper.thread().unpark();
            // A panic of a helper has ended the process already.
            helper.join().ok();
        }
    }
}

/// Returns the items of one of a job's equal shares.
fn share_of(items: usize, share: usize, shares: usize) -> Range<usize> {
    items * share / shares..items * (share + 1) / shares
}

impl<J: Job> Desk<J> {
    /// Works on chunks of a thread's own share, then of the others, until all are taken.
    fn work_on(&self, job: &J, own_share: usize, shares: usize) {
        for share in (own_share..shares).chain(0..own_share) {
            let end = share_of(job.len(), share, shares).end;
            loop {
                let start = self.next[share].fetch_add(CHUNK_ITEMS, Ordering::Relaxed);
                if start >= end {
                    break;
                }
                job.run(start..end.min(start + CHUNK_ITEMS));
            }
        }
    }

    /// Withdraws the job and waits for the helpers that work on it.
    fn wait_until_done(&self) {
        let mut state = self.state.lock();
        state.job = None;
        while state.busy > 0 {
            self.done.wait(&mut state);
        }
    }

    /// Runs the helper thread that has this share.
    fn help(&self, own_share: usize) {
        let mut state = self.state.lock();
        while !state.stopping {
            let job = state.job.clone();
            let Some((job, shares)) = job.filter(|(_, shares)| own_share < *shares) else {
                MutexGuard::unlocked(&mut state, thread::park);
                continue;
            };
            state.busy += 1;
            MutexGuard::unlocked(&mut state, || {
                self.work_on(&job, own_share, shares);
                // Released before the broadcaster continues, so that it can change the job's data without a copy.
                drop(job);
            });
            // All chunks are taken, and no other job is offered while a helper is busy.
            state.job = None;
            state.busy -= 1;
            if state.busy == 0 {
                MutexGuard::unlocked(&mut state, || self.done.notify_one());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often each item was worked on.
    #[derive(Clone)]
    struct Count(Arc<Vec<AtomicUsize>>);

    impl Count {
        fn of(items: usize) -> Self {
            Self(Arc::new((0..items).map(|_| AtomicUsize::new(0)).collect()))
        }
    }

    impl Job for Count {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn run(&self, items: Range<usize>) {
            for item in items {
                self.0[item].fetch_add(1, Ordering::Relaxed);
                if item.is_multiple_of(100) {
                    thread::yield_now();
                }
            }
        }
    }

    #[test]
    fn every_item_is_worked_on_once_before_run_returns() {
        let helpers = Helpers::start(3).unwrap();
        for round in 0..400 {
            let mut job = Count::of(round * 7);
            helpers.run(&job);
            assert!(job.0.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            let is_released = Arc::get_mut(&mut job.0).is_some();
            assert!(is_released, "a helper still holds the job of round {round}");
        }
    }

    #[test]
    fn helpers_end_when_they_are_dropped() {
        let helpers = Helpers::<Count>::start(3).unwrap();
        let desk = Arc::downgrade(&helpers.desk);
        helpers.run(&Count::of(5000));
        drop(helpers);
        assert!(desk.upgrade().is_none(), "a thread still runs");
    }
}
