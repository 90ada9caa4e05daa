//! Deletes messages for an operator, if the database is in its place and the disk has space for the log.

use std::sync::atomic::Ordering;

use crate::protocol::RoomName;
use crate::store::api::{Deleted, Deletion};
use crate::store::error::StoreError;

use super::error::{is_outcome_unknown, reason};
use super::writer::DELETED_BYTES_MAX;
use super::{BATCH_OVERHEAD_BYTES, Sqlite};

impl Sqlite {
    /// Deletes messages for an operator, or a part of them.
    pub(super) fn delete_part(
        &self,
        room: &RoomName,
        deletion: Deletion,
    ) -> Result<Deleted, StoreError> {
        let writer = &mut *self.writer.lock();
        if self.is_misplaced.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable);
        }
        let failed = |why: String| {
            self.health.failed(why);
            StoreError::Unavailable
        };
        if self.checkpointer.space_is_low() {
            let log_bytes = DELETED_BYTES_MAX + BATCH_OVERHEAD_BYTES;
            self.require_space(writer, log_bytes).map_err(failed)?;
        }
        let deleted = writer.delete(room, deletion);
        if self.mark.check_file(|| self.database.file_state()) {
            return Err(StoreError::Unknown);
        }
        let deleted = deleted.map_err(|why| {
            self.checkpointer.empty_log();
            let is_unknown = is_outcome_unknown(&why);
            let error = failed(reason(&why));
            if is_unknown {
                StoreError::Unknown
            } else {
                error
            }
        })?;
        self.copy_totals(writer);
        self.metrics.deleted.add(deleted.messages);
        self.checkpointer.wake();
        Ok(deleted)
    }
}
