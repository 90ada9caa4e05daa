//! The state of a file from which another program's writes to it can be seen.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Identity, size and time of the last change of a file. A copy has another identity, and a file that was written in
/// place has another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileState {
    pub(super) inode: u64,
    pub(super) created_ns: u64,
    pub(super) modified_ns: u64,
    pub(super) bytes: u64,
}

impl FileState {
    pub(super) fn of(file: &Metadata) -> Self {
        Self {
            inode: file.ino(),
            created_ns: unix_nanoseconds(file.created().ok()),
            modified_ns: unix_nanoseconds(file.modified().ok()),
            bytes: file.len(),
        }
    }
}

/// Returns the Unix time in nanoseconds, which fits until the year 2554; 0 for a time that the file system does not keep.
fn unix_nanoseconds(time: Option<SystemTime>) -> u64 {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos() as u64)
}
