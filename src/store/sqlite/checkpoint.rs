//! Checkpoints: copies the write-ahead log into the database on a thread of its own, so that no publisher waits for
//! the disk to sync.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use rusqlite::Connection;

use crate::config::Durability;
use crate::threads;

use super::error::DatabaseError;
use super::files::{Database, Mark, keep_log_on_close};

/// Growth of the log after which it is copied into the database.
const CHECKPOINT_WAL_BYTES: u64 = 4 * 1024 * 1024;
/// Size of the log at which publishers wait until it is empty. Under constant load it would otherwise grow without
/// limit.
const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Least time between two checks of the log's size.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Time without a write after which the log is truncated, because no publisher has to wait for it then.
const QUIET: Duration = Duration::from_secs(1);
/// Free bytes on the disk below which the log is kept small, because copying it may need as much space again. With
/// more, the log reaches [`WAL_BYTES_MAX`] before the disk is full.
const SPACE_BYTES_MIN: u64 = WAL_BYTES_MAX + 16 * 1024 * 1024;
/// The time-out of a wait that only a write ends.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// A handle of the checkpoint thread. Dropping it ends and joins the thread.
#[derive(Debug)]
pub(super) struct Checkpointer {
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    requests: Arc<Requests>,
}

/// Flags that the writer and the checkpoint thread share.
#[derive(Debug, Default)]
struct Requests {
    /// A write failed, and space in the log may help.
    empty_log: AtomicBool,
    /// The disk is nearly full.
    space_is_low: AtomicBool,
}

impl Checkpointer {
    pub(super) fn start(database: Arc<Database>, mark: Arc<Mark>) -> Result<Self, DatabaseError> {
        let connection = database
            .connect(Durability::Normal)
            .and_then(|connection| keep_log_on_close(&connection).map(|()| connection))
            .map_err(|why| DatabaseError::sqlite(database.path(), why))?;
        let (wake, woken) = bounded(1);
        let requests = Arc::new(Requests::default());
        requests.look_at_space(&database);
        let checkpoints = CheckpointThread {
            database,
            mark,
            connection,
            requests: Arc::clone(&requests),
        };
        let thread = threads::spawn_service("checkpoint", move || checkpoints.run(&woken))
            .map_err(DatabaseError::Thread)?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
            requests,
        })
    }

    /// Returns whether the disk is nearly full.
    pub(super) fn space_is_low(&self) -> bool {
        self.requests.space_is_low.load(Ordering::Relaxed)
    }

    /// Wakes the thread after a failed write, to free the space of the log.
    pub(super) fn empty_log(&self) {
        self.requests.empty_log.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Wakes the thread after a write.
    pub(super) fn wake(&self) {
        if let Some(wake) = &self.wake
            && let Err(TrySendError::Disconnected(())) = wake.try_send(())
        {
            log::error!("the checkpoint thread has ended");
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // An error is the thread's panic, which is logged already.
            thread.join().ok();
        }
    }
}

impl Requests {
    fn look_at_space(&self, database: &Database) {
        let is_low = database.free_bytes() < SPACE_BYTES_MIN;
        self.space_is_low.store(is_low, Ordering::Relaxed);
    }
}

/// The state of the checkpoint thread.
struct CheckpointThread {
    database: Arc<Database>,
    mark: Arc<Mark>,
    connection: Connection,
    requests: Arc<Requests>,
}

impl CheckpointThread {
    /// Copies the log while writers are active, and truncates it once they are quiet.
    ///
    /// After the whole log is copied, the next writer restarts it from the beginning, so it then shrinks below
    /// `copied`. It is still truncated later: what was written since is not in the file.
    fn run(self, woken: &Receiver<()>) {
        let mut copied = 0;
        let mut truncation_is_due = false;
        loop {
            let time_out = if truncation_is_due { QUIET } else { FOREVER };
            match woken.recv_timeout(time_out) {
                Ok(()) => {
                    self.requests.look_at_space(&self.database);
                    let wal = self.database.wal_bytes();
                    if wal < copied {
                        copied = 0;
                    }
                    if wal >= copied + CHECKPOINT_WAL_BYTES {
                        self.checkpoint("PASSIVE");
                        copied = wal;
                        truncation_is_due = true;
                    }
                    let must_empty = self.requests.empty_log.swap(false, Ordering::Relaxed);
                    if wal >= WAL_BYTES_MAX || must_empty {
                        self.checkpoint("TRUNCATE");
                    }
                    std::thread::park_timeout(LOOK_INTERVAL);
                }
                Err(RecvTimeoutError::Timeout) => {
                    // A program that reads the file may block it for now.
                    truncation_is_due = !self.checkpoint("TRUNCATE");
                    copied = 0;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn checkpoint(&self, mode: &str) -> bool {
        checkpoint(&self.database, &self.mark, &self.connection, mode)
    }
}

/// Runs one checkpoint, and records in the mark what the file then contains. Returns whether it copied the whole log.
/// Pages that cannot be copied now stay in the log, which is durable, until the next checkpoint.
pub(super) fn checkpoint(
    database: &Database,
    mark: &Mark,
    connection: &Connection,
    mode: &str,
) -> bool {
    let _no_other = mark.lock_checkpoint();
    if mark.check_file(|| database.file_state()) {
        // The log would be mixed into another file.
        return false;
    }
    let batch = mark.record().batch;
    // If the mark cannot be written, the next start may assume a loss and use new epochs, which is safe.
    let log_failure = |why| log::debug!("checkpoint: {why}");
    mark.update(|record| record.is_copying = true)
        .unwrap_or_else(log_failure);
    let pragma = format!("PRAGMA wal_checkpoint({mode})");
    let result = connection.query_row(&pragma, [], |row| {
        let is_blocked: bool = row.get(0)?;
        Ok(!is_blocked && row.get::<_, i64>(1)? == row.get::<_, i64>(2)?)
    });
    if let Err(why) = &result {
        log::debug!("checkpoint: {why}");
    }
    let is_complete = result.unwrap_or(false);
    let update = mark.update(|record| {
        // Without a log, every write changes the file.
        if let (true, Ok(state)) = (database.has_wal(), database.file_state()) {
            record.file = state;
            record.is_copying = false;
        }
        if is_complete {
            record.copied_batch = batch;
            record.last_run = record.run;
        }
    });
    update.unwrap_or_else(log_failure);
    is_complete
}
