//! The files of a database: the database itself with its log, the state of a file, and the mark beside it.

mod database;
mod file_state;
mod mark;
mod origin;

pub(super) use database::{BUSY_TIMEOUT, Database, keep_log_on_close};
pub(super) use file_state::FileState;
pub(super) use mark::{FoundMark, Mark, MarkFile, Record, RunId};
pub(super) use origin::{APPLICATION_ID, Origin, SCHEMA_VERSION};
