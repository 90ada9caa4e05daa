//! The mark: a small file beside the database that says which state of the database clients have seen.
//!
//! SQLite cannot detect that its file, its log or both were set back to an earlier time. Offsets that clients have
//! seen would then be used again. The mark counts the batches that were acknowledged, so a database with fewer of
//! them has lost some.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use parking_lot::{Mutex, MutexGuard};

use super::file_state::FileState;

/// Bytes of the file. It is written with a single system call into one page of memory, so a killed process leaves
/// the old record or the new one.
const MARK_BYTES: usize = 512;
/// The first words of the file: its format and version.
const HEADER: [&str; 2] = ["wscast-mark", "1"];

/// A random number that names one run of a server on a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunId(u64);

impl RunId {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for RunId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        u64::from_str_radix(text, 16).map(Self).map_err(|_| ())
    }
}

/// The contents of a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Whether the last run ended with a complete checkpoint, synced to disk.
    pub(super) is_clean: bool,
    /// Whether a checkpoint may be writing to the database file, so that `file` does not describe it.
    pub(super) is_copying: bool,
    /// Whether the database is known to have lost messages, so that the next run starts new epochs.
    pub(super) is_void: bool,
    /// The run that the database names.
    pub(super) run: RunId,
    /// The run before it, while a start replaces one by the other; otherwise the same as `run`.
    pub(super) last_run: RunId,
    /// The number of the last acknowledged batch.
    pub(super) batch: u64,
    /// The number of a batch that the database file contains without its log.
    pub(super) copied_batch: u64,
    /// The boot of the machine during the run; empty if unknown.
    pub(super) boot: String,
    /// The database file after the last checkpoint.
    pub(super) file: FileState,
}

impl Record {
    pub(super) fn is_of(&self, run: RunId) -> bool {
        run == self.run || run == self.last_run
    }

    fn encode(&self) -> [u8; MARK_BYTES] {
        let FileState {
            inode,
            created_ns,
            modified_ns,
            bytes,
        } = self.file;
        let text = format!(
            "{} {} {} {} {} {} {} {} -{} {inode} {created_ns} {modified_ns} {bytes}",
            HEADER.join(" "),
            u8::from(self.is_clean),
            u8::from(self.is_copying),
            u8::from(self.is_void),
            self.run,
            self.last_run,
            self.batch,
            self.copied_batch,
            self.boot,
        );
        let mut encoded = [b' '; MARK_BYTES];
        let line = format!("{text} {:016x}\n", checksum(text.as_bytes()));
        encoded[..line.len()].copy_from_slice(line.as_bytes());
        encoded
    }

    fn decode(encoded: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(encoded).ok()?;
        let (line, _) = text.split_once('\n')?;
        let (line, sum) = line.rsplit_once(' ')?;
        if sum != format!("{:016x}", checksum(line.as_bytes())) {
            return None;
        }
        let mut words = line.split(' ');
        let mut word = || words.next();
        if [word()?, word()?] != HEADER {
            return None;
        }
        Some(Self {
            is_clean: word()? == "1",
            is_copying: word()? == "1",
            is_void: word()? == "1",
            run: word()?.parse().ok()?,
            last_run: word()?.parse().ok()?,
            batch: word()?.parse().ok()?,
            copied_batch: word()?.parse().ok()?,
            boot: word()?.strip_prefix('-')?.to_owned(),
            file: FileState {
                inode: word()?.parse().ok()?,
                created_ns: word()?.parse().ok()?,
                modified_ns: word()?.parse().ok()?,
                bytes: word()?.parse().ok()?,
            },
        })
    }
}

/// Returns the 64-bit FNV-1a hash.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The state in which a mark was found.
#[derive(Debug)]
pub(super) enum FoundMark {
    Missing,
    /// The file has no valid record.
    Damaged,
    Valid(Record),
}

impl FoundMark {
    /// Reads the mark of a database.
    pub(super) fn read(database: &Path) -> io::Result<Self> {
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
pub(super) fn path_beside(database: &Path) -> PathBuf {
    let mut path = database.to_owned().into_os_string();
    path.push("-mark");
    path.into()
}

/// The mark of the database in use, open for writing.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    path: PathBuf,
    record: Mutex<Record>,
    /// Held during a checkpoint.
    checkpoint: Mutex<()>,
}

impl Mark {
    /// Opens the mark of a database, or creates it, and writes a record.
    pub(super) fn create(database: &Path, record: Record) -> io::Result<Self> {
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
    pub(super) fn record(&self) -> Record {
        self.record.lock().clone()
    }

    /// Changes the record and writes it. A killed process cannot undo this; a loss of power can.
    pub(super) fn update(&self, change: impl FnOnce(&mut Record)) -> io::Result<()> {
        let mut record = self.record.lock();
        change(&mut record);
        self.file.write_all_at(&record.encode(), 0)
    }

    /// Changes the record, writes it, and waits until it is on the disk.
    pub(super) fn update_synced(&self, change: impl FnOnce(&mut Record)) -> io::Result<()> {
        self.update(change)?;
        self.file.sync_all()?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }

    /// Waits until no checkpoint runs, and keeps others from starting.
    pub(super) fn lock_checkpoint(&self) -> MutexGuard<'_, ()> {
        self.checkpoint.lock()
    }

    /// Compares the database file with its state after the last checkpoint. If another program has written to it,
    /// the next run starts new epochs.
    pub(super) fn check_file(&self, now: impl FnOnce() -> io::Result<FileState>) {
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
                created_ns: u128::MAX,
                modified_ns: u128::MAX,
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
        let end = whole.iter().position(|byte| *byte == b'\n').unwrap();
        for bit in 0..end * 8 {
            let mut flipped = whole;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&flipped), None, "bit {bit}");
        }
    }
}
