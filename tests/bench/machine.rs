//! Describes the machine, and assigns its cores to the server and the load generator.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Descriptors in addition to the clients' sockets: standard streams, epoll, pipes, the publisher of a floor, and
/// connections of a warm-up.
const SPARE_DESCRIPTORS: u64 = 128;

#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) description: String,
    cores: Cores,
}

#[derive(Clone, Copy, Debug)]
struct Cores {
    server: usize,
    generator: usize,
    server_may_use: ServerCores,
}

/// The cores that servers may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerCores {
    /// A core of their own.
    One,
    /// That core and the load generator's.
    Two,
}

impl Machine {
    /// Raises the descriptor limit to the maximum, which child processes inherit, and pins this thread to its core.
    /// `sockets_max` is the largest number of sockets that this process opens.
    pub(crate) fn prepare(sockets_max: usize) -> io::Result<Machine> {
        raise_descriptor_limit(sockets_max as u64)?;
        let allowed = allowed_cores()?;
        let server = *allowed
            .first()
            .ok_or_else(|| io::Error::other("no CPU core is available"))?;
        let generator = *allowed.get(1).unwrap_or(&server);
        let cores = Cores {
            server,
            generator,
            server_may_use: ServerCores::One,
        };
        pin(&[generator])?;
        Ok(Machine {
            description: describe(allowed.len(), cores),
            cores,
        })
    }

    pub(crate) fn with_server_cores(mut self, server_may_use: ServerCores) -> Machine {
        self.cores.server_may_use = server_may_use;
        self
    }

    /// Runs `spawn` on the server's cores. A child process and all its threads inherit the affinity of the thread that
    /// starts it.
    pub(crate) fn on_server_core<T>(&self, spawn: impl FnOnce() -> T) -> io::Result<T> {
        let Cores {
            server, generator, ..
        } = self.cores;
        match self.cores.server_may_use {
            ServerCores::One => pin(&[server])?,
            ServerCores::Two => pin(&[server, generator])?,
        }
        let spawned = spawn();
        pin(&[generator])?;
        Ok(spawned)
    }
}

fn raise_descriptor_limit(sockets: u64) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    match limit.maximum {
        Some(maximum) if sockets + SPARE_DESCRIPTORS > maximum => Err(io::Error::other(format!(
            "{sockets} connections need more than {maximum} descriptors, the limit of this process (ulimit -n)"
        ))),
        _ => Ok(()),
    }
}

fn allowed_cores() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|core| allowed.is_set(*core))
        .collect())
}

fn pin(cores: &[usize]) -> io::Result<()> {
    let mut only = CpuSet::new();
    cores.iter().for_each(|core| only.set(*core));
    Ok(sched_setaffinity(None, &only)?)
}

fn describe(count: usize, cores: Cores) -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("unknown CPU");
    format!(
        "{count} cores (server on {}, load generator on {}), {}, Linux {}, load average {}",
        cores.server,
        cores.generator,
        model.trim_start_matches([' ', '\t', ':']),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or("unknown"),
    )
}
