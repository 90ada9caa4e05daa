//! The rooms and users that became present or absent, on the way from the broadcaster to the webhooks.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::protocol::RoomName;

/// Most subjects whose changes wait. If there are more, none of them is kept, and the webhooks read the present rooms and
/// users anew.
const CHANGES_MAX: usize = 16 * 1024;

/// A room, which is present while it has members, or a user, who is present while connected. On any node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum PresenceSubject {
    Room(RoomName),
    User(Arc<str>),
}

/// The kinds of subjects whose presence is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PresenceKinds {
    pub(crate) rooms: bool,
    pub(crate) users: bool,
}

/// The last change of each subject. Recording one never waits: the lock is held for one insertion or one move.
#[derive(Debug)]
pub(crate) struct PresenceChanges {
    kinds: PresenceKinds,
    waiting: Mutex<WaitingChanges>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WaitingChanges {
    present: HashMap<PresenceSubject, bool>,
    has_overflowed: bool,
    is_closed: bool,
}

/// The changes since the last time that they were taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TakenChanges {
    /// The subjects that changed, and whether each is present now.
    Changed(HashMap<PresenceSubject, bool>),
    /// Changes were dropped.
    Overflowed,
    /// There will be no more changes.
    Closed,
}

impl PresenceChanges {
    pub(crate) fn new(kinds: PresenceKinds) -> Self {
        Self {
            kinds,
            waiting: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn kinds(&self) -> PresenceKinds {
        self.kinds
    }

    /// Records that a subject became present or absent. Wakes the reader only for the first change since the last take.
    pub(crate) fn record(&self, subject: PresenceSubject, is_present: bool) {
        let mut waiting = self.waiting.lock();
        if waiting.has_overflowed || waiting.is_closed {
            return;
        }
        let was_empty = waiting.present.is_empty();
        waiting.present.insert(subject, is_present);
        if waiting.present.len() > CHANGES_MAX {
            waiting.present = HashMap::new();
            waiting.has_overflowed = true;
        }
        drop(waiting);
        if was_empty {
            self.changed.notify_one();
        }
    }

    /// Takes the changes. Waits for the first one until the deadline at most.
    pub(crate) fn take(&self, deadline: Instant) -> TakenChanges {
        let mut waiting = self.waiting.lock();
        let is_idle = |waiting: &mut WaitingChanges| {
            waiting.present.is_empty() && !waiting.has_overflowed && !waiting.is_closed
        };
        self.changed
            .wait_while_until(&mut waiting, is_idle, deadline);
        if waiting.is_closed {
            return TakenChanges::Closed;
        }
        if mem::take(&mut waiting.has_overflowed) {
            return TakenChanges::Overflowed;
        }
        TakenChanges::Changed(mem::take(&mut waiting.present))
    }

    /// Ends the changes and wakes the reader.
    pub(crate) fn close(&self) {
        *self.waiting.lock() = WaitingChanges {
            is_closed: true,
            ..WaitingChanges::default()
        };
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn user(name: impl ToString) -> PresenceSubject {
        PresenceSubject::User(name.to_string().into())
    }

    fn changes() -> PresenceChanges {
        PresenceChanges::new(PresenceKinds {
            rooms: true,
            users: true,
        })
    }

    #[test]
    fn last_change_of_each_subject_is_taken_once() {
        let changes = changes();
        for is_present in [true, false, true] {
            changes.record(user("alice"), is_present);
            changes.record(user("bob"), !is_present);
        }
        let expected = HashMap::from([(user("alice"), true), (user("bob"), false)]);
        let now = Instant::now();
        assert_eq!(changes.take(now), TakenChanges::Changed(expected));
        assert_eq!(changes.take(now), TakenChanges::Changed(HashMap::new()));
    }

    #[test]
    fn too_many_changes_are_dropped_and_said_so_once() {
        let changes = changes();
        for n in 0..=CHANGES_MAX {
            changes.record(user(n), true);
        }
        changes.record(user("late"), true);
        assert_eq!(changes.take(Instant::now()), TakenChanges::Overflowed);
        changes.record(user("alice"), true);
        let taken = changes.take(Instant::now());
        assert_eq!(
            taken,
            TakenChanges::Changed(HashMap::from([(user("alice"), true)]))
        );
    }

    #[test]
    fn reader_is_woken_by_a_change_and_by_the_end() {
        let changes = Arc::new(changes());
        let deadline = Instant::now() + Duration::from_secs(20);
        let reader = Arc::clone(&changes);
        let reader = std::thread::spawn(move || (reader.take(deadline), reader.take(deadline)));
        changes.record(user("alice"), true);
        let taken = loop {
            if changes.waiting.lock().present.is_empty() {
                changes.close();
                break reader.join().expect("the reader ends");
            }
            std::thread::yield_now();
        };
        assert!(
            matches!(taken, (TakenChanges::Changed(_), TakenChanges::Closed)),
            "{taken:?}"
        );
        assert!(Instant::now() < deadline);
    }
}
