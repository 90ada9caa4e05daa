//! The state of a file from which another program's writes to it can be seen.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Identity, size and time of the last change of a file. A copy has another identity, and a file that was written in
/// place has another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::sqlite) struct FileState {
    pub(in crate::store::sqlite) inode: u64,
    pub(in crate::store::sqlite) created_ns: u64,
    pub(in crate::store::sqlite) modified_ns: u64,
    pub(in crate::store::sqlite) bytes: u64,
}

impl FileState {
    pub(in crate::store::sqlite) fn of(file: &Metadata) -> Self {
        Self {
            inode: file.ino(),
            created_ns: unix_nanoseconds(file.created().ok()),
            modified_ns: unix_nanoseconds(file.modified().ok()),
            bytes: file.len(),
        }
    }
}

/// Returns the Unix time in nanoseconds, which fits until the year 2554. 0 if the file system does not keep that time.
fn unix_nanoseconds(time: Option<SystemTime>) -> u64 {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos() as u64)
}
