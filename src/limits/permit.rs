//! Permits: a counted permission for each open connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// A pool of permits. Cheap to clone; all clones share the permits.
#[derive(Clone, Debug)]
pub(crate) struct Permits(Arc<PermitPool>);

#[derive(Debug)]
struct PermitPool {
    max: AtomicUsize,
    taken: Mutex<usize>,
    emptied: Condvar,
}

/// A permit; returned to its pool when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<PermitPool>);

impl Permits {
    /// Returns a pool of `max` permits.
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(PermitPool {
            max: AtomicUsize::new(max),
            taken: Mutex::new(0),
            emptied: Condvar::new(),
        }))
    }

    /// Returns how many permits the pool has in all.
    pub(crate) fn max(&self) -> usize {
        self.0.max.load(Ordering::Relaxed)
    }

    /// Changes how many permits the pool has. Permits that are taken beyond it stay valid.
    pub(crate) fn set_max(&self, max: usize) {
        self.0.max.store(max, Ordering::Relaxed);
    }

    /// Takes a permit if one is left.
    pub(crate) fn take(&self) -> Option<Permit> {
        let mut taken = self.0.taken.lock();
        (*taken < self.max()).then(|| {
            *taken += 1;
            Permit(Arc::clone(&self.0))
        })
    }

    /// Blocks until every permit was returned, or until the deadline. Returns how many are still taken.
    pub(crate) fn wait_until_empty(&self, deadline: Instant) -> usize {
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
    fn permits_are_limited_and_returned() {
        let permits = Permits::new(2);
        let held = [permits.take(), permits.take()];
        assert!(held.iter().all(Option::is_some));
        assert!(permits.take().is_none());
        drop(held);
        assert!(permits.take().is_some());
        assert_eq!(permits.wait_until_empty(Instant::now()), 0);
    }
}
