//! The wall clock of a process, which a scenario sets while the process runs. Its monotonic clock stays real.

use std::path::PathBuf;
use std::process::Command;

use super::{TempDir, skip};

/// A clock that a process reads through libfaketime.
pub struct FakeClock {
    library: PathBuf,
    dir: TempDir,
}

/// Runs the scenario with a clock that shows the real time at first. Skips the test where there is no libfaketime.
pub fn with_fake_clock(scenario: impl FnOnce(FakeClock)) {
    let Some(library) = library() else {
        return skip("no libfaketime; `make test` installs it where it may");
    };
    let clock = FakeClock {
        library,
        dir: TempDir::new(),
    };
    clock.set(0);
    scenario(clock);
}

impl FakeClock {
    /// Sets the clock to this many seconds after the real time.
    pub fn set(&self, seconds: i64) {
        // The process must never read half a file.
        let (new, path) = (self.dir.path("new"), self.dir.path("time"));
        std::fs::write(&new, format!("{seconds:+}\n")).expect("write");
        std::fs::rename(new, path).expect("rename");
    }

    /// Makes the process of this command read the clock.
    pub fn give_to(&self, command: &mut Command) {
        // libfaketime reads its file with memory of libc; in jemalloc, which Redis uses, that does not end.
        let mut preload = self.library.clone().into_os_string();
        preload.push(":libc.so.6");
        command
            .env("LD_PRELOAD", preload)
            .env("FAKETIME_TIMESTAMP_FILE", self.dir.path("time"))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}

/// The library of Debian's package faketime.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let in_folder = |folder: PathBuf| folder.join("faketime/libfaketimeMT.so.1");
    let paths = folders.map(|folder| in_folder(folder.expect("a folder").path()));
    paths.into_iter().find(|path| path.exists())
}
