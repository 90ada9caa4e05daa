//! The mark: a small file beside the database that records which state of the database clients have seen.
//!
//! SQLite cannot detect that its file, its log or both were set back to an earlier time. Offsets that clients have
//! seen would then be used again. The mark counts the batches that were acknowledged, so a database with fewer of
//! them has lost some.
//!
//! The mark itself could be set back too. It records when it was written, and the time at which the file system last
//! changed the file (`ctime`), which no program can choose, must be the same.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::num::NonZeroI64;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, MutexGuard};

use super::super::error::DatabaseError;
use super::database::Database;
use super::file_state::FileState;

/// Bytes of the file. It is written with a single system call into one page of memory, so a killed process leaves
/// the old record or the new one.
const MARK_BYTES: usize = 512;
/// The first bytes of the file: its format and version.
const HEADER: [u8; 8] = *b"wscamrk2";
/// The longest boot id; that of Linux has 36 bytes.
const BOOT_BYTES_MAX: usize = 64;
/// Numbers in a record, the header included.
const NUMBERS: usize = 12;
/// Numbers, boot and checksum, in words of eight bytes.
const WORDS: usize = NUMBERS + BOOT_BYTES_MAX / 8 + 1;

/// How much later than recorded the file system may have written the mark. A later change is not the server's.
const LATE_NS_MAX: i64 = 100_000_000;
/// A write that was delayed longer is repeated, unless the server is killed before that.
const REPEAT_NS_MIN: i64 = 1_000_000;
/// How much earlier the file system may say that it wrote the mark. Some keep times in steps of two seconds.
const EARLY_NS_MAX: i64 = 2_100_000_000;
/// The steps of a clock that a file system uses instead of the process's.
const CLOCK_STEP_NS: i64 = 10_000_000;

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
    /// The time at which the record was written, by the clock of the file system.
    pub(in crate::store::sqlite) written_ns: i64,
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
            self.written_ns.cast_unsigned(),
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
            written_ns,
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
            written_ns: written_ns.cast_signed(),
        })
    }

    /// Returns whether the file was last changed when the record was written, or at most `late_ns_max` later.
    fn is_written_at(&self, changed_ns: i64, late_ns_max: i64) -> bool {
        let late = changed_ns.saturating_sub(self.written_ns);
        (-EARLY_NS_MAX..=late_ns_max).contains(&late)
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
    Valid {
        record: Record,
        /// False if the file was changed after its record was written: it was put back, moved or given to a user.
        is_untouched: bool,
    },
}

/// The file of a mark, locked against other servers until it and every [`Mark`] on it are dropped.
#[derive(Debug)]
pub(in crate::store::sqlite) struct MarkFile {
    file: File,
    path: PathBuf,
}

impl MarkFile {
    /// Opens and reads the mark of a database, and creates an empty file if there is none. A file of that name which
    /// is no mark is left as it is.
    pub(in crate::store::sqlite) fn open(
        database: &Database,
    ) -> Result<(Self, FoundMark), DatabaseError> {
        let path = database.path_with("-mark");
        let failed = |why| DatabaseError::Mark(path.clone(), why);
        if std::fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(DatabaseError::NotAMark(path));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let file = match options.clone().create_new(true).open(&path) {
            Ok(file) => {
                // A server that root starts once must not lock out the database's owner. Only root may do this.
                let (user, group) = database.owner().map_err(failed)?;
                fchown(&file, Some(user), Some(group)).ok();
                file
            }
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
                // Creates the file that a symbolic link names.
                options.create(true).open(&path).map_err(failed)?
            }
            Err(why) => return Err(failed(why)),
        };
        let mut encoded = Vec::new();
        let read = (&file)
            .take(MARK_BYTES as u64 + 1)
            .read_to_end(&mut encoded);
        read.map_err(failed)?;
        if !is_of_mark(&encoded) {
            return Err(DatabaseError::NotAMark(path));
        }
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => DatabaseError::InUse(database.path().to_owned()),
            TryLockError::Error(why) => failed(why),
        })?;
        let found = match Record::decode(&encoded) {
            _ if encoded.is_empty() => FoundMark::Missing,
            None => FoundMark::Damaged,
            Some(record) => FoundMark::Valid {
                is_untouched: record.is_written_at(changed_ns(&file).map_err(failed)?, LATE_NS_MAX),
                record,
            },
        };
        Ok((Self { file, path }, found))
    }

    pub(in crate::store::sqlite) fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns whether a file's contents are a mark, which may be damaged: cut, or with a changed byte in its header.
fn is_of_mark(contents: &[u8]) -> bool {
    let pairs = contents.iter().zip(&HEADER);
    let differing = pairs.filter(|(found, expected)| found != expected).count();
    let is_cut = contents.len() < HEADER.len();
    differing <= usize::from(!is_cut) && contents.len() <= MARK_BYTES
}

/// Returns the time at which the file system last changed a file, in nanoseconds. No program can set it.
fn changed_ns(file: &File) -> io::Result<i64> {
    let state = rustix::fs::fstat(file)?;
    let nanoseconds = i64::try_from(state.st_ctime_nsec).unwrap_or(0);
    Ok(state.st_ctime * 1_000_000_000 + nanoseconds)
}

fn wall_clock_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as i64)
}

/// The record that is in the file, and how far the clock of the file system is ahead of this process's.
#[derive(Debug)]
struct Written {
    record: Record,
    ahead_ns: i64,
}

/// The mark of the database in use, open for writing.
#[derive(Debug)]
pub(in crate::store::sqlite) struct Mark {
    file: File,
    path: PathBuf,
    written: Mutex<Written>,
    /// Held during a checkpoint.
    checkpoint: Mutex<()>,
}

impl Mark {
    /// Writes the first record of a start.
    pub(in crate::store::sqlite) fn start(opened: &MarkFile, record: Record) -> io::Result<Self> {
        let mark = Self {
            file: opened.file.try_clone()?,
            path: opened.path.clone(),
            written: Mutex::new(Written {
                record,
                ahead_ns: 0,
            }),
            checkpoint: Mutex::default(),
        };
        mark.update(|_| ())?;
        Ok(mark)
    }

    /// Returns whether the path still names the opened file. A start would find another one.
    pub(in crate::store::sqlite) fn is_in_place(&self) -> bool {
        match (rustix::fs::fstat(&self.file), rustix::fs::stat(&self.path)) {
            (Ok(opened), Ok(named)) => {
                (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)
            }
            _ => false,
        }
    }

    /// Returns a copy of the record.
    pub(in crate::store::sqlite) fn record(&self) -> Record {
        self.written.lock().record.clone()
    }

    /// Changes the record and writes it. A killed process cannot undo this; a loss of power can.
    pub(in crate::store::sqlite) fn update(
        &self,
        change: impl FnOnce(&mut Record),
    ) -> io::Result<()> {
        let mut written = self.written.lock();
        change(&mut written.record);
        self.write(&mut written)
    }

    /// Writes the record. The process may have been stopped in between, its clock may have been set, and the file system
    /// may have a clock of its own: then the record is written again.
    fn write(&self, written: &mut Written) -> io::Result<()> {
        const ATTEMPTS: usize = 3;
        for attempt in 1..=ATTEMPTS {
            let now_ns = wall_clock_ns();
            written.record.written_ns = now_ns + written.ahead_ns;
            self.file.write_all_at(&written.record.encode(), 0)?;
            let changed_ns = changed_ns(&self.file)?;
            if written.record.is_written_at(changed_ns, REPEAT_NS_MIN) {
                return Ok(());
            }
            // A delay is unlikely to occur twice, so the clocks differ.
            if attempt + 1 == ATTEMPTS {
                written.ahead_ns = changed_ns - now_ns + CLOCK_STEP_NS;
            }
        }
        // The next start may start new epochs, which is safe.
        Ok(())
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

    /// Compares the database file with its state after the last checkpoint. Returns whether another program has
    /// written to it since the start; the next run then starts new epochs.
    pub(in crate::store::sqlite) fn check_file(
        &self,
        now: impl FnOnce() -> io::Result<FileState>,
    ) -> bool {
        let mut written = self.written.lock();
        let record = &mut written.record;
        // An error is reported by the check of the file's path.
        if !record.is_copying && !record.is_void && now().is_ok_and(|now| now != record.file) {
            log::warn!(
                "another program has written to the database: publishes are refused until the server starts again"
            );
            record.is_void = true;
            if let Err(why) = self.write(&mut written) {
                log::error!("cannot write {:?}: {why}", self.path);
            }
        }
        written.record.is_void
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
            written_ns: i64::MIN,
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
