//! Waiting for one of several descriptors.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Waits until a descriptor is ready for its flags, has failed or was closed, or until the deadline. Returns the flags
/// that each has then.
pub(super) fn wait(fds: &[(BorrowedFd<'_>, PollFlags)], deadline: Instant) -> Vec<PollFlags> {
    let left = deadline.saturating_duration_since(Instant::now());
    // Rounded up, so that the deadline has passed afterwards.
    let left = left + Duration::from_micros(1);
    let timeout = Timespec {
        tv_sec: left.as_secs() as _,
        tv_nsec: left.subsec_nanos() as _,
    };
    let mut polled: Vec<_> = fds
        .iter()
        .map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
        .collect();
    // Interrupted or not, the caller looks at everything again.
    poll(&mut polled, Some(&timeout)).ok();
    polled.iter().map(PollFd::revents).collect()
}
