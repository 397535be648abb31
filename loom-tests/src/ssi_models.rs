//! Models of the commit log, the certifier, the registry and the gate, over the shipped files.
//!
//! Keys are bits of a byte. Each footprint carries a cell that is read whenever the footprint or
//! its node's status is looked at, and written when the node is freed: a node freed too early is a
//! data race on that cell, which loom reports in whatever order the two happen to run.
//!
//! Every model takes the number of the role that plays on the main thread, because loom finds some
//! bugs only for some of them; the tests try all.

use crate::epoch::{Collector, Guard};
use crate::id::Timestamp;
use crate::ssi::{
    CommitLog, Footprint, Kind, Patience, Pending, Refusal, Registration, Rules, Seen, Status,
};
use crate::sync::{AtomicPtr, Ordering, UnsafeCell, set_shard};
use loom::thread;
use std::sync::Arc;
use std::sync::Mutex as Results;

/// Read by whoever looks at a node, written when the node is freed.
struct Canary {
    cell: UnsafeCell<()>,
    /// Not part of the model: tells what happened earlier in the same thread.
    freed: std::sync::atomic::AtomicBool,
}

// SAFETY: loom checks every access to the cell.
unsafe impl Sync for Canary {}

impl Canary {
    fn new() -> Self {
        Self { cell: UnsafeCell::new(()), freed: false.into() }
    }

    fn look(&self) {
        assert!(!self.freed.load(std::sync::atomic::Ordering::Relaxed), "the node was freed");
        self.cell.with(|_| ());
    }

    fn free(&self) {
        self.freed.store(true, std::sync::atomic::Ordering::Relaxed);
        self.cell.with_mut(|_| ());
    }
}

pub(crate) struct Keys {
    reads: u8,
    locks: u8,
    writes: u8,
    canary: Arc<Canary>,
}

impl Keys {
    pub(crate) fn new(reads: u8, writes: u8) -> Self {
        Self { reads, locks: 0, writes, canary: Arc::new(Canary::new()) }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.canary.free();
    }
}

impl Footprint for Keys {
    fn reads_meet_writes(&self, writer: &Self) -> bool {
        self.canary.look();
        writer.canary.look();
        self.reads & writer.writes != 0
    }

    fn locks_meet_writes(&self, other: &Self) -> bool {
        self.locks & (other.writes | other.locks) != 0
    }

    fn has_reads(&self) -> bool {
        self.reads != 0
    }

    fn has_locks(&self) -> bool {
        self.locks != 0
    }

    fn has_writes(&self) -> bool {
        self.writes != 0
    }

    fn bytes(&self) -> usize {
        0
    }
}

pub(crate) type Log = CommitLog<Keys>;

pub(crate) struct Shared {
    pub(crate) collector: Collector,
    pub(crate) log: Log,
}

impl Shared {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            collector: Collector::with_slots(3),
            log: CommitLog::starting_at(Timestamp::ZERO, rules),
        }
    }
}

pub(crate) fn rules() -> Rules {
    Rules { registry_slots: 3, ..Rules::default() }
}

/// One transaction from admission to its end. The version of each write would be stamped between
/// `commit` and `finish`.
pub(crate) fn commit(
    log: &Log,
    registration: Registration<Keys>,
    keys: Keys,
    guard: &Guard<'_>,
) -> Result<Timestamp, Refusal> {
    let pending = log.prepare(&registration, None, keys, guard);
    log.admit(&registration);
    commit_admitted(log, registration, pending, guard)
}

/// The same from there on.
pub(crate) fn commit_admitted<'g>(
    log: &Log,
    registration: Registration<Keys>,
    pending: Pending<'g, Keys>,
    guard: &'g Guard<'g>,
) -> Result<Timestamp, Refusal> {
    match log.commit(pending, &registration, guard) {
        Ok(linked) => {
            let timestamp = linked.timestamp();
            let _ = log.finish(linked, registration, guard);
            Ok(timestamp)
        }
        Err(refused) => {
            let refusal = refused.refusal.clone();
            drop(refused);
            log.leave(registration);
            Err(refusal)
        }
    }
}

pub(crate) type Role<R> = Box<dyn FnOnce(&Shared) -> R + Send>;

/// Runs the roles side by side, the one at `on_main` on the main thread.
pub(crate) fn play<R: Send + 'static>(
    shared: Shared,
    roles: Vec<Role<R>>,
    on_main: usize,
) -> Vec<R> {
    let shared = Arc::new(shared);
    let mut threads = Vec::new();
    let mut main = None;
    for (at, role) in roles.into_iter().enumerate() {
        if at == on_main {
            main = Some(role);
        } else {
            let shared = Arc::clone(&shared);
            threads.push((
                at,
                thread::spawn(move || {
                    set_shard(at);
                    role(&shared)
                }),
            ));
        }
    }
    set_shard(on_main);
    let main = main.expect("one role plays on the main thread")(&shared);
    let mut results: Vec<(usize, R)> = threads
        .into_iter()
        .map(|(at, thread)| (at, thread.join().expect("no role panics")))
        .collect();
    results.push((on_main, main));
    results.sort_by_key(|&(at, _)| at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Explores a model and prints how many executions that took.
pub fn explore(name: &str, on_main: usize, model: impl Fn() + Sync + Send + 'static) -> usize {
    let executions = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    builder.max_branches = 20_000;
    let since = std::time::Instant::now();
    builder.check(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    let executions = executions.load(std::sync::atomic::Ordering::Relaxed);
    println!("{name}, role {on_main} on main: {executions} executions in {:?}", since.elapsed());
    executions
}

pub(crate) enum Outcome {
    Committed(Result<Timestamp, Refusal>),
    Snapshot(Timestamp),
    Seen { before: Timestamp, marked: Vec<bool>, after: Timestamp },
}

impl Outcome {
    pub(crate) fn committed(&self) -> &Result<Timestamp, Refusal> {
        match self {
            Self::Committed(result) => result,
            _ => panic!("this role commits"),
        }
    }
}

/// Two blind commits and a reader. Timestamps are dense, the clock does not go back, and a reader
/// finds marked exactly what its snapshot has.
pub fn log_link(on_main: usize) -> usize {
    explore("log_link", on_main, move || {
        let statuses = Arc::new([no_status(), no_status()]);
        let committer = |at: usize| -> Role<Outcome> {
            let statuses = Arc::clone(&statuses);
            Box::new(move |shared| {
                let guard = shared.collector.pin();
                let registration = shared.log.begin(Kind::Tracked, None, &guard);
                let keys = Keys::new(0, 1 << at);
                let pending = shared.log.prepare(&registration, None, keys, &guard);
                let status = std::ptr::from_ref(pending.status()).cast_mut();
                statuses[at].store(status, Ordering::Release);
                let linked = shared.log.commit(pending, &registration, &guard).expect("blind");
                let timestamp = linked.timestamp();
                assert!(shared.log.now(&guard) >= timestamp, "a commit that returned is visible");
                // The node stays: this model has no trim.
                let _ = shared.log.finish(linked, registration, &guard);
                Outcome::Committed(Ok(timestamp))
            })
        };
        let reader: Role<Outcome> = {
            let statuses = Arc::clone(&statuses);
            Box::new(move |shared| {
                let guard = shared.collector.pin();
                let before = shared.log.now(&guard);
                let marked = statuses
                    .iter()
                    .map(|status| {
                        let status = status.load(Ordering::Acquire);
                        // SAFETY: the log keeps its nodes for the length of this model.
                        let status = unsafe { status.as_ref() };
                        status.is_some_and(|s| s.committed().is_some_and(|ts| ts <= before))
                    })
                    .collect();
                let after = shared.log.now(&guard);
                Outcome::Seen { before, marked, after }
            })
        };
        let roles = vec![committer(0), committer(1), reader];
        let results = play(Shared::new(rules()), roles, on_main);
        let of = |at: usize| results[at].committed().clone().expect("blind commits succeed");
        let times = [of(0), of(1)];
        assert_eq!(times[0].get() + times[1].get(), 3, "timestamps are 1 and 2");
        let Outcome::Seen { before, marked, after } = &results[2] else { panic!("the reader") };
        assert!(before <= after, "the clock does not go back");
        for (time, &marked) in times.iter().zip(marked) {
            assert_eq!(marked, time <= before, "{time} at snapshot {before}");
        }
    })
}

pub(crate) fn writer(registration: Registration<Keys>, reads: u8, writes: u8) -> Role<Outcome> {
    Box::new(move |shared| {
        let guard = shared.collector.pin();
        Outcome::Committed(commit(&shared.log, registration, Keys::new(reads, writes), &guard))
    })
}

pub(crate) fn begin(shared: &Shared) -> Registration<Keys> {
    shared.log.begin(Kind::Tracked, None, &shared.collector.pin())
}

/// A writer, a pivot that read what the writer overwrites, and a read-only transaction. If the
/// reader sees the writer and not the pivot, the pivot must not follow the writer.
pub fn rescue_and_seen(on_main: usize) -> usize {
    explore("rescue_and_seen", on_main, move || {
        let shared = Shared::new(rules());
        let (w, p) = (begin(&shared), begin(&shared));
        let reader: Role<Outcome> = Box::new(|shared| {
            let guard = shared.collector.pin();
            let Seen::At(snapshot) = shared.log.see(&guard) else { unreachable!() };
            Outcome::Snapshot(snapshot)
        });
        let results = play(shared, vec![writer(w, 0, 1), writer(p, 1, 2), reader], on_main);
        let Outcome::Snapshot(seen) = results[2] else { panic!("the reader") };
        let writer = results[0].committed().clone().expect("a blind commit succeeds");
        match results[1].committed() {
            Ok(pivot) => {
                assert!(*pivot < writer || !(writer <= seen && seen < *pivot), "read-only anomaly");
            }
            Err(refusal) => {
                assert!(matches!(refusal, Refusal::ReadOnlyPivot { .. }), "{refusal:?}");
                assert!(seen >= writer, "nobody saw the writer without the pivot");
            }
        }
    })
}

/// The same with a reader that was tracked, and ends without taking a timestamp.
pub fn rescue_and_tracked_reader(on_main: usize) -> usize {
    explore("rescue_and_tracked_reader", on_main, move || {
        let shared = Shared::new(rules());
        let (w, p) = (begin(&shared), begin(&shared));
        let reader: Role<Outcome> = Box::new(|shared| {
            let guard = shared.collector.pin();
            let registration = shared.log.begin(Kind::Tracked, None, &guard);
            let snapshot = registration.snapshot();
            let keys = Keys::new(1 | 2, 0);
            let result = shared.log.commit_reads(&registration, None, keys, &guard);
            shared.log.leave(registration);
            match result {
                Ok(_) => Outcome::Snapshot(snapshot),
                Err(refusal) => Outcome::Committed(Err(refusal)),
            }
        });
        let results = play(shared, vec![writer(w, 0, 1), writer(p, 1, 2), reader], on_main);
        let writer = results[0].committed().clone().expect("a blind commit succeeds");
        if let (Outcome::Snapshot(seen), Ok(pivot)) = (&results[2], results[1].committed()) {
            assert!(*pivot < writer || !(writer <= *seen && seen < pivot), "read-only anomaly");
        }
    })
}

/// Two transactions that each overwrite what the other read: exactly one commits.
pub fn write_skew(on_main: usize) -> usize {
    explore("write_skew", on_main, move || {
        let shared = Shared::new(rules());
        let (a, b) = (begin(&shared), begin(&shared));
        let results = play(shared, vec![writer(a, 3, 1), writer(b, 3, 2)], on_main);
        let commits = results.iter().filter(|result| result.committed().is_ok()).count();
        assert_eq!(commits, 1, "one is refused, and only one");
    })
}

/// A ring of three rw-conflicts, of which one transaction has committed before.
pub fn three_way_ring(on_main: usize) -> usize {
    explore("three_way_ring", on_main, move || {
        let shared = Shared::new(rules());
        let (a, b, c) = (begin(&shared), begin(&shared), begin(&shared));
        let guard = shared.collector.pin();
        commit(&shared.log, c, Keys::new(4, 1), &guard).expect("nobody came before");
        drop(guard);
        let results = play(shared, vec![writer(a, 1, 2), writer(b, 2, 4)], on_main);
        let commits = results.iter().filter(|result| result.committed().is_ok()).count();
        assert_eq!(commits, 1, "two of three commit");
    })
}

/// A suspect that closes no cycle when it is first examined, and a rival that makes one of it: the
/// rival began after the commit that the suspect must precede, and reads what the suspect writes.
pub fn late_rival(on_main: usize) -> usize {
    explore("late_rival", on_main, move || {
        let shared = Shared::new(rules());
        let suspect = begin(&shared);
        let guard = shared.collector.pin();
        commit(&shared.log, begin(&shared), Keys::new(0, 1), &guard).expect("blind");
        drop(guard);
        let rival = begin(&shared);
        let roles = vec![writer(suspect, 1, 2), writer(rival, 2, 4)];
        let results = play(shared, roles, on_main);
        let commits = results.iter().filter(|result| result.committed().is_ok()).count();
        assert_eq!(commits, 1, "one is refused, and only one");
    })
}

/// A transaction begins and commits while another commits and trims: its window is never lost, and
/// nothing in it is freed under its eyes.
pub fn begin_and_trim(on_main: usize) -> usize {
    explore("begin_and_trim", on_main, move || {
        let shared = Shared::new(rules());
        let roles: Vec<Role<Outcome>> = vec![
            Box::new(|shared| {
                let registration = begin(shared);
                let guard = shared.collector.pin();
                let result = commit(&shared.log, registration, Keys::new(1, 2), &guard);
                Outcome::Committed(result)
            }),
            Box::new(|shared| {
                let registration = begin(shared);
                let guard = shared.collector.pin();
                let result = commit(&shared.log, registration, Keys::new(0, 1), &guard);
                let _ = shared.log.trim(&guard);
                drop(guard);
                shared.collector.collect();
                Outcome::Committed(result)
            }),
        ];
        for result in play(shared, roles, on_main) {
            assert!(result.committed().is_ok(), "{:?}", result.committed());
        }
    })
}

/// A reader looks at a pending version while its writer, which is not tracked, waits with the stamp
/// until the log was trimmed and collected around it: the node goes only after both are done.
pub fn stamp_and_retire(on_main: usize) -> usize {
    explore("stamp_and_retire", on_main, move || {
        let canary = Arc::new(Canary::new());
        let stamp = Arc::new(no_status());
        let reader: Role<()> = {
            let (canary, stamp) = (Arc::clone(&canary), Arc::clone(&stamp));
            Box::new(move |shared| {
                let guard = shared.collector.pin();
                let status = stamp.load(Ordering::Acquire);
                if !status.is_null() {
                    canary.look();
                    // SAFETY: that this holds is what the model is about; `canary` tells.
                    let _ = unsafe { &*status }.committed();
                }
                drop(guard);
            })
        };
        let owner: Role<()> = Box::new(move |shared| {
            let guard = shared.collector.pin();
            let registration = shared.log.begin(Kind::Untracked, None, &guard);
            let keys = Keys { canary, ..Keys::new(0, 1) };
            let pending = shared.log.prepare(&registration, None, keys, &guard);
            stamp.store(std::ptr::from_ref(pending.status()).cast_mut(), Ordering::Release);
            let linked = shared.log.commit(pending, &registration, &guard).expect("blind");
            commit_and_trim(shared);
            stamp.store(std::ptr::null_mut(), Ordering::Release);
            let _ = shared.log.finish(linked, registration, &guard);
            drop(guard);
            commit_and_trim(shared);
        });
        play(Shared::new(rules()), vec![owner, reader], on_main);
    })
}

fn no_status() -> AtomicPtr<Status> {
    AtomicPtr::new(std::ptr::null_mut())
}

/// Makes the newest commit old, and frees what may be freed.
fn commit_and_trim(shared: &Shared) {
    let guard = shared.collector.pin();
    let registration = shared.log.begin(Kind::Untracked, None, &guard);
    commit(&shared.log, registration, Keys::new(0, 2), &guard).expect("blind");
    let _ = shared.log.trim(&guard);
    drop(guard);
    shared.collector.collect();
}

/// The same with the trimmer on another thread, which then looks at the version itself: what the
/// writer stamped is known to whoever finds the node settled. The writer, always on main, commits
/// before the other thread starts.
pub fn settle_and_trim(on_main: usize) -> usize {
    explore("settle_and_trim", on_main, move || {
        let canary = Arc::new(Canary::new());
        let stamp = Arc::new(no_status());
        let shared = Arc::new(Shared::new(rules()));
        let guard = shared.collector.pin();
        let registration = shared.log.begin(Kind::Untracked, None, &guard);
        let keys = Keys { canary: Arc::clone(&canary), ..Keys::new(0, 1) };
        let pending = shared.log.prepare(&registration, None, keys, &guard);
        stamp.store(std::ptr::from_ref(pending.status()).cast_mut(), Ordering::Release);
        let linked = shared.log.commit(pending, &registration, &guard).expect("blind");
        let newer = shared.log.begin(Kind::Untracked, None, &guard);
        commit(&shared.log, newer, Keys::new(0, 2), &guard).expect("blind");
        let trimmer = {
            let (shared, stamp) = (Arc::clone(&shared), Arc::clone(&stamp));
            thread::spawn(move || {
                set_shard(1);
                let _ = shared.log.trim(&shared.collector.pin());
                shared.collector.collect();
                // Another slot, so that the first one's garbage is within reach.
                set_shard(2);
                let _guard = shared.collector.pin();
                let is_pending = !stamp.load(Ordering::Acquire).is_null();
                shared.collector.collect();
                if is_pending {
                    canary.look();
                }
            })
        };
        stamp.store(std::ptr::null_mut(), Ordering::Release);
        let _ = shared.log.finish(linked, registration, &guard);
        drop(guard);
        trimmer.join().expect("no role panics");
    })
}

/// A snapshot reads a version without a guard while another transaction commits and frees all
/// versions below the horizon.
pub fn snapshot_and_prune(on_main: usize) -> usize {
    explore("snapshot_and_prune", on_main, move || {
        let version = Arc::new(Canary::new());
        let reader: Role<()> = {
            let version = Arc::clone(&version);
            Box::new(move |shared| {
                let (entry, seen) = shared.log.begin_seen(None, &shared.collector.pin());
                let Seen::At(snapshot) = seen else { unreachable!("nothing is to be confirmed") };
                if snapshot == Timestamp::ZERO {
                    version.look();
                }
                shared.log.leave_seen(entry);
            })
        };
        let pruner: Role<()> = Box::new(move |shared| {
            let registration = begin(shared);
            let guard = shared.collector.pin();
            commit(&shared.log, registration, Keys::new(0, 1), &guard).expect("blind");
            if shared.log.horizons(&guard).any > Timestamp::ZERO {
                version.free();
            }
        });
        play(Shared::new(rules()), vec![reader, pruner], on_main);
    })
}

/// A transaction that fails retires its own node, while a reader looks at its pending version.
pub fn abort_and_retire(on_main: usize) -> usize {
    explore("abort_and_retire", on_main, move || {
        let canary = Arc::new(Canary::new());
        let stamp = Arc::new(no_status());
        let reader: Role<()> = {
            let (canary, stamp) = (Arc::clone(&canary), Arc::clone(&stamp));
            Box::new(move |shared| {
                let guard = shared.collector.pin();
                let status = stamp.load(Ordering::Acquire);
                if !status.is_null() {
                    canary.look();
                    // SAFETY: that this holds is what the model is about; `canary` tells.
                    assert_eq!(unsafe { &*status }.committed(), None);
                }
                drop(guard);
            })
        };
        let owner: Role<()> = Box::new(move |shared| {
            let guard = shared.collector.pin();
            let registration = begin(shared);
            let keys = Keys { canary, ..Keys::new(0, 1) };
            let pending = shared.log.prepare(&registration, None, keys, &guard);
            stamp.store(std::ptr::from_ref(pending.status()).cast_mut(), Ordering::Release);
            pending.abort();
            stamp.store(std::ptr::null_mut(), Ordering::Release);
            drop(pending);
            shared.log.leave(registration);
            drop(guard);
            shared.collector.collect();
        });
        play(Shared::new(rules()), vec![owner, reader], on_main);
    })
}

/// The holder of the gate is never refused while nobody takes it away, even in a write skew; and
/// the other commits after it all the same, or is refused.
pub fn gate_holds(on_main: usize) -> usize {
    explore("gate_holds", on_main, move || {
        let shared = Shared::new(rules());
        let rival = begin(&shared);
        let holder: Role<Outcome> = Box::new(|shared| {
            let guard = shared.collector.pin();
            let registration = shared.log.begin_gated(Patience::ENDLESS, None, &guard);
            Outcome::Committed(commit(&shared.log, registration, Keys::new(3, 1), &guard))
        });
        let results = play(shared, vec![holder, writer(rival, 3, 2)], on_main);
        let holder = results[0].committed();
        assert!(holder.is_ok(), "nobody commits beside the holder: {holder:?}");
    })
}

/// A holder that is too slow loses the gate; it and the one that took it go on as rivals.
pub fn gate_revoked(on_main: usize) -> usize {
    explore("gate_revoked", on_main, move || {
        let shared = Shared::new(rules());
        let rival = begin(&shared);
        let holder: Role<Outcome> = Box::new(|shared| {
            let guard = shared.collector.pin();
            let registration = shared.log.begin_gated(Patience::NONE, None, &guard);
            Outcome::Committed(commit(&shared.log, registration, Keys::new(3, 1), &guard))
        });
        let results = play(shared, vec![holder, writer(rival, 3, 2)], on_main);
        let commits = results.iter().filter(|result| result.committed().is_ok()).count();
        assert!(commits >= 1, "somebody commits");
    })
}
