//! The ledger of the states that the receiver knows, and of those to report. It has the state of each room and user,
//! never a list of past changes.
//!
//! A lost request therefore costs nothing: the next one carries the current state of every subject that changed. The
//! receiver's knowledge of a subject is uncertain after a failed request, because the receiver may have processed it.
//! Such a subject is reported again even if its state is the one reported last.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::rooms::PresenceSubject;

/// Most events of one request.
pub(super) const EVENTS_MAX: usize = 100;
/// Most changes that wait for the receiver. If there are more, a snapshot replaces them.
const CHANGES_MAX: usize = 16 * 1024;
/// How long a subject that became present waits for others, to share a request with them.
const BATCH_WAIT: Duration = Duration::from_millis(100);

/// The states that were reported to the receiver, and the changes since.
#[derive(Debug)]
pub(super) struct Ledger {
    settle: Duration,
    /// The present subjects that the receiver knows of.
    reported: HashSet<PresenceSubject>,
    /// Changes to report.
    changes: HashMap<PresenceSubject, Change>,
    snapshot: Option<Snapshot>,
    needs_snapshot: bool,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    is_present: bool,
    due: Instant,
    /// True if the receiver may know another state than the one reported last.
    is_uncertain: bool,
}

/// A list of all present subjects that is being reported.
#[derive(Debug)]
struct Snapshot {
    /// Subjects with an older serial that are not reported again are absent.
    since: u64,
    /// The present subjects that were not reported since then.
    left: HashSet<PresenceSubject>,
}

/// The content of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EventBatch {
    /// The subjects, and whether each is present.
    pub(super) subjects: Vec<(PresenceSubject, bool)>,
    /// The start of the snapshot that this batch completes, if it completes one.
    pub(super) completes: Option<u64>,
}

impl Ledger {
    /// Returns an empty ledger. It needs a snapshot, because what the receiver knows is unknown.
    pub(super) fn new(settle: Duration) -> Self {
        Self {
            settle,
            reported: HashSet::new(),
            changes: HashMap::new(),
            snapshot: None,
            needs_snapshot: true,
        }
    }

    /// Returns whether [`start_snapshot`](Self::start_snapshot) must be called, because changes were dropped.
    pub(super) fn needs_snapshot(&self) -> bool {
        self.needs_snapshot
    }

    /// Forgets all changes. A snapshot will replace them.
    pub(super) fn drop_changes(&mut self) {
        *self = Self::new(self.settle);
    }

    /// Starts a snapshot of all present subjects. Each event of the snapshot has a serial larger than `since`.
    pub(super) fn start_snapshot(
        &mut self,
        present: impl IntoIterator<Item = PresenceSubject>,
        since: u64,
    ) {
        self.drop_changes();
        self.needs_snapshot = false;
        self.snapshot = Some(Snapshot {
            since,
            left: present.into_iter().collect(),
        });
    }

    /// Records that a subject is present or absent now. Returns false if the changes became too many and were dropped.
    pub(super) fn record(
        &mut self,
        subject: PresenceSubject,
        is_present: bool,
        now: Instant,
    ) -> bool {
        if self.needs_snapshot {
            return true;
        }
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.left.remove(&subject);
        }
        let known = self.changes.get(&subject);
        let is_uncertain = known.is_some_and(|change| change.is_uncertain);
        if is_present == self.reported.contains(&subject) && !is_uncertain {
            self.changes.remove(&subject);
            return true;
        }
        let wait = if is_present { BATCH_WAIT } else { self.settle };
        let due = match known {
            // A change that waits for the receiver already is not delayed by another one.
            Some(change) if is_present => change.due.min(now + wait),
            _ => now + wait,
        };
        let change = Change {
            is_present,
            due,
            is_uncertain,
        };
        self.changes.insert(subject, change);
        if self.changes.len() > CHANGES_MAX {
            self.drop_changes();
            return false;
        }
        true
    }

    /// Returns when the next change or snapshot is due; `None` if nothing waits.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.snapshot.is_some() {
            return Some(now);
        }
        self.changes.values().map(|change| change.due).min()
    }

    /// Returns the events that are due: the changes that have waited longest, then subjects of the snapshot.
    pub(super) fn batch(&self, now: Instant) -> Option<EventBatch> {
        let due = self.changes.iter().filter(|(_, change)| change.due <= now);
        let mut due: Vec<_> = due.collect();
        if due.len() > EVENTS_MAX {
            due.select_nth_unstable_by_key(EVENTS_MAX, |(_, change)| change.due);
            due.truncate(EVENTS_MAX);
        }
        due.sort_unstable_by(|(a, one), (b, other)| (one.due, a).cmp(&(other.due, b)));
        let mut batch = EventBatch::default();
        let changed = due.into_iter();
        batch
            .subjects
            .extend(changed.map(|(subject, change)| (subject.clone(), change.is_present)));
        if let Some(snapshot) = &self.snapshot {
            let free = EVENTS_MAX - batch.subjects.len();
            let listed = snapshot.left.iter().take(free);
            batch
                .subjects
                .extend(listed.map(|subject| (subject.clone(), true)));
            batch.completes = (snapshot.left.len() <= free).then_some(snapshot.since);
        }
        let is_empty = batch.subjects.is_empty() && batch.completes.is_none();
        (!is_empty).then_some(batch)
    }

    /// Records that the receiver has accepted a batch.
    pub(super) fn succeeded(&mut self, batch: EventBatch) {
        for (subject, is_present) in batch.subjects {
            self.changes.remove(&subject);
            if let Some(snapshot) = &mut self.snapshot {
                snapshot.left.remove(&subject);
            }
            if is_present {
                self.reported.insert(subject);
            } else {
                self.reported.remove(&subject);
            }
        }
        if batch.completes.is_some() {
            self.snapshot = None;
        }
    }

    /// Records that the receiver may or may not have processed a batch.
    pub(super) fn failed(&mut self, batch: EventBatch, now: Instant) {
        for (subject, is_present) in batch.subjects {
            if let Some(snapshot) = &mut self.snapshot {
                snapshot.left.remove(&subject);
            }
            let change = self.changes.entry(subject).or_insert(Change {
                is_present,
                due: now,
                is_uncertain: true,
            });
            change.is_uncertain = true;
        }
    }

    /// Returns the number of subjects that wait to be reported.
    pub(super) fn waiting(&self) -> usize {
        let left = self
            .snapshot
            .as_ref()
            .map_or(0, |snapshot| snapshot.left.len());
        self.changes.len() + left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(3);

    fn user(name: impl ToString) -> PresenceSubject {
        PresenceSubject::User(name.to_string().into())
    }

    /// A ledger whose receiver has accepted a snapshot of these users.
    fn ledger(present: &[&str], now: Instant) -> Ledger {
        let mut ledger = Ledger::new(SETTLE);
        assert!(ledger.needs_snapshot());
        ledger.start_snapshot(present.iter().map(user), 7);
        let batch = ledger.batch(now).expect("a batch");
        assert_eq!(
            (batch.subjects.len(), batch.completes),
            (present.len(), Some(7))
        );
        ledger.succeeded(batch);
        assert!(!ledger.needs_snapshot());
        assert_eq!((ledger.batch(now), ledger.next_due(now)), (None, None));
        ledger
    }

    fn reported(ledger: &Ledger, now: Instant) -> Vec<(PresenceSubject, bool)> {
        ledger
            .batch(now)
            .map_or_else(Vec::new, |batch| batch.subjects)
    }

    #[test]
    fn presence_is_reported_soon_and_absence_once_it_has_settled() {
        let now = Instant::now();
        let mut ledger = ledger(&["alice"], now);
        assert!(ledger.record(user("bob"), true, now));
        assert!(ledger.record(user("alice"), false, now));
        assert_eq!(ledger.next_due(now), Some(now + BATCH_WAIT));
        assert_eq!(reported(&ledger, now), []);
        let soon = now + BATCH_WAIT;
        assert_eq!(reported(&ledger, soon), [(user("bob"), true)]);
        let batch = ledger.batch(soon).expect("a batch");
        ledger.succeeded(batch);
        assert_eq!(reported(&ledger, now + SETTLE), [(user("alice"), false)]);
    }

    #[test]
    fn reload_within_the_settle_time_is_not_reported() {
        let now = Instant::now();
        let mut ledger = ledger(&["alice"], now);
        ledger.record(user("alice"), false, now);
        ledger.record(user("alice"), true, now + SETTLE / 2);
        ledger.record(user("bob"), true, now);
        ledger.record(user("bob"), false, now);
        assert_eq!(ledger.next_due(now), None);
        assert_eq!(reported(&ledger, now + 9 * SETTLE), []);
    }

    #[test]
    fn subject_of_a_failed_request_is_reported_even_if_it_is_back_in_the_old_state() {
        let now = Instant::now();
        let mut ledger = ledger(&[], now);
        ledger.record(user("alice"), true, now);
        let later = now + 2 * SETTLE;
        let batch = ledger.batch(later).expect("a batch");
        ledger.failed(batch, later);
        ledger.record(user("alice"), false, later);
        assert_eq!(reported(&ledger, later), []);
        assert_eq!(reported(&ledger, later + SETTLE), [(user("alice"), false)]);
        let batch = ledger.batch(later + SETTLE).expect("a batch");
        ledger.succeeded(batch);
        assert_eq!(ledger.waiting(), 0);
    }

    #[test]
    fn snapshot_is_reported_in_parts_and_completed_by_the_last() {
        let now = Instant::now();
        let mut ledger = Ledger::new(SETTLE);
        ledger.record(user("before"), true, now);
        ledger.start_snapshot((0..250).map(user), 7);
        // A user leaves before being reported, and another after a request that failed.
        ledger.record(user(0), false, now);
        let batch = ledger.batch(now).expect("a batch");
        assert_eq!((batch.subjects.len(), batch.completes), (EVENTS_MAX, None));
        let (leaving, _) = batch.subjects[0].clone();
        ledger.failed(batch, now);
        ledger.record(leaving.clone(), false, now);
        let (mut known, mut requests) = (HashMap::new(), 0);
        while let Some(batch) = ledger.batch(now + SETTLE) {
            requests += 1;
            assert_eq!(batch.completes.is_some(), requests == 3);
            known.extend(batch.subjects.iter().cloned());
            ledger.succeeded(batch);
        }
        assert_eq!(known.len(), 249);
        assert_eq!(known.get(&leaving), Some(&false));
        assert!(!known.contains_key(&user(0)) && !known.contains_key(&user("before")));
    }

    #[test]
    fn too_many_changes_are_replaced_by_a_snapshot() {
        let now = Instant::now();
        let mut ledger = ledger(&["alice"], now);
        let all = (0..=CHANGES_MAX)
            .filter(|n| ledger.record(user(n), true, now))
            .count();
        assert_eq!((all, ledger.waiting()), (CHANGES_MAX, 0));
        assert!(ledger.needs_snapshot());
        assert!(ledger.record(user("bob"), true, now));
        assert_eq!(
            reported(&ledger, now + SETTLE),
            [],
            "the snapshot will have it"
        );
    }
}
