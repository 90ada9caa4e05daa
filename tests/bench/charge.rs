//! The memory that a container is charged for a server: beside user memory also kernel stacks, page tables, socket
//! buffers and other memory of the kernel.
//!
//! It is read from a cgroup of version 2 or 1. Without the right to create one it is computed from `/proc`, which leaves
//! out socket buffers and small structures.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::cpu;

/// A source of the charged memory of one server.
#[derive(Debug)]
pub(crate) enum Charge {
    /// A cgroup for this server alone. Dropping it deletes the cgroup, whose server must have ended.
    Cgroup(Cgroup),
    Computed {
        pid: u32,
    },
}

#[derive(Debug)]
pub(crate) struct Cgroup {
    folder: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Charge {
    /// Starts to charge a server. The memory that it has already is charged elsewhere.
    pub(crate) fn of(pid: u32) -> Charge {
        match Cgroup::create() {
            Some(cgroup) if cgroup.take_over(pid).is_ok() => Charge::Cgroup(cgroup),
            _ => Charge::Computed { pid },
        }
    }

    /// Returns the charged memory in KiB.
    pub(crate) fn kib(&self) -> io::Result<u64> {
        match self {
            Charge::Cgroup(cgroup) => Ok(cgroup.bytes()? / 1024),
            Charge::Computed { pid } => cpu::resident_and_kernel_kib(*pid),
        }
    }
}

/// Returns where the charged memory is read, for the labels of the report.
pub(crate) fn source() -> &'static str {
    match Cgroup::create().map(|cgroup| cgroup.version) {
        Some(Version::V2) => "cgroup v2",
        Some(Version::V1) => "cgroup v1",
        None => "computed, without socket buffers",
    }
}

impl Cgroup {
    /// Creates a cgroup below the one of this process. `None` without the right to, or without its memory controller.
    fn create() -> Option<Cgroup> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let below = |root: &str, prefix: &str| {
            let path = own.lines().find_map(|line| line.split_once(prefix))?.1;
            let name = format!("wscast-bench-{}", std::process::id());
            Some(PathBuf::from(format!("{root}{path}")).join(name))
        };
        [
            (Version::V2, below("/sys/fs/cgroup", "0::")),
            (Version::V1, below("/sys/fs/cgroup/memory", ":memory:")),
        ]
        .into_iter()
        .find_map(|(version, folder)| {
            let folder = folder?;
            fs::create_dir(&folder).ok()?;
            let cgroup = Cgroup { folder, version };
            cgroup.bytes().is_ok().then_some(cgroup)
        })
    }

    fn take_over(&self, pid: u32) -> io::Result<()> {
        if self.version == Version::V1 {
            // Any limit makes version 1 count the buffers of TCP.
            fs::write(self.folder.join("memory.kmem.tcp.limit_in_bytes"), "-1").ok();
        }
        fs::write(self.folder.join("cgroup.procs"), pid.to_string())
    }

    fn bytes(&self) -> io::Result<u64> {
        match self.version {
            Version::V2 => self.number("memory.current"),
            Version::V1 => {
                let tcp = self.number("memory.kmem.tcp.usage_in_bytes")?;
                Ok(self.number("memory.usage_in_bytes")? + tcp)
            }
        }
    }

    fn number(&self, file: &str) -> io::Result<u64> {
        let text = fs::read_to_string(self.folder.join(file))?;
        text.trim().parse().map_err(io::Error::other)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // An empty cgroup that is left behind does no harm.
        fs::remove_dir(&self.folder).ok();
    }
}
