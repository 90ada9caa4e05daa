//! Reads the CPU time and the memory of another process from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

/// The kernel's stack of a thread on 64-bit machines.
const KERNEL_STACK_KIB: u64 = 16;

/// `/proc` counts in ticks of 1/100 s, independent of the kernel's own tick.
const TICK: Duration = Duration::from_millis(10);

/// User and system time are each rounded down, at both ends of an interval.
const ERROR_TICKS: u32 = 2;

/// Two readings of one process's CPU time, because neither is enough alone.
///
/// `/proc/PID/task/*/schedstat` is exact to the nanosecond but leaves out threads that have ended.
/// `/proc/PID/stat` includes them but counts in ticks. (The ticks are rounded from the scheduler's nanoseconds, not
/// sampled.) Both include the softirq work of a loopback `send`, which runs in the sending process up to the
/// receiver's queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuTime {
    living_threads: Duration,
    all_threads: Duration,
}

impl CpuTime {
    pub(crate) fn of(pid: u32) -> io::Result<CpuTime> {
        Ok(CpuTime {
            living_threads: living_threads(pid)?,
            all_threads: all_threads(pid)?,
        })
    }

    /// Returns the exact reading, unless the ticks exceed it by more than their error. Then threads have ended, and
    /// only the ticks include them.
    pub(crate) fn since(&self, earlier: &CpuTime) -> Duration {
        let living = self.living_threads.saturating_sub(earlier.living_threads);
        let all = self.all_threads.saturating_sub(earlier.all_threads);
        if all > living + TICK * ERROR_TICKS {
            all
        } else {
            living
        }
    }
}

fn living_threads(pid: u32) -> io::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end after it was listed. The ticks include it.
        let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        nanos += first_number(&line).ok_or_else(|| unreadable("schedstat", &line))?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Returns the exact CPU time of the threads with one of each list of names. A list without a thread has `None`.
pub(crate) fn threads_named<const N: usize>(
    pid: u32,
    names: [&[&str]; N],
) -> io::Result<[Option<Duration>; N]> {
    let mut times = [None; N];
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let Some(at) = names
            .iter()
            .position(|list| list.contains(&name.trim_end()))
        else {
            continue;
        };
        let line = fs::read_to_string(path.join("schedstat"))?;
        let nanos = first_number(&line).ok_or_else(|| unreadable("schedstat", &line))?;
        *times[at].get_or_insert(Duration::ZERO) += Duration::from_nanos(nanos);
    }
    Ok(times)
}

fn all_threads(pid: u32) -> io::Result<Duration> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name may contain spaces. Field 3 follows its closing parenthesis; user and system time are
    // fields 14 and 15.
    let after_name = line.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: Vec<u32> = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    match ticks[..] {
        [user, system] => Ok(TICK * (user + system)),
        _ => Err(unreadable("stat", &line)),
    }
}

/// Returns the resident memory in KiB.
pub(crate) fn rss_kib(pid: u32) -> io::Result<u64> {
    status_number(pid, "VmRSS:")
}

/// Returns the resident memory, page tables and kernel stacks in KiB.
pub(crate) fn resident_and_kernel_kib(pid: u32) -> io::Result<u64> {
    let threads = status_number(pid, "Threads:")?;
    Ok(rss_kib(pid)? + status_number(pid, "VmPTE:")? + threads * KERNEL_STACK_KIB)
}

/// Returns the largest resident memory that the process has had, in KiB.
pub(crate) fn peak_rss_kib(pid: u32) -> io::Result<u64> {
    status_number(pid, "VmHWM:")
}

fn status_number(pid: u32, name: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(first_number)
        .ok_or_else(|| unreadable("status", &status))
}

fn first_number(line: &str) -> Option<u64> {
    line.split_whitespace().next()?.parse().ok()
}

fn unreadable(file: &str, content: &str) -> io::Error {
    io::Error::other(format!(
        "unexpected content of /proc/PID/{file}: {content:?}"
    ))
}
