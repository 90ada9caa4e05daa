//! A small file system that outlives the servers on it.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{TempDir, TestServer, command_without_settings, skip};

/// A tmpfs in a mount namespace that a process of its own keeps, so that a server that is killed finds its files.
pub struct LastingDisk {
    keeper: Child,
    database: String,
    dir: TempDir,
}

/// Runs the scenario with a disk of this size. Skips the test where none can be mounted.
pub fn with_lasting_disk(size_kib: u64, scenario: impl FnOnce(LastingDisk)) {
    match LastingDisk::mount(size_kib) {
        Some(disk) => scenario(disk),
        None => skip("no right to mount a tmpfs in a user namespace, or no nsenter"),
    }
}

impl LastingDisk {
    fn mount(size_kib: u64) -> Option<Self> {
        let dir = TempDir::new();
        let mount = dir.path("disk");
        fs::create_dir(&mount).expect("mount point");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        let script = "mount -t tmpfs -o size=$1k none \"$2\" && echo mounted && exec cat";
        command
            .args([script, "sh", &size_kib.to_string()])
            .arg(&mount);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().ok()?;
        let mut mounted = [0; 8];
        let out = keeper.stdout.as_mut().expect("a pipe");
        let is_mounted = out.read_exact(&mut mounted).is_ok();
        let disk = Self {
            keeper,
            database: format!("{}/history.db", mount.display()),
            dir,
        };
        let can_enter = || disk.enter().arg("true").status();
        (is_mounted && can_enter().is_ok_and(|status| status.success())).then_some(disk)
    }

    fn enter(&self) -> Command {
        let mut command = command_without_settings("nsenter");
        let keeper = self.keeper.id().to_string();
        command.args(["--user", "--mount", "--target", &keeper, "--"]);
        command
    }

    /// The command of a server that keeps its history on the disk.
    pub fn command(&self, args: &[&str]) -> Command {
        let program = TestServer::command(&[&["--db", &self.database], args].concat());
        let mut command = self.enter();
        command.arg(program.get_program()).args(program.get_args());
        command
    }

    /// Returns a path on the disk, as other processes see it.
    pub fn path(&self, name: &str) -> PathBuf {
        let mount = self.dir.path("disk");
        PathBuf::from(format!(
            "/proc/{}/root{}",
            self.keeper.id(),
            mount.display()
        ))
        .join(name)
    }
}

impl Drop for LastingDisk {
    fn drop(&mut self) {
        let _ended = self.keeper.kill();
        let _reaped = self.keeper.wait();
    }
}
