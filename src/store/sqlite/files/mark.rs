//! The mark: a small file beside the database that records which state of the database clients have seen.
//!
//! SQLite cannot detect that its file, its log or both were set back to an earlier time. Offsets that clients have
//! seen would then be used again. The mark counts the batches that were acknowledged, so a database with fewer of
//! them has lost some.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::num::NonZeroI64;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};

use super::file_state::FileState;

/// Bytes of the file. It is written with a single system call into one page of memory, so a killed process leaves
/// the old record or the new one.
const MARK_BYTES: usize = 512;
/// The first bytes of the file: its format and version.
const HEADER: [u8; 8] = *b"wscamrk1";
/// The longest boot id; that of Linux has 36 bytes.
const BOOT_BYTES_MAX: usize = 64;
/// Numbers in a record, the header included.
const NUMBERS: usize = 11;
/// Numbers, boot and checksum, in words of eight bytes.
const WORDS: usize = NUMBERS + BOOT_BYTES_MAX / 8 + 1;

/// A random number that names one run of a server on a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::sqlite) struct RunId(NonZeroI64);

impl RunId {
    pub(in crate::store::sqlite) fn random() -> Self {
        Self(NonZeroI64::new(rand::random()).unwrap_or(NonZeroI64::MIN))
    }

    /// Converts a column's value; 0 is no run.
    pub(in crate::store::sqlite) fn from_column(column: i64) -> Option<Self> {
        NonZeroI64::new(column).map(Self)
    }

    pub(in crate::store::sqlite) fn to_column(self) -> i64 {
        self.0.get()
    }
}

/// The contents of a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store::sqlite) struct Record {
    /// True if the last run ended with a complete checkpoint, synced to disk.
    pub(in crate::store::sqlite) is_clean: bool,
    /// True if a checkpoint may be writing to the database file, so that `file` does not describe it.
    pub(in crate::store::sqlite) is_copying: bool,
    /// True if the database is known to have lost messages, so that the next run starts new epochs.
    pub(in crate::store::sqlite) is_void: bool,
    /// The run that the database names.
    pub(in crate::store::sqlite) run: RunId,
    /// The run before it, while a start replaces one by the other; otherwise the same as `run`.
    pub(in crate::store::sqlite) last_run: RunId,
    /// The number of the last acknowledged batch.
    pub(in crate::store::sqlite) batch: u64,
    /// The number of a batch that the database file contains without its log.
    pub(in crate::store::sqlite) copied_batch: u64,
    /// The boot of the machine during the run; empty if unknown.
    pub(in crate::store::sqlite) boot: String,
    /// The database file after the last checkpoint.
    pub(in crate::store::sqlite) file: FileState,
}

impl Record {
    pub(in crate::store::sqlite) fn is_of(&self, run: RunId) -> bool {
        run == self.run || run == self.last_run
    }

    /// Encodes the record: a header, numbers of eight bytes in little-endian order, the boot, a checksum.
    fn encode(&self) -> [u8; MARK_BYTES] {
        let flags = [self.is_clean, self.is_copying, self.is_void];
        let flags = flags.map(u64::from);
        let (boot, boot_bytes) = self.boot_bytes();
        let numbers = [
            u64::from_le_bytes(HEADER),
            flags[0] | flags[1] << 1 | flags[2] << 2,
            self.run.to_column().cast_unsigned(),
            self.last_run.to_column().cast_unsigned(),
            self.batch,
            self.copied_batch,
            self.file.inode,
            self.file.created_ns,
            self.file.modified_ns,
            self.file.bytes,
            boot_bytes,
        ];
        let mut encoded = [0; MARK_BYTES];
        let boot_words = boot
            .as_chunks()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word));
        let mut words: Vec<u64> = numbers.into_iter().chain(boot_words).collect();
        words.push(checksum(&words));
        for (bytes, word) in encoded.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        encoded
    }

    /// The boot, padded with zeros, and its length.
    fn boot_bytes(&self) -> ([u8; BOOT_BYTES_MAX], u64) {
        let mut padded = [0; BOOT_BYTES_MAX];
        let boot = self.boot.as_bytes();
        let length = boot.len().min(BOOT_BYTES_MAX);
        padded[..length].copy_from_slice(&boot[..length]);
        (padded, length as u64)
    }

    fn decode(encoded: &[u8]) -> Option<Self> {
        let (words, rest) = encoded.as_chunks();
        let is_whole = words.len() * 8 == MARK_BYTES && rest.is_empty();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let (summed, rest) = words.split_at_checked(WORDS - 1)?;
        if !is_whole || rest[0] != checksum(summed) || rest[1..].iter().any(|word| *word != 0) {
            return None;
        }
        let boot: Vec<u8> = summed[NUMBERS..]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let [
            header,
            flags,
            run,
            last_run,
            batch,
            copied_batch,
            inode,
            created_ns,
            modified_ns,
            bytes,
            boot_bytes,
        ] = *summed.first_chunk::<NUMBERS>()?;
        let run_id = |number: u64| RunId::from_column(number.cast_signed());
        (header == u64::from_le_bytes(HEADER)).then_some(Self {
            is_clean: flags & 1 != 0,
            is_copying: flags & 2 != 0,
            is_void: flags & 4 != 0,
            run: run_id(run)?,
            last_run: run_id(last_run)?,
            batch,
            copied_batch,
            boot: String::from_utf8(boot.get(..boot_bytes as usize)?.to_vec()).ok()?,
            file: FileState {
                inode,
                created_ns,
                modified_ns,
                bytes,
            },
        })
    }
}

/// Returns a hash like FNV-1a, over words instead of bytes. Any change of one word changes it.
fn checksum(words: &[u64]) -> u64 {
    words.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| {
        (hash.rotate_left(5) ^ word).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The state in which a mark was found.
#[derive(Debug)]
pub(in crate::store::sqlite) enum FoundMark {
    Missing,
    /// The file has no valid record.
    Damaged,
    Valid(Record),
}

impl FoundMark {
    /// Reads the mark of a database.
    pub(in crate::store::sqlite) fn read(database: &Path) -> io::Result<Self> {
        let file = match File::open(path_beside(database)) {
            Ok(file) => file,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Self::Missing),
            Err(why) => return Err(why),
        };
        let mut encoded = Vec::new();
        file.take(MARK_BYTES as u64).read_to_end(&mut encoded)?;
        Ok(match Record::decode(&encoded) {
            Some(record) => Self::Valid(record),
            None => Self::Damaged,
        })
    }
}

/// Returns the path of a database's mark.
fn path_beside(database: &Path) -> PathBuf {
    let mut path = database.to_owned().into_os_string();
    path.push("-mark");
    path.into()
}

/// The mark of the database in use, open for writing.
#[derive(Debug)]
pub(in crate::store::sqlite) struct Mark {
    file: File,
    path: PathBuf,
    record: Mutex<Record>,
    /// Held during a checkpoint.
    checkpoint: Mutex<()>,
}

impl Mark {
    /// Opens the mark of a database, or creates it, and writes a record.
    pub(in crate::store::sqlite) fn create(database: &Path, record: Record) -> io::Result<Self> {
        let path = path_beside(database);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        file.write_all_at(&record.encode(), 0)?;
        Ok(Self {
            file,
            path,
            record: Mutex::new(record),
            checkpoint: Mutex::default(),
        })
    }

    /// Returns a copy of the record.
    pub(in crate::store::sqlite) fn record(&self) -> Record {
        self.record.lock().clone()
    }

    /// Changes the record and writes it. A killed process cannot undo this; a loss of power can.
    pub(in crate::store::sqlite) fn update(
        &self,
        change: impl FnOnce(&mut Record),
    ) -> io::Result<()> {
        let mut record = self.record.lock();
        change(&mut record);
        self.file.write_all_at(&record.encode(), 0)
    }

    /// Changes the record, writes it, and waits until it is on the disk.
    pub(in crate::store::sqlite) fn update_synced(
        &self,
        change: impl FnOnce(&mut Record),
    ) -> io::Result<()> {
        self.update(change)?;
        self.file.sync_all()?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }

    /// Waits until no checkpoint runs, and keeps others from starting.
    pub(in crate::store::sqlite) fn lock_checkpoint(&self) -> MutexGuard<'_, ()> {
        self.checkpoint.lock()
    }

    /// Compares the database file with its state after the last checkpoint. If another program has written to it,
    /// the next run starts new epochs.
    pub(in crate::store::sqlite) fn check_file(&self, now: impl FnOnce() -> io::Result<FileState>) {
        let mut record = self.record.lock();
        if record.is_copying || record.is_void {
            return;
        }
        // An error is reported by the check of the file's path.
        if now().is_ok_and(|now| now != record.file) {
            log::warn!(
                "another program has written to the database: numbering restarts in a new epoch when the \
                 server starts again"
            );
            record.is_void = true;
            if let Err(why) = self.file.write_all_at(&record.encode(), 0) {
                log::error!("cannot write {:?}: {why}", self.path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            is_clean: true,
            is_copying: false,
            is_void: false,
            run: RunId::random(),
            last_run: RunId::random(),
            batch: u64::MAX,
            copied_batch: 7,
            boot: String::new(),
            file: FileState {
                inode: u64::MAX,
                created_ns: u64::MAX,
                modified_ns: u64::MAX,
                bytes: 4096,
            },
        }
    }

    #[test]
    fn record_is_read_as_it_was_written() {
        for boot in ["", "0b6f3a52-6a9c-4a0c-9a0e-5b3f8a1f6c11"] {
            let record = Record {
                boot: boot.to_owned(),
                ..record()
            };
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
    }

    #[test]
    fn flipped_bit_is_detected() {
        let whole = record().encode();
        for bit in 0..MARK_BYTES * 8 {
            let mut flipped = whole;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&flipped), None, "bit {bit}");
        }
    }
}
