//! The log and the certifier, driven by one thread at a time over small sets of integers.

mod history;
mod oracle;

use super::status::State;
use super::*;
use crate::epoch::{Collector, Guard};
use crate::id::Timestamp;
use std::collections::BTreeSet;

/// Keys as small integers; a range is the set of keys in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    pub(super) reads: BTreeSet<u8>,
    pub(super) locks: BTreeSet<u8>,
    pub(super) writes: BTreeSet<u8>,
}

impl Keys {
    pub(super) fn new(
        reads: impl IntoIterator<Item = u8>,
        writes: impl IntoIterator<Item = u8>,
    ) -> Self {
        Self {
            reads: reads.into_iter().collect(),
            locks: BTreeSet::new(),
            writes: writes.into_iter().collect(),
        }
    }
}

impl Footprint for Keys {
    fn reads_meet_writes(&self, writer: &Self) -> bool {
        !self.reads.is_disjoint(&writer.writes)
    }

    fn locks_meet_writes(&self, other: &Self) -> bool {
        !self.locks.is_disjoint(&other.writes) || !self.locks.is_disjoint(&other.locks)
    }

    fn has_reads(&self) -> bool {
        !self.reads.is_empty()
    }

    fn has_locks(&self) -> bool {
        !self.locks.is_empty()
    }

    fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    fn bytes(&self) -> usize {
        self.reads.len() + self.locks.len() + self.writes.len()
    }
}

/// Commits `keys` at the snapshot of `registration`, or says why not.
fn commit(
    log: &CommitLog<Keys>,
    registration: Registration<Keys>,
    keys: Keys,
    guard: &Guard<'_>,
) -> Result<Timestamp, Refusal> {
    let pending = log.prepare(&registration, None, keys, guard);
    log.admit(&registration);
    match log.commit(pending, &registration, guard) {
        Ok(linked) => {
            let timestamp = linked.timestamp();
            assert_eq!(linked.node().status().state(), State::Committed(timestamp));
            log.finish(linked, registration, guard);
            Ok(timestamp)
        }
        Err(refused) => {
            assert_eq!(refused.pending.status().state(), State::Aborted);
            let refusal = refused.refusal.clone();
            drop(refused);
            log.leave(registration);
            Err(refusal)
        }
    }
}

fn begin(log: &CommitLog<Keys>, guard: &Guard<'_>) -> Registration<Keys> {
    log.begin(Kind::Tracked, None, guard)
}

fn at(raw: u64) -> Timestamp {
    Timestamp::from_raw(raw)
}

#[test]
fn commits_are_numbered_from_one_and_visible_at_once() {
    let (collector, log) = (Collector::new(), CommitLog::new(Rules::default()));
    let guard = collector.pin();
    assert_eq!(log.now(&guard), Timestamp::ZERO);
    for n in 1..=300 {
        let registration = begin(&log, &guard);
        assert_eq!(registration.snapshot(), at(n - 1));
        assert_eq!(commit(&log, registration, Keys::new([1], [1]), &guard), Ok(at(n)));
        assert_eq!(log.now(&guard), at(n));
    }
    log.trim(&guard);
    assert_eq!(log.retained(&guard).0, 1);
}

#[test]
fn log_keeps_what_a_tracked_transaction_may_conflict_with() {
    let (collector, log) = (Collector::new(), CommitLog::new(Rules::default()));
    let guard = collector.pin();
    let old = begin(&log, &guard);
    for _ in 0..10 {
        commit(&log, begin(&log, &guard), Keys::new([], [1]), &guard).unwrap();
    }
    assert_eq!(log.trim(&guard), 0);
    assert_eq!(commit(&log, old, Keys::new([1], [2]), &guard), Ok(at(11)), "it precedes them all");
    assert_eq!(log.trim(&guard), 11);
}
