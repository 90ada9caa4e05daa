//! How many connections there may be, and which limit of the machine says so; how much each,
//! and each address, may ask.

mod address;
mod rate;

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::CONNECTIONS_MAX;

pub use address::{Address, AddressLimitError, AddressPermit, Addresses, IDLE_ADDRESSES_MAX, Time};
pub use rate::{Exceeded, Monotonic, RateMeter};

/// Descriptors and threads kept back for the server itself: log, listener, services, drain threads.
/// Where the limit is very low, half of it.
const RESERVED: usize = 64;
/// Memory maps a std thread costs on Linux: stack, guard page and two for its signal stack.
const MAPS_PER_THREAD: usize = 4;

/// The most connections this machine can serve, and what sets the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// Connections.
    pub connections: usize,
    /// The limit that is reached first.
    pub set_by: &'static str,
}

/// Raises the soft limit on descriptors to the hard one and finds the ceiling.
pub fn raise_and_measure() -> Ceiling {
    let hard = getrlimit(Resource::Nofile).maximum;
    // Refused only where the sandbox forbids it; what holds then is read back below.
    let _refused = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: hard,
            maximum: hard,
        },
    );
    let descriptors = getrlimit(Resource::Nofile).current;
    let threads = getrlimit(Resource::Nproc).current;
    let candidates = [
        ("RLIMIT_NOFILE", descriptors.map(|n| n as usize), 1),
        ("RLIMIT_NPROC", threads.map(|n| n as usize), 1),
        ("kernel.pid_max", read_number("/proc/sys/kernel/pid_max"), 1),
        (
            "kernel.threads-max",
            read_number("/proc/sys/kernel/threads-max"),
            1,
        ),
        (
            "vm.max_map_count",
            read_number("/proc/sys/vm/max_map_count"),
            MAPS_PER_THREAD,
        ),
        ("cgroup pids.max", read_number("/sys/fs/cgroup/pids.max"), 1),
    ];
    let ceilings = candidates.into_iter().filter_map(|(set_by, limit, cost)| {
        let most = limit? / cost;
        let connections = (most - RESERVED.min(most / 2)).max(1);
        Some(Ceiling {
            connections,
            set_by,
        })
    });
    let built_in = Ceiling {
        connections: CONNECTIONS_MAX,
        set_by: "the built-in bound",
    };
    ceilings
        .chain([built_in])
        .min_by_key(|ceiling| ceiling.connections)
        .unwrap_or(built_in)
}

fn read_number(path: &str) -> Option<usize> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Counts what is open, up to a bound, and can wait until nothing is.
#[derive(Clone, Debug)]
pub struct Permits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    taken: Mutex<usize>,
    emptied: Condvar,
}

/// One of the slots; free again when dropped.
#[derive(Debug)]
pub struct Permit(Arc<Inner>);

impl Permits {
    /// `max` free slots.
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Inner {
            max,
            taken: Mutex::new(0),
            emptied: Condvar::new(),
        }))
    }

    /// Takes a slot if one is free.
    pub fn take(&self) -> Option<Permit> {
        let mut taken = self.0.taken.lock();
        (*taken < self.0.max).then(|| {
            *taken += 1;
            Permit(Arc::clone(&self.0))
        })
    }

    /// Waits until no slot is taken, at most until the deadline; says how many still are.
    pub fn wait_until_empty(&self, deadline: Instant) -> usize {
        let mut taken = self.0.taken.lock();
        let is_taken = |taken: &mut usize| *taken > 0;
        self.0
            .emptied
            .wait_while_until(&mut taken, is_taken, deadline);
        *taken
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.0.taken.lock();
        *taken -= 1;
        if *taken == 0 {
            self.0.emptied.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_and_come_back() {
        let slots = Permits::new(2);
        let held = [slots.take(), slots.take()];
        assert!(held.iter().all(Option::is_some));
        assert!(slots.take().is_none());
        drop(held);
        assert!(slots.take().is_some());
        assert_eq!(slots.wait_until_empty(Instant::now()), 0);
    }

    #[test]
    fn the_machine_has_a_ceiling() {
        assert!(raise_and_measure().connections > 0);
    }
}
