//! The most connections that the machine's own limits allow.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most connections on any machine.
const CONNECTIONS_MAX: usize = 100_000;
/// Descriptors and threads reserved for the server itself: log, listener, services, drain threads, threads that wait for
/// a client, and those for TLS handshakes.
/// Where the limit is very low, half of it is reserved.
const RESERVED: usize = 64;
/// Memory maps that a std thread costs on Linux: stack, guard page and two for its signal stack.
const MAPS_PER_THREAD: usize = 4;

/// The most connections this machine can serve, and the limit behind that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ceiling {
    /// Most connections at once.
    pub(crate) connections: usize,
    /// Name of the limit that is reached first.
    pub(crate) set_by: &'static str,
}

/// Raises the soft limit on descriptors to the hard limit and returns the limit in effect; `None` if there is none.
pub(crate) fn raise_descriptor_limit() -> Option<usize> {
    let hard = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: hard,
        maximum: hard,
    };
    // Fails only where a sandbox forbids it; the limit in effect is read back.
    setrlimit(Resource::Nofile, raised).ok();
    getrlimit(Resource::Nofile).current.map(|n| n as usize)
}

/// Raises the soft limit on descriptors to the hard limit and returns the ceiling.
pub(crate) fn raise_and_measure() -> Ceiling {
    let descriptors = raise_descriptor_limit();
    let threads = getrlimit(Resource::Nproc).current.map(|n| n as usize);
    let file = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse().ok();
    let maps = file("/proc/sys/vm/max_map_count");
    [
        ("RLIMIT_NOFILE", descriptors),
        ("RLIMIT_NPROC", threads),
        ("kernel.pid_max", file("/proc/sys/kernel/pid_max")),
        ("kernel.threads-max", file("/proc/sys/kernel/threads-max")),
        (
            "vm.max_map_count",
            maps.map(|maps: usize| maps / MAPS_PER_THREAD),
        ),
        ("cgroup pids.max", file("/sys/fs/cgroup/pids.max")),
    ]
    .into_iter()
    .filter_map(|(set_by, limit)| Some((set_by, limit?)))
    .map(|(set_by, limit)| Ceiling {
        connections: (limit - RESERVED.min(limit / 2)).max(1),
        set_by,
    })
    .fold(BUILT_IN, |lowest, ceiling| {
        if ceiling.connections < lowest.connections {
            ceiling
        } else {
            lowest
        }
    })
}

const BUILT_IN: Ceiling = Ceiling {
    connections: CONNECTIONS_MAX,
    set_by: "the built-in limit",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_has_a_ceiling() {
        assert!(raise_and_measure().connections > 0);
    }
}
