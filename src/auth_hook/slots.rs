//! The bound on questions that are asked at the same time, so that a slow backend is not flooded, and one address cannot
//! take all questions for itself.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::limits::Address;

/// The part of all slots that one address may have.
const ADDRESS_PART: usize = 4;

/// The slots for questions.
#[derive(Debug)]
pub(super) struct CallSlots {
    max: usize,
    taken: Mutex<TakenSlots>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct TakenSlots {
    all: usize,
    /// Holds an address only while it has a slot.
    by_address: HashMap<Address, usize>,
}

/// The right to ask a question. It is returned on drop.
#[derive(Debug)]
pub(super) struct CallSlot<'a> {
    slots: &'a CallSlots,
    address: Option<Address>,
}

impl CallSlots {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            taken: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// Takes a slot for a client with this address, if its address is limited. Waits until the deadline at most.
    pub(super) fn take(&self, address: Option<Address>, deadline: Instant) -> Option<CallSlot<'_>> {
        let of_address_max = (self.max / ADDRESS_PART).max(1);
        let mut taken = self.taken.lock();
        let is_full = |taken: &mut TakenSlots| {
            let of_address = address.and_then(|address| taken.by_address.get(&address));
            taken.all >= self.max || of_address.is_some_and(|count| *count >= of_address_max)
        };
        let waited = self
            .returned
            .wait_while_until(&mut taken, is_full, deadline);
        if waited.timed_out() && is_full(&mut taken) {
            return None;
        }
        taken.all += 1;
        if let Some(address) = address {
            *taken.by_address.entry(address).or_default() += 1;
        }
        Some(CallSlot {
            slots: self,
            address,
        })
    }
}

impl Drop for CallSlot<'_> {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock();
        taken.all -= 1;
        if let Some(address) = self.address
            && let Some(count) = taken.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&address);
            }
        }
        drop(taken);
        // Not only one, because the first one that waits may be of an address that has its part.
        self.slots.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> Option<Address> {
        Address::of([203, 0, 113, last].into())
    }

    #[test]
    fn one_address_has_a_part_of_the_slots_and_others_have_the_rest() {
        let (slots, now) = (CallSlots::new(8), Instant::now());
        let greedy: Vec<_> = (0..2).map_while(|_| slots.take(address(1), now)).collect();
        assert_eq!(greedy.len(), 2);
        assert!(slots.take(address(1), now).is_none());
        let others: Vec<_> = (2..9).map_while(|n| slots.take(address(n), now)).collect();
        assert_eq!(others.len(), 6, "all slots are taken");
        assert!(slots.take(None, now).is_none());
        drop(greedy);
        assert!(slots.take(address(1), now).is_some());
        drop(others);
        let taken = slots.taken.lock();
        assert_eq!((taken.all, taken.by_address.len()), (0, 0));
    }

    #[test]
    fn slot_that_is_returned_is_taken_by_one_who_waits() {
        let slots = CallSlots::new(1);
        let soon = Instant::now() + Duration::from_secs(20);
        std::thread::scope(|scope| {
            let first = slots.take(None, soon);
            let waiting = scope.spawn(|| slots.take(None, soon).is_some());
            drop(first);
            assert!(waiting.join().expect("a slot"));
        });
    }
}
