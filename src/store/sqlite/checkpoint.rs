//! Checkpoints: copies the write-ahead log into the database on a thread of its own, so that no publisher waits for
//! the disk to sync.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use rusqlite::Connection;

use crate::config::Durability;
use crate::threads;

use super::database::Database;
use super::error::DatabaseError;

/// Growth of the log after which it is copied into the database.
const CHECKPOINT_WAL_BYTES: u64 = 4 * 1024 * 1024;
/// Size of the log at which publishers wait until it is empty. Under constant load it would otherwise grow without
/// limit.
const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Least time between two looks at the log's size.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Time without a write after which the log is truncated, because no publisher has to wait for it then.
const QUIET: Duration = Duration::from_secs(1);
/// The time-out of a wait that only a write ends.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// A handle of the checkpoint thread. Dropping it ends and joins the thread.
#[derive(Debug)]
pub(super) struct Checkpointer {
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(database: Arc<Database>) -> Result<Self, DatabaseError> {
        let connection = database
            .connect(Durability::Normal)
            .map_err(|why| DatabaseError::Sqlite(database.path().to_owned(), why))?;
        let (wake, woken) = bounded(1);
        let thread = threads::spawn_service("checkpoint", move || {
            run(&database, &connection, &woken);
        })
        .map_err(DatabaseError::Thread)?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
        })
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

/// Copies the log while writers are active, and truncates it once they are quiet.
///
/// After the whole log is copied, the next writer restarts it from the beginning, so it then shrinks below
/// `copied`.
fn run(database: &Database, connection: &Connection, woken: &Receiver<()>) {
    let mut copied = 0;
    loop {
        let time_out = if copied > 0 { QUIET } else { FOREVER };
        match woken.recv_timeout(time_out) {
            Ok(()) => {
                let wal = database.wal_bytes();
                if wal < copied {
                    copied = 0;
                }
                if wal >= copied + CHECKPOINT_WAL_BYTES {
                    checkpoint(connection, "PASSIVE");
                    copied = wal;
                }
                if wal >= WAL_BYTES_MAX {
                    checkpoint(connection, "TRUNCATE");
                }
                std::thread::park_timeout(LOOK_INTERVAL);
            }
            Err(RecvTimeoutError::Timeout) => {
                checkpoint(connection, "TRUNCATE");
                copied = 0;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Runs one checkpoint. Transactions that cannot be copied now stay in the log until the next one.
pub(super) fn checkpoint(connection: &Connection, mode: &str) {
    let pragma = format!("PRAGMA wal_checkpoint({mode})");
    if let Err(why) = connection.query_row(&pragma, [], |_| Ok(())) {
        log::debug!("checkpoint: {why}");
    }
}
