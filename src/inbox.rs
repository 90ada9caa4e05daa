//! The inbox of a service thread: a bounded crossbeam channel whose items are taken in batches.
//!
//! For a single message, putting the thread to sleep and waking it up costs more than its work. The `recv` of
//! crossbeam-channel calls `sched_yield` four times before it sleeps, and its `send` wakes the thread at once. An inbox
//! yields only while it is busy, because then the other threads have items to add. While it is idle, the thread
//! sleeps at once. A sender can add items first and wake the thread after it has released its locks.

use std::io;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::{
    Receiver, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryRecvError, TrySendError,
    bounded,
};

use crate::threads;

/// How often the thread of a busy inbox yields before it sleeps.
const BUSY_YIELDS: usize = 4;

/// The receiving end of an inbox, owned by its thread.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    queue: Receiver<T>,
    capacity: usize,
    /// True if the last batch had several items.
    is_busy: Arc<AtomicBool>,
}

/// A sending end of an inbox. When the last one is dropped, the thread takes the remaining items and ends.
#[derive(Debug)]
pub(crate) struct InboxSender<T> {
    // Above `reader`, because the channel must be closed before the thread is woken to see that.
    queue: Sender<T>,
    reader: Reader,
    is_busy: Arc<AtomicBool>,
}

/// The thread that an inbox belongs to. It is woken on drop.
#[derive(Clone, Debug)]
struct Reader(Thread);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

/// Starts a thread that all clients depend on, with an inbox for at most `capacity` items.
pub(crate) fn spawn_service<T: Send + 'static>(
    name: &'static str,
    capacity: usize,
    run: impl FnOnce(&Inbox<T>) + Send + 'static,
) -> io::Result<(InboxSender<T>, JoinHandle<()>)> {
    let (queue, inbox) = new(capacity);
    let is_busy = Arc::clone(&inbox.is_busy);
    let thread = threads::spawn_service(name, move || run(&inbox))?;
    let sender = InboxSender {
        queue,
        reader: Reader(thread.thread().clone()),
        is_busy,
    };
    Ok((sender, thread))
}

/// Returns an inbox of the current thread.
#[cfg(test)]
pub(crate) fn of_this_thread<T>(capacity: usize) -> (InboxSender<T>, Inbox<T>) {
    let (queue, inbox) = new(capacity);
    let sender = InboxSender {
        queue,
        reader: Reader(thread::current()),
        is_busy: Arc::clone(&inbox.is_busy),
    };
    (sender, inbox)
}

fn new<T>(capacity: usize) -> (Sender<T>, Inbox<T>) {
    let (sender, queue) = bounded(capacity);
    let inbox = Inbox {
        queue,
        capacity,
        is_busy: Arc::default(),
    };
    (sender, inbox)
}

impl<T> Inbox<T> {
    /// Waits for an item and returns all items that wait, at most as many as the inbox holds. Fails at the deadline, or
    /// when there are neither items nor senders.
    pub(crate) fn next_batch(
        &self,
        deadline: Option<Instant>,
    ) -> Result<impl Iterator<Item = T>, RecvTimeoutError> {
        let first = self.recv(deadline)?;
        if self.is_busy.load(Ordering::Relaxed) {
            // Lets threads that are ready to run add items to this batch. Unlike a sleep, it adds no delay on an idle
            // machine.
            thread::yield_now();
        }
        let mut taken = 0;
        let count = move |_: &T| {
            taken += 1;
            if taken <= 2 {
                self.is_busy.store(taken == 2, Ordering::Relaxed);
            }
        };
        let batch = iter::once(first).chain(self.queue.try_iter());
        Ok(batch.take(self.capacity).inspect(count))
    }

    fn recv(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        let mut yields = 0;
        loop {
            match self.queue.try_recv() {
                Ok(item) => return Ok(item),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
            // A wake-up between the look into the queue and `park` makes `park` return at once.
            if yields < BUSY_YIELDS && self.is_busy.load(Ordering::Relaxed) {
                yields += 1;
                thread::yield_now();
            } else if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(RecvTimeoutError::Timeout);
                }
                thread::park_timeout(left);
            } else {
                thread::park();
            }
        }
    }
}

impl<T> InboxSender<T> {
    /// Adds an item and wakes the thread. Blocks while the inbox is full. Fails after the thread has ended.
    pub(crate) fn send(&self, item: T) -> Result<(), SendError<T>> {
        let added = self.add(item);
        self.wake();
        added
    }

    /// Like [`send`](Self::send), but fails also after `timeout`.
    pub(crate) fn send_timeout(
        &self,
        item: T,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<T>> {
        self.send_deadline(item, Instant::now() + timeout)
    }

    /// Like [`send`](Self::send), but fails also at the deadline.
    pub(crate) fn send_deadline(
        &self,
        item: T,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<T>> {
        let added = match self.queue.try_send(item) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(item)) => {
                self.wake();
                self.queue.send_deadline(item, deadline)
            }
            Err(TrySendError::Disconnected(item)) => Err(SendTimeoutError::Disconnected(item)),
        };
        self.wake();
        added
    }

    /// Adds an item; the caller calls [`wake`](Self::wake) soon. Wakes the thread itself only before it blocks, while
    /// the inbox is full. Fails after the thread has ended.
    pub(crate) fn add(&self, item: T) -> Result<(), SendError<T>> {
        match self.queue.try_send(item) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(item)) => {
                self.wake();
                self.queue.send(item)
            }
            Err(TrySendError::Disconnected(item)) => Err(SendError(item)),
        }
    }

    /// Wakes the thread, if it sleeps, to take the items that were added.
    pub(crate) fn wake(&self) {
        self.reader.0.unpark();
    }

    /// Returns whether nothing waits and the last batch had a single item.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.is_busy.load(Ordering::Relaxed)
    }

    /// Returns the number of items that wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

impl<T> Clone for InboxSender<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            reader: self.reader.clone(),
            is_busy: Arc::clone(&self.is_busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn next<T>(inbox: &Inbox<T>) -> Vec<T> {
        let batch = inbox.next_batch(Some(Instant::now() + TIMEOUT));
        batch.expect("items or the end of all senders").collect()
    }

    #[test]
    fn batch_has_all_items_that_wait() {
        let (sender, inbox) = of_this_thread(4);
        for n in 0..4 {
            sender.send(n).expect("the inbox is alive");
        }
        assert_eq!(next(&inbox), [0, 1, 2, 3]);
    }

    #[test]
    fn inbox_is_idle_if_nothing_waits_and_the_last_batch_had_one_item() {
        let (sender, inbox) = of_this_thread(4);
        assert!(sender.is_idle());
        for items in [1, 3, 1, 2] {
            for n in 0..items {
                sender.add(n).expect("the inbox is alive");
                assert!(!sender.is_idle());
            }
            assert_eq!(next(&inbox).len(), items);
            assert_eq!(sender.is_idle(), items == 1);
        }
    }

    #[test]
    fn sleeping_thread_is_woken_by_items_and_by_the_end_of_the_last_sender() {
        let (results, received) = bounded(1);
        let run = move |inbox: &Inbox<u32>| {
            while let Ok(batch) = inbox.next_batch(None) {
                results.send(batch.collect::<Vec<_>>()).expect("a test");
            }
        };
        let (sender, thread) = spawn_service("test", 4, run).expect("a thread");
        for n in 0..100 {
            sender.clone().send(n).expect("the inbox is alive");
            assert_eq!(received.recv_timeout(TIMEOUT), Ok(vec![n]));
        }
        drop(sender);
        thread.join().expect("the thread ends");
    }

    #[test]
    fn full_inbox_is_emptied_although_nobody_calls_wake() {
        let (results, received) = bounded(1000);
        let run = move |inbox: &Inbox<u32>| {
            while let Ok(batch) = inbox.next_batch(None) {
                batch.for_each(|n| results.send(n).expect("a test"));
            }
        };
        let (sender, _thread) = spawn_service("test", 2, run).expect("a thread");
        for n in 0..1000 {
            sender.add(n).expect("the inbox is alive");
        }
        sender.wake();
        for n in 0..1000 {
            assert_eq!(received.recv_timeout(TIMEOUT), Ok(n));
        }
    }

    #[test]
    fn wait_ends_at_the_deadline_and_full_inbox_times_out() {
        let (sender, inbox) = of_this_thread(1);
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(
            inbox.next_batch(Some(soon)).err(),
            Some(RecvTimeoutError::Timeout)
        );
        sender.send(1).expect("the inbox is alive");
        let refused = sender.send_timeout(2, Duration::from_millis(5));
        assert_eq!(refused, Err(SendTimeoutError::Timeout(2)));
        drop(sender);
        assert_eq!(next(&inbox), [1]);
        assert_eq!(
            inbox.next_batch(None).err(),
            Some(RecvTimeoutError::Disconnected)
        );
    }
}
