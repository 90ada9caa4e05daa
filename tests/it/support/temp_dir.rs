//! A directory of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::TestServer;

/// An empty directory below the build's own. It is removed on drop.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{count}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("create a directory");
        Self(path)
    }

    /// Returns a path inside the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Returns a path inside the directory as text, for an argument.
    pub fn arg(&self, name: &str) -> String {
        let path = self.path(name);
        path.to_str().expect("the path is UTF-8").to_owned()
    }

    /// The command of a server that keeps its history in `history.db`.
    pub fn command(&self, args: &[&str]) -> std::process::Command {
        let database = self.arg("history.db");
        TestServer::command(&[&["--db", &database], args].concat())
    }

    /// Starts a server that keeps its history in `history.db`.
    pub fn serve(&self, args: &[&str]) -> TestServer {
        TestServer::start_command(self.command(args))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _not_removed = fs::remove_dir_all(&self.0);
    }
}
