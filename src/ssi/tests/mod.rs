//! The log and the certifier, driven by one thread at a time over small sets of integers.

mod history;
mod oracle;

use super::footprint::{Edge, Peer, Step};
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
            let _ = log.finish(linked, registration, guard);
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
    let (collector, log) =
        (Collector::new(), CommitLog::starting_at(Timestamp::ZERO, Rules::default()));
    let guard = collector.pin();
    assert_eq!(log.now(&guard), Timestamp::ZERO);
    for n in 1..=300 {
        let registration = begin(&log, &guard);
        assert_eq!(registration.snapshot(), at(n - 1));
        assert_eq!(commit(&log, registration, Keys::new([1], [1]), &guard), Ok(at(n)));
        assert_eq!(log.now(&guard), at(n));
    }
    let _ = log.trim(&guard);
    assert_eq!(log.retained(&guard).0, 1);
}

#[test]
fn log_keeps_what_a_tracked_transaction_may_conflict_with() {
    let (collector, log) =
        (Collector::new(), CommitLog::starting_at(Timestamp::ZERO, Rules::default()));
    let guard = collector.pin();
    let old = begin(&log, &guard);
    for _ in 0..10 {
        commit(&log, begin(&log, &guard), Keys::new([], [1]), &guard).unwrap();
    }
    assert_eq!(log.trim(&guard).len(), 0);
    assert_eq!(commit(&log, old, Keys::new([1], [2]), &guard), Ok(at(11)), "it precedes them all");
    assert_eq!(log.trim(&guard).len(), 11);
}

fn refused(result: Result<Timestamp, Refusal>) -> Refusal {
    result.expect_err("the commit is refused")
}

#[test]
fn write_skew_is_refused_with_its_cycle() {
    let (collector, log) =
        (Collector::new(), CommitLog::starting_at(Timestamp::ZERO, Rules::default()));
    let guard = collector.pin();
    let (first, second) = (begin(&log, &guard), begin(&log, &guard));
    let pending = log.prepare(&first, Some("first".into()), Keys::new([1, 2], [1]), &guard);
    log.admit(&first);
    let linked = log.commit(pending, &first, &guard).unwrap();
    let _ = log.finish(linked, first, &guard);
    let Refusal::Cycle(witness) = refused(commit(&log, second, Keys::new([1, 2], [2]), &guard))
    else {
        panic!("a cycle")
    };
    let peer = Peer { timestamp: at(1), label: Some("first".into()) };
    assert_eq!(witness.steps, [Step { edge: Edge::Overwritten, peer }]);
    assert_eq!(witness.closing, Edge::Overwritten);
    assert_eq!(log.tally().counts().cycles, 1);
}

/// The report that misses a receipt: the pivot would precede a commit that a reader has seen, and
/// follow that reader.
#[test]
fn pivot_is_refused_once_a_reader_has_been_there() {
    let (collector, log) =
        (Collector::new(), CommitLog::starting_at(Timestamp::ZERO, Rules::default()));
    let guard = collector.pin();
    for has_reader in [false, true] {
        let pivot = begin(&log, &guard);
        let batch = commit(&log, begin(&log, &guard), Keys::new([], [1]), &guard).unwrap();
        if has_reader {
            let (entry, seen) = log.begin_seen(None, &guard);
            let Seen::At(snapshot) = seen else { unreachable!("nothing is to be confirmed") };
            assert_eq!(snapshot, batch);
            log.leave_seen(entry);
        }
        let result = commit(&log, pivot, Keys::new([1], [2]), &guard);
        if has_reader {
            let Refusal::ReadOnlyPivot { reached, .. } = refused(result) else { panic!("a pivot") };
            assert_eq!(reached, batch);
        } else {
            assert_eq!(result, Ok(batch.next()));
        }
    }
}

/// The subject is overtaken by one that is overtaken in turn, by one that reaches into the
/// subject's past; each conflict by itself is harmless.
#[test]
fn path_through_a_later_commit_into_the_past_is_a_cycle() {
    let (collector, log) =
        (Collector::new(), CommitLog::starting_at(Timestamp::ZERO, Rules::default()));
    let guard = collector.pin();
    let (middle, late) = (begin(&log, &guard), begin(&log, &guard));
    commit(&log, begin(&log, &guard), Keys::new([], [1]), &guard).unwrap();
    let subject = begin(&log, &guard);
    assert_eq!(commit(&log, middle, Keys::new([2], [3]), &guard), Ok(at(2)));
    assert_eq!(commit(&log, late, Keys::new([1], [2]), &guard), Ok(at(3)));
    let Refusal::Cycle(witness) = refused(commit(&log, subject, Keys::new([3], [4]), &guard))
    else {
        panic!("a cycle")
    };
    let path: Vec<_> = witness.steps.iter().map(|step| step.peer.timestamp.get()).collect();
    assert_eq!((path, witness.closing), (vec![2, 3, 1], Edge::Before));
}

#[test]
fn lock_meets_writes_and_locks() {
    let (collector, log) =
        (Collector::new(), CommitLog::starting_at(Timestamp::ZERO, Rules::default()));
    let guard = collector.pin();
    let locking = |key| Keys { locks: BTreeSet::from([key]), ..Keys::default() };
    let [a, b, c] = std::array::from_fn(|_| begin(&log, &guard));
    assert_eq!(commit(&log, a, locking(1), &guard), Ok(at(1)));
    assert_eq!(commit(&log, b, locking(2), &guard), Ok(at(2)));
    let by = Peer { timestamp: at(1), label: None };
    assert_eq!(refused(commit(&log, c, locking(1), &guard)), Refusal::Locked { by });
}

#[test]
fn transaction_without_writes_takes_no_timestamp_while_its_reads_are_current() {
    let (collector, log) =
        (Collector::new(), CommitLog::starting_at(Timestamp::ZERO, Rules::default()));
    let guard = collector.pin();
    let (current, stale) = (begin(&log, &guard), begin(&log, &guard));
    commit(&log, begin(&log, &guard), Keys::new([], [1]), &guard).unwrap();
    assert_eq!(log.commit_reads(&current, None, Keys::new([2], []), &guard), Ok(at(1)));
    assert_eq!(log.now(&guard), at(1));
    assert_eq!(log.commit_reads(&stale, None, Keys::new([1], []), &guard), Ok(at(2)));
    log.leave(current);
    log.leave(stale);
    assert_eq!(log.trim(&guard).len(), 2, "what it linked is settled");
}

#[test]
fn window_is_lost_when_memory_is_short() {
    let rules = Rules { retained_bytes_max: 2000, ..Rules::default() };
    let (collector, log) = (Collector::new(), CommitLog::starting_at(Timestamp::ZERO, rules));
    let guard = collector.pin();
    let [reader, writer] = std::array::from_fn(|_| begin(&log, &guard));
    for _ in 0..100 {
        commit(&log, begin(&log, &guard), Keys::new([], [1]), &guard).unwrap();
        assert!(log.retained(&guard).1 < 3000, "{:?}", log.retained(&guard));
    }
    assert!(log.passed() > at(0) && log.check_window(&reader) == Err(Refusal::WindowLost));
    assert!(log.met(at(1), &reader, &guard).is_none(), "it may have been freed");
    assert_eq!(log.last_behind(&guard), log.now(&guard).next(), "some may be about to commit");
    assert_eq!(refused(commit(&log, reader, Keys::new([9], [8]), &guard)), Refusal::WindowLost);
    // What it writes over may have been forgotten.
    assert_eq!(refused(commit(&log, writer, Keys::new([], [8]), &guard)), Refusal::WindowLost);
    let late = begin(&log, &guard);
    assert!(log.trim(&guard).len() > 0);
    assert_eq!(log.last_behind(&guard), log.now(&guard), "all who run have their windows");
    assert!(log.check_window(&late).is_ok());
    assert!(commit(&log, late, Keys::new([9], [8]), &guard).is_ok());
}

/// Threads that commit, fail, trim and collect: each footprint is dropped once.
#[test]
fn every_node_is_freed_once() {
    struct Counted(Keys, crate::sync::Arc<crate::sync::AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_add(1, crate::sync::Ordering::Relaxed);
        }
    }
    impl Footprint for Counted {
        fn reads_meet_writes(&self, writer: &Self) -> bool {
            self.0.reads_meet_writes(&writer.0)
        }
        fn locks_meet_writes(&self, other: &Self) -> bool {
            self.0.locks_meet_writes(&other.0)
        }
        fn has_reads(&self) -> bool {
            self.0.has_reads()
        }
        fn has_locks(&self) -> bool {
            self.0.has_locks()
        }
        fn has_writes(&self) -> bool {
            self.0.has_writes()
        }
        fn bytes(&self) -> usize {
            self.0.bytes()
        }
    }
    const TRANSACTIONS: usize = if cfg!(miri) { 30 } else { 3000 };
    let drops = crate::sync::Arc::default();
    let (collector, log) =
        (Collector::new(), CommitLog::starting_at(Timestamp::ZERO, Rules::default()));
    std::thread::scope(|scope| {
        for thread in 0..3_u8 {
            let (log, collector, drops) = (&log, &collector, &drops);
            scope.spawn(move || {
                for n in 0..TRANSACTIONS {
                    let guard = collector.pin();
                    let patience = Patience::ENDLESS;
                    let registration = match n % 50 {
                        0 => log.begin_gated(patience, None, &guard),
                        _ => log.begin(Kind::Tracked, None, &guard),
                    };
                    let is_gated = registration.is_gated();
                    let keys = Keys::new([thread, (thread + 1) % 3], [thread]);
                    let footprint = Counted(keys, crate::sync::Arc::clone(drops));
                    let pending = log.prepare(&registration, None, footprint, &guard);
                    log.admit(&registration);
                    match log.commit(pending, &registration, &guard) {
                        Ok(linked) => drop(log.finish(linked, registration, &guard)),
                        Err(refused) => {
                            assert!(!is_gated, "{:?}", refused.refusal);
                            drop(refused);
                            log.leave(registration);
                        }
                    }
                    if n % 64 == 0 {
                        let _ = log.trim(&guard);
                    }
                }
            });
        }
    });
    drop(log);
    drop(collector);
    assert_eq!(drops.load(crate::sync::Ordering::Relaxed), 3 * TRANSACTIONS);
}
