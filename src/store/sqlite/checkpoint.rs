//! Moving the log into the database, on a thread of its own: nobody who publishes waits for the disk
//! to sync.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use rusqlite::Connection;

use crate::config::Durability;
use crate::threads;

use super::OpenError;
use super::file::Database;

/// The log is moved whenever it has grown by this much.
const CHECKPOINT_WAL_BYTES: u64 = 4 * 1024 * 1024;
/// Past this size publishers wait until the log is empty: it could otherwise grow for as long as
/// they never pause.
const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Looks at the log's size are at least this far apart.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// After this time without a write nobody minds if the log is cut.
const QUIET: Duration = Duration::from_secs(1);
/// Until there is something to do.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// Wakes the thread; dropped, it ends it.
#[derive(Debug)]
pub(super) struct Checkpointer {
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(database: Arc<Database>) -> Result<Self, OpenError> {
        let connection = database
            .connect(Durability::Normal)
            .map_err(|why| OpenError::Sqlite(database.path().to_owned(), why))?;
        let (wake, woken) = bounded(1);
        let thread = threads::spawn_service("checkpoint", move || {
            run(&database, &connection, &woken);
        })
        .map_err(OpenError::Thread)?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// Says that something was written.
    pub(super) fn wake(&self) {
        if let Some(wake) = &self.wake
            && let Err(TrySendError::Disconnected(())) = wake.try_send(())
        {
            log::error!("the checkpoint thread is gone");
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// A writer begins the log anew, and short, when all of it was moved before its next commit. When
/// nobody writes, that is done here.
fn run(database: &Database, connection: &Connection, woken: &Receiver<()>) {
    let mut moved = 0;
    loop {
        let wait = if moved > 0 { QUIET } else { FOREVER };
        match woken.recv_timeout(wait) {
            Ok(()) => {
                let wal = database.wal_bytes();
                if wal < moved {
                    moved = 0;
                }
                if wal >= moved + CHECKPOINT_WAL_BYTES {
                    checkpoint(connection, "PASSIVE");
                    moved = wal;
                }
                if wal >= WAL_BYTES_MAX {
                    checkpoint(connection, "TRUNCATE");
                }
                std::thread::park_timeout(LOOK_INTERVAL);
            }
            Err(RecvTimeoutError::Timeout) => {
                checkpoint(connection, "TRUNCATE");
                moved = 0;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What cannot be moved now stays in the log, where it is safe, and is moved the next time.
pub(super) fn checkpoint(connection: &Connection, mode: &str) {
    let pragma = format!("PRAGMA wal_checkpoint({mode})");
    if let Err(why) = connection.query_row(&pragma, [], |_| Ok(())) {
        log::debug!("checkpoint: {why}");
    }
}
