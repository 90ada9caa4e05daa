//! The origin of a file: a database of wscast, of a later version, or of another program.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::super::error::DatabaseError;

/// Marks a database as one of wscast (`wsca`), in the header field that SQLite reserves for this.
pub(in crate::store::sqlite) const APPLICATION_ID: u32 = 0x7773_6361;
/// The version of the schema. A file with a higher number was written by a later version of wscast.
pub(in crate::store::sqlite) const SCHEMA_VERSION: u32 = 3;

/// The origin of a database file.
pub(in crate::store::sqlite) enum Origin {
    /// This version of wscast or an earlier one, or no program yet because the file is empty.
    Ours,
    /// A later version of wscast, with this schema version.
    Newer(u32),
    /// Another program.
    Foreign,
}

impl Origin {
    pub(in crate::store::sqlite) fn of(application_id: u32, schema_version: u32) -> Self {
        match (application_id, schema_version) {
            (APPLICATION_ID, 0..=SCHEMA_VERSION) => Self::Ours,
            (APPLICATION_ID, newer) => Self::Newer(newer),
            _ => Self::Foreign,
        }
    }

    /// Fails unless the file is one of wscast.
    pub(in crate::store::sqlite) fn check(&self, path: &Path) -> Result<(), DatabaseError> {
        match self {
            Self::Ours => Ok(()),
            Self::Newer(version) => Err(DatabaseError::Newer {
                path: path.to_owned(),
                schema: *version,
                schema_max: SCHEMA_VERSION,
            }),
            Self::Foreign => Err(DatabaseError::Foreign(path.to_owned())),
        }
    }

    /// Reads the origin from the file's header, without SQLite: SQLite may change a file merely by opening it.
    pub(in crate::store::sqlite) fn read(mut file: &File) -> io::Result<Self> {
        const HEADER_BYTES: u64 = 100;
        let mut header = Vec::new();
        file.by_ref().take(HEADER_BYTES).read_to_end(&mut header)?;
        if header.is_empty() {
            return Ok(Self::Ours);
        }
        let number_at = |at: usize| {
            let bytes = header.get(at..at + 4)?.first_chunk().copied()?;
            Some(u32::from_be_bytes(bytes))
        };
        let (Some(version), Some(application_id)) = (number_at(60), number_at(68)) else {
            return Ok(Self::Foreign);
        };
        if !header.starts_with(b"SQLite format 3\0") {
            return Ok(Self::Foreign);
        }
        // A server that was killed before its first checkpoint leaves a file without tables; they are in the log.
        if (version, application_id) == (0, 0) && is_only_a_header(file) {
            return Ok(Self::Ours);
        }
        Ok(Self::of(application_id, version))
    }
}

fn is_only_a_header(file: &File) -> bool {
    const PAGE_BYTES: u64 = 4096;
    file.metadata().is_ok_and(|file| file.len() <= PAGE_BYTES)
}
