//! File systems that fill up, fail or cannot be written.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{TempDir, TestServer, command_without_settings, skip, wait_for, wait_until};

/// A server whose history is on a file system of a few MiB that only its process sees: a tmpfs in a mount
/// namespace, which needs no privileges where user namespaces are allowed.
pub struct SmallDisk {
    pub server: TestServer,
    root: PathBuf,
    _dir: TempDir,
}

/// Runs the scenario with a server on a disk of this size. Skips the test where none can be mounted.
pub fn with_small_disk(size: &str, args: &[&str], scenario: impl FnOnce(SmallDisk)) {
    if can_mount_tmpfs() {
        scenario(SmallDisk::serve(size, args));
    }
}

/// The command of a server whose history is to be on a read-only file system. Skips the test, with `None`, where
/// none can be mounted.
pub fn read_only_disk_command() -> Option<Command> {
    if !can_mount_tmpfs() {
        return None;
    }
    let program = TestServer::command(&["--db", "/mnt/history.db"]);
    let mut command = unshare();
    command.args(["mount -t tmpfs -o ro none /mnt && exec \"$@\"", "sh"]);
    command.arg(program.get_program()).args(program.get_args());
    Some(command)
}

/// Returns whether a tmpfs can be mounted, and records a skip if not.
fn can_mount_tmpfs() -> bool {
    let can = run(unshare().arg("mount -t tmpfs none /mnt"));
    if !can {
        skip("no right to mount a tmpfs in a user namespace");
    }
    can
}

impl SmallDisk {
    fn serve(size: &str, args: &[&str]) -> Self {
        let dir = TempDir::new();
        let mount = dir.path("disk");
        fs::create_dir(&mount).expect("mount point");
        let database = format!("{}/history.db", mount.display());
        let program = TestServer::command(&[&["--db", &database], args].concat());
        let script = "mount -t tmpfs -o size=$1 none \"$2\" && shift 2 && exec \"$@\"";
        let mut command = unshare();
        command.args([script, "sh", size]).arg(&mount);
        command.arg(program.get_program()).args(program.get_args());
        let server = TestServer::start_command(command);
        // The mount as the server's process sees it.
        let root = PathBuf::from(format!("/proc/{}/root{}", server.pid(), mount.display()));
        Self {
            server,
            root,
            _dir: dir,
        }
    }

    /// Fills the disk to the last byte.
    pub fn fill(&self) {
        let path = self.root.join("filler");
        let block = vec![b'x'; 4096];
        let mut file = fs::File::create(path).expect("create the filler");
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }

    /// Frees the bytes that `fill` took.
    pub fn clear(&self) {
        fs::remove_file(self.root.join("filler")).expect("remove the filler");
    }

    /// Blocks until `/health` has this status and returns its body.
    pub fn wait_for_status(&self, status: &str) -> serde_json::Value {
        wait_for(status, || {
            let health = self.server.raw().get("/health").json();
            (health["status"] == status).then_some(health)
        })
    }
}

/// An ext4 file system in a file, whose error handling can turn it read-only under a running server. Only root can
/// mount one.
pub struct LoopDisk {
    mount: PathBuf,
    image: PathBuf,
    _dir: TempDir,
}

/// Runs the scenario with a loop device. Skips the test where none can be mounted.
pub fn with_loop_disk(scenario: impl FnOnce(LoopDisk)) {
    match LoopDisk::mount() {
        Some(disk) => scenario(disk),
        None => skip("no mkfs.ext4, or no right to mount a loop device"),
    }
}

impl LoopDisk {
    fn mount() -> Option<Self> {
        let dir = TempDir::new();
        let disk = Self {
            mount: dir.path("disk"),
            image: dir.path("image"),
            _dir: dir,
        };
        fs::create_dir(&disk.mount).expect("mount point");
        let image = fs::File::create(&disk.image).expect("create the image");
        image.set_len(16 << 20).expect("size the image");
        let formatted = run(Command::new("mkfs.ext4").arg("-q").arg(&disk.image));
        (formatted && disk.try_mount()).then_some(disk)
    }

    /// Mounts the image again and waits until it is writable: the kernel removes the previous loop device some time later.
    pub fn mount_again(&self) {
        wait_until("the disk is mounted and writable", || {
            let mounted = self.try_mount();
            let writable = mounted && fs::write(self.mount.join("probe"), "x").is_ok();
            if mounted && !writable {
                self.unmount();
            }
            writable
        });
    }

    fn try_mount(&self) -> bool {
        let mut mount = Command::new("mount");
        run(mount.args(["-o", "loop"]).arg(&self.image).arg(&self.mount))
    }

    /// Aborts the file system, as an error of the disk does: every write fails from now on, to open files too.
    pub fn fail(&self) {
        let mut remount = Command::new("mount");
        let failed = run(remount.args(["-o", "remount,abort"]).arg(&self.mount));
        assert!(failed, "cannot abort the file system");
    }

    /// Runs a part of a scenario while every write to the disk hangs.
    pub fn while_frozen(&self, part: impl FnOnce()) {
        /// Thaws when dropped, also when an assertion fails: a process that hangs in a write cannot be killed.
        struct Frozen<'a>(&'a LoopDisk);
        impl Drop for Frozen<'_> {
            fn drop(&mut self) {
                let thawed = run(Command::new("fsfreeze").arg("-u").arg(&self.0.mount));
                assert!(thawed, "cannot thaw the file system");
            }
        }
        let frozen = run(Command::new("fsfreeze").arg("-f").arg(&self.mount));
        assert!(frozen, "cannot freeze the file system");
        let _frozen = Frozen(self);
        part();
    }

    pub fn unmount(&self) {
        wait_until("the disk is unmounted", || {
            run(Command::new("umount").arg(&self.mount))
        });
    }

    pub fn serve(&self) -> TestServer {
        let database = format!("{}/history.db", self.mount.display());
        // An aborted file system forgets everything that was not synced.
        TestServer::start(&["--db", &database, "--durability", "full"])
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _not_mounted = run(Command::new("umount").arg(&self.mount));
    }
}

fn unshare() -> Command {
    let mut command = command_without_settings("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    command
}

/// Runs a command and returns whether it succeeded.
fn run(command: &mut Command) -> bool {
    let output = command.output();
    output.is_ok_and(|output| output.status.success())
}
