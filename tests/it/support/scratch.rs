//! Directories of a test's own, and small file systems.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{TestServer, eventually};

/// An empty directory, removed when this is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("scratch directory");
        Self(path)
    }

    /// A path inside it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The flags that keep history here.
    pub fn database(&self) -> [String; 2] {
        let path = self.path("history.db");
        ["--db".to_owned(), path.to_str().expect("UTF-8").to_owned()]
    }

    /// A server that keeps its history here.
    pub fn serve(&self, args: &[&str]) -> TestServer {
        let database = self.database();
        let database = database.iter().map(String::as_str);
        TestServer::start(&database.chain(args.iter().copied()).collect::<Vec<_>>())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

/// A server whose history is on a file system of a few MiB that only its process sees: a tmpfs in a
/// mount namespace, which needs no privileges where user namespaces are allowed.
pub struct SmallDisk {
    pub server: TestServer,
    root: PathBuf,
    scratch: Scratch,
}

impl SmallDisk {
    pub fn serve(size: &str, args: &[&str]) -> Self {
        let scratch = Scratch::new();
        let mount = scratch.path("disk");
        fs::create_dir(&mount).expect("mount point");
        let database = format!("{}/history.db", mount.display());
        let program = TestServer::command(&[&["--db", &database], args].concat());
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        let script = "mount -t tmpfs -o size=$1 none \"$2\" && shift 2 && exec \"$@\"";
        command.args([script, "sh", size]).arg(&mount);
        command.arg(program.get_program()).args(program.get_args());
        let server = TestServer::start_command(command);
        // As the process sees it.
        let root = PathBuf::from(format!("/proc/{}/root{}", server.pid(), mount.display()));
        Self {
            server,
            root,
            scratch,
        }
    }

    /// A server whose history is to be on a file system that cannot be written.
    pub fn read_only_command() -> Command {
        let program = TestServer::command(&["--db", "/mnt/history.db"]);
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.args(["mount -t tmpfs -o ro none /mnt && exec \"$@\"", "sh"]);
        command.arg(program.get_program()).args(program.get_args());
        command
    }

    /// Takes every byte that is free.
    pub fn fill(&self) {
        let path = self.root.join("filler");
        let block = vec![b'x'; 4096];
        let mut file = fs::File::create(path).expect("filler");
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }

    /// Gives them back.
    pub fn clear(&self) {
        fs::remove_file(self.root.join("filler")).expect("filler");
    }

    /// What `/health` says once it says this.
    pub fn becomes(&self, status: &str) -> serde_json::Value {
        let _kept = &self.scratch;
        eventually(status, || {
            let health = self.server.raw().get("/health").json();
            (health["status"] == status).then_some(health)
        })
    }
}

/// A real file system in a file, which its error handling can turn read-only under a running server.
/// Only root can mount one.
pub struct LoopDisk {
    mount: PathBuf,
    image: PathBuf,
    _scratch: Scratch,
}

impl LoopDisk {
    /// `None`, and a line that says so, where this may not be done.
    pub fn mount() -> Option<Self> {
        let scratch = Scratch::new();
        let disk = Self {
            mount: scratch.path("disk"),
            image: scratch.path("image"),
            _scratch: scratch,
        };
        fs::create_dir(&disk.mount).expect("mount point");
        let image = fs::File::create(&disk.image).expect("image");
        image.set_len(16 << 20).expect("image");
        let formatted = run(Command::new("mkfs.ext4").arg("-q").arg(&disk.image));
        if formatted && disk.try_mount() {
            return Some(disk);
        }
        eprintln!("NOT TESTED: this needs mkfs.ext4 and the right to mount a loop device");
        None
    }

    /// Mounts it once it is writable again: the loop device of before goes away in its own time.
    pub fn mount_again(&self) {
        eventually("the disk is mended", || {
            let mounted = self.try_mount();
            let writable = mounted && fs::write(self.mount.join("probe"), "x").is_ok();
            if mounted && !writable {
                self.unmount();
            }
            writable.then_some(())
        });
    }

    fn try_mount(&self) -> bool {
        let mut mount = Command::new("mount");
        run(mount.args(["-o", "loop"]).arg(&self.image).arg(&self.mount))
    }

    /// What an error of the disk does: nothing can be written any more, open files included.
    pub fn fail(&self) {
        let mut remount = Command::new("mount");
        let failed = run(remount.args(["-o", "remount,abort"]).arg(&self.mount));
        assert!(failed, "cannot abort the file system");
    }

    pub fn unmount(&self) {
        let unmounted = || run(Command::new("umount").arg(&self.mount)).then_some(());
        eventually("it is unmounted", unmounted);
    }

    pub fn serve(&self) -> TestServer {
        let database = format!("{}/history.db", self.mount.display());
        // An aborted file system forgets what was not synced.
        TestServer::start(&["--db", &database, "--durability", "full"])
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _not_mounted = run(Command::new("umount").arg(&self.mount));
    }
}

fn run(command: &mut Command) -> bool {
    let output = command.output();
    output.is_ok_and(|output| output.status.success())
}
