//! The files of a database that no server uses, set back or altered as an operator or a disk may do it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rand::RngExt;
use rand::rngs::StdRng;
use rusqlite::Connection;
use rusqlite::backup::Backup;

use super::{TempDir, wait_until};

/// The files beside each other: database, log, index of the log, mark.
pub const FILES: [&str; 4] = [
    "history.db",
    "history.db-wal",
    "history.db-shm",
    "history.db-mark",
];
/// The database and its log.
pub const DATABASE: &str = FILES[0];
pub const LOG: &str = FILES[1];
pub const MARK: &str = FILES[3];

/// The command with which a copy is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutBack {
    /// `mv`: the path names another file.
    Move,
    /// `cp`: the same file has other contents.
    Copy,
    /// `cp -a`: the same file has other contents, and the times of the copy.
    Archive,
}

/// The age of a copy from which a server notices that it was put back. The clocks of file systems have steps.
const NOTICED_AGE: Duration = Duration::from_millis(150);

/// A copy of some of the files.
pub struct Saved {
    files: Vec<(&'static str, Vec<u8>, SystemTime)>,
    saved_at: Instant,
}

impl Saved {
    /// Copies those of the files that exist.
    pub fn of(dir: &TempDir, names: &[&'static str]) -> Self {
        let existing = names.iter().filter_map(|name| {
            let modified = fs::metadata(dir.path(name)).and_then(|file| file.modified());
            let contents = fs::read(dir.path(name)).ok()?;
            Some((*name, contents, modified.ok()?))
        });
        Self {
            files: existing.collect(),
            saved_at: Instant::now(),
        }
    }

    /// A copy of one file with these contents.
    pub fn from_contents(name: &'static str, contents: Vec<u8>) -> Self {
        Self {
            files: vec![(name, contents, SystemTime::now())],
            saved_at: Instant::now(),
        }
    }

    /// Replaces the files by the copy.
    pub fn put_back(&self, dir: &TempDir, how: PutBack) {
        wait_until("the copy is old enough", || {
            self.saved_at.elapsed() > NOTICED_AGE
        });
        for (name, contents, modified) in &self.files {
            let path = dir.path(name);
            match how {
                PutBack::Archive => {
                    fs::write(&path, contents).expect("overwrite");
                    open(&path).set_modified(*modified).expect("set time");
                }
                PutBack::Copy => fs::write(&path, contents).expect("overwrite"),
                PutBack::Move => {
                    let copy = dir.path("copy");
                    fs::write(&copy, contents).expect("copy");
                    fs::rename(&copy, &path).expect("move");
                }
            }
        }
    }
}

/// Deletes a file that may not exist.
pub fn delete(dir: &TempDir, name: &str) {
    fs::remove_file(dir.path(name)).ok();
}

/// Flips one bit of a file that may not exist or be empty.
pub fn flip_bit(path: &Path, rng: &mut StdRng) {
    let length = fs::metadata(path).map_or(0, |file| file.len());
    if length > 0 {
        flip(path, rng.random_range(0..length * 8));
    }
}

/// Flips this bit of a file.
pub fn flip(path: &Path, bit: u64) {
    let file = open(path);
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).expect("read");
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, bit / 8).expect("write");
}

/// Overwrites one page of 4096 bytes with zeros.
pub fn zero_page(path: &Path, page: u64) {
    open(path)
        .write_all_at(&[0; 4096], page * 4096)
        .expect("write");
}

/// Cuts a file that may not exist to a random part of its length.
pub fn cut(path: &Path, rng: &mut StdRng) {
    let length = fs::metadata(path).map_or(0, |file| file.len());
    if length > 0 {
        let kept = rng.random_range(0..length);
        open(path).set_len(kept).expect("cut");
    }
}

fn open(path: &Path) -> File {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.expect("open")
}

/// Damages a file as a disk does: its time of change stays.
pub fn damage_unnoticed(path: &Path, damage: impl FnOnce(&Path)) {
    let before = fs::metadata(path).and_then(|file| file.modified());
    damage(path);
    let mut file = open(path);
    file.flush().expect("flush");
    file.set_modified(before.expect("time")).expect("set time");
}

/// Does what `.restore` of the sqlite3 shell does: copies all pages of a saved database into one that may be in use.
pub fn restore_with_sqlite(saved: &Saved, dir: &TempDir) {
    let (_, contents, _) = &saved.files[0];
    let copy: PathBuf = dir.path("to-restore.db");
    fs::write(&copy, contents).expect("copy");
    let source = Connection::open(&copy).expect("open");
    let mut target = Connection::open(dir.path(DATABASE)).expect("open");
    let backup = Backup::new(&source, &mut target).expect("restore");
    backup.step(-1).expect("restore");
}
