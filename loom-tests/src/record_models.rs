//! Models of records and version chains, over the shipped files and the real commit log.
//!
//! Each value carries a cell that reading reads and dropping writes: a value dropped while someone
//! may still look at it, or never published properly, is a data race on that cell.

use crate::epoch::{Collector, Guard};
use crate::id::Timestamp;
use crate::mvcc::footprint::Footprint;
use crate::mvcc::record::{Record, TakeError};
use crate::mvcc::version::{Commit, Version};
use crate::play::{Role, play};
use crate::skiplist::Entry as _;
use crate::slab::Boxed;
use crate::ssi::{CommitLog, Kind, Registration, Rules, Seen};
use crate::sync::{UnsafeCell, thread::yield_now};
use std::sync::atomic::{AtomicIsize, AtomicUsize as Count, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// A number, and a cell that is read with it and written when it is dropped.
pub(crate) struct Value {
    number: u64,
    cell: Arc<Cell>,
}

struct Cell {
    touched: UnsafeCell<()>,
    /// Not part of the model.
    drops: Count,
}

// SAFETY: loom checks every access to the cell.
unsafe impl Sync for Cell {}
// SAFETY: as for `Sync`.
unsafe impl Send for Cell {}

impl Value {
    pub(crate) fn new(number: u64) -> Self {
        let cell = Cell { touched: UnsafeCell::new(()), drops: Count::new(0) };
        cell.touched.with_mut(|_| ());
        Self { number, cell: Arc::new(cell) }
    }

    pub(crate) fn read(&self) -> u64 {
        assert_eq!(self.cell.drops.load(Relaxed), 0, "read after it was dropped");
        self.cell.touched.with(|_| ());
        self.number
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        assert_eq!(self.cell.drops.fetch_add(1, Relaxed), 0, "dropped twice");
        self.cell.touched.with_mut(|_| ());
    }
}

/// The record outlives the collector's garbage: fields are dropped in this order.
pub(crate) struct Stage {
    pub(crate) log: CommitLog<Footprint>,
    pub(crate) collector: Collector,
    pub(crate) record: Boxed<Record<u8, Value>>,
    /// A transaction that began before the roles.
    pub(crate) early: Mutex<Option<Registration<Footprint>>>,
    /// Not part of the model: when a role committed, and rings that hold the record.
    commits: [Count; 2],
    rings: AtomicIsize,
}

/// A record with one committed value, 1 at timestamp 1.
pub(crate) fn stage() -> Stage {
    let rules = Rules { registry_slots: 3, ..Rules::default() };
    let stage = Stage {
        log: CommitLog::starting_at(Timestamp::ZERO, rules),
        collector: Collector::with_slots(3),
        record: Record::placeholder(7),
        early: Mutex::new(None),
        commits: [const { Count::new(0) }; 2],
        rings: AtomicIsize::new(0),
    };
    assert!(write(&stage, Some(1)));
    stage
}

/// The same, and a transaction has begun that has seen the value.
fn stage_with_early() -> Stage {
    let stage = stage();
    begin_early(&stage);
    stage
}

fn begin_early(stage: &Stage) {
    let guard = stage.collector.pin();
    *stage.early.lock().unwrap() = Some(stage.log.begin(Kind::Tracked, None, &guard));
}

/// Values 1, 2 and 3, the second of which an early transaction sees.
fn stage_with_early_in_the_middle() -> Stage {
    let stage = stage();
    assert!(write(&stage, Some(2)));
    begin_early(&stage);
    assert!(write(&stage, Some(3)));
    stage
}

/// A tombstone over a record that a ring holds.
fn stage_with_struck_tombstone() -> Stage {
    let stage = stage();
    assert!(write_over(&stage, Some(2), true));
    assert!(write(&stage, None));
    let guard = stage.collector.pin();
    stage.record.thin(&stage.log.needed(&guard), |_| 0, &guard);
    drop(guard);
    stage
}

/// A record that ends in a tombstone which everyone sees.
fn stage_with_tombstone() -> Stage {
    let stage = stage();
    assert!(write(&stage, None));
    let guard = stage.collector.pin();
    stage.record.thin(&stage.log.needed(&guard), |_| 0, &guard);
    drop(guard);
    stage
}

/// A record with three values that only the newest is needed of.
fn stage_with_history() -> Stage {
    let stage = stage();
    let snapshot = stage.collector.pin();
    let held = stage.log.begin(Kind::Untracked, None, &snapshot);
    assert!(write(&stage, Some(2)) && write(&stage, Some(3)));
    stage.log.leave(held);
    drop(snapshot);
    stage
}

/// One transaction that writes the record, `None` to remove it. False if it was refused.
pub(crate) fn write(stage: &Stage, number: Option<u64>) -> bool {
    write_over(stage, number, false)
}

/// The same; `enrol` if a ring is to know the value.
fn write_over(stage: &Stage, number: Option<u64>, enrol: bool) -> bool {
    let guard = stage.collector.pin();
    let registration = stage.log.begin(Kind::Tracked, None, &guard);
    drop(guard);
    commit(stage, registration, number, enrol).is_some()
}

/// Commits a write of a transaction that has begun. Answers when, unless it was refused.
pub(crate) fn commit(
    stage: &Stage,
    registration: Registration<Footprint>,
    number: Option<u64>,
    enrol: bool,
) -> Option<Timestamp> {
    let Stage { log, collector, record, .. } = stage;
    let guard = collector.pin();
    let version = Version::boxed(number.map(Value::new));
    let pending = log.prepare(&registration, None, Footprint::default(), &guard);
    log.admit(&registration);
    // SAFETY: the version is this role's until it is linked, and then protected by the guard.
    let shared = unsafe { version.as_ref() };
    shared.mark_pending(pending.status());
    let taken = loop {
        match record.take(version, registration.snapshot(), enrol, |_| 0, &guard) {
            Ok(taken) => break taken,
            Err(TakeError::Busy) => yield_now(),
            Err(TakeError::Newer(_) | TakeError::Dead) => {
                drop(pending);
                log.leave(registration);
                // SAFETY: the version was never linked.
                drop(unsafe { Boxed::from_raw(version) });
                return None;
            }
        }
    };
    let linked = log.commit(pending, &registration, &guard).expect("nothing was read");
    let at = linked.timestamp();
    record.prune(log.horizons(&guard).any, |_| 0, &guard);
    shared.settle(at, 0);
    if taken.enrols {
        stage.rings.fetch_add(1, Relaxed);
    }
    let _ = log.finish(linked, registration, &guard);
    // As a sweep would do; this one's own registration held the horizon.
    record.thin(&log.needed(&guard), |_| 0, &guard);
    Some(at)
}

/// Lets the entry leave, if it has a value. Answers when.
fn leave(stage: &Stage) -> Option<Timestamp> {
    let Stage { log, collector, record, .. } = stage;
    let guard = collector.pin();
    let registration = log.begin(Kind::Untracked, None, &guard);
    let pending = log.prepare(&registration, None, Footprint::default(), &guard);
    let departed = record.newest_value(&guard).and_then(|newest| {
        let Commit::At(over) = newest.commit() else { return None };
        let tombstone = Version::departure(over);
        // SAFETY: leaked just now.
        unsafe { tombstone.as_ref() }.mark_pending(pending.status());
        if record.depart(newest, tombstone, true, &guard) {
            return Some(tombstone);
        }
        // SAFETY: nobody else has seen it.
        unsafe { Version::free(tombstone.as_ptr()) };
        None
    });
    let Some(tombstone) = departed else {
        drop(pending);
        log.leave(registration);
        return None;
    };
    let linked = log.commit(pending, &registration, &guard).expect("nothing was read");
    let at = linked.timestamp();
    // SAFETY: linked under the guard.
    unsafe { tombstone.as_ref() }.settle(at, 0);
    let _ = log.finish(linked, registration, &guard);
    record.thin(&log.needed(&guard), |_| 0, &guard);
    Some(at)
}

/// What a snapshot taken now sees, read twice.
fn read(stage: &Stage) -> (Timestamp, Option<u64>) {
    let Stage { log, collector, record, .. } = stage;
    let guard = collector.pin();
    let registration = log.begin(Kind::Untracked, None, &guard);
    drop(guard);
    let snapshot = registration.snapshot();
    let look = || {
        let guard = collector.pin();
        record.visible_at(snapshot, &guard).and_then(Version::value).map(Value::read)
    };
    let first = look();
    assert_eq!(first, look(), "a snapshot does not change");
    log.leave(registration);
    (snapshot, first)
}

fn writer(stage: &Stage) {
    write(stage, Some(2));
}

fn rival(stage: &Stage) {
    write(stage, Some(3));
}

fn reader(stage: &Stage) {
    let (snapshot, value) = read(stage);
    match (snapshot.get(), value) {
        (1, Some(1)) | (2, Some(2)) => {}
        other => panic!("{other:?}"),
    }
}

/// A reader without a registration: it may find itself overtaken, and nothing worse.
fn passer_by(stage: &Stage) {
    let guard = stage.collector.pin();
    let Seen::At(now) = stage.log.see(&guard) else { unreachable!() };
    if let Ok(found) = stage.record.visible_unregistered(now, &guard) {
        let value = found.and_then(Version::value).map(Value::read);
        assert_eq!(value, Some(now.get()));
    }
}

/// A transaction that takes the head and gives up.
pub(crate) fn quitter(stage: &Stage) {
    let Stage { log, collector, record, .. } = stage;
    let guard = collector.pin();
    let registration = log.begin(Kind::Tracked, None, &guard);
    let version = Version::boxed(Some(Value::new(9)));
    let pending = log.prepare(&registration, None, Footprint::default(), &guard);
    log.admit(&registration);
    // SAFETY: the version is this role's until it is linked.
    unsafe { version.as_ref() }.mark_pending(pending.status());
    let taken = record.take(version, registration.snapshot(), false, |_| 0, &guard);
    pending.abort();
    match taken {
        Ok(taken) => record.release(version, taken, |_| 0, &guard),
        // SAFETY: the version was never linked.
        Err(_) => drop(unsafe { Boxed::from_raw(version) }),
    }
    drop(pending);
    log.leave(registration);
}

fn sweeper(stage: &Stage) {
    let guard = stage.collector.pin();
    stage.record.kill(stage.log.horizons(&guard).tracked, &stage.log.needed(&guard), &guard);
}

fn pruner(stage: &Stage) {
    let guard = stage.collector.pin();
    stage.record.prune(stage.log.horizons(&guard).any, |_| 0, &guard);
}

pub(crate) fn thinner(stage: &Stage) {
    let guard = stage.collector.pin();
    stage.record.thin(&stage.log.needed(&guard), |_| 0, &guard);
}

fn leaver(stage: &Stage) {
    leave(stage);
}

/// What the early transaction reads in the middle of the chain, twice.
fn early_reader(stage: &Stage) {
    let registration = stage.early.lock().unwrap().take().expect("one reads");
    let look = || {
        let guard = stage.collector.pin();
        let seen = stage.record.visible_at(registration.snapshot(), &guard);
        seen.and_then(Version::value).map(Value::read)
    };
    assert_eq!((look(), look()), (Some(2), Some(2)), "what a snapshot sees stays");
    stage.log.leave(registration);
}

/// The early transaction writes.
fn early_writer(stage: &Stage) {
    let registration = stage.early.lock().unwrap().take().expect("one writes");
    if let Some(at) = commit(stage, registration, Some(2), false) {
        stage.commits[0].store(usize::try_from(at.get()).unwrap(), Relaxed);
    }
}

/// Another one writes, and what it wrote leaves at once.
fn rival_that_leaves(stage: &Stage) {
    let guard = stage.collector.pin();
    let registration = stage.log.begin(Kind::Tracked, None, &guard);
    drop(guard);
    if let Some(at) = commit(stage, registration, Some(3), false) {
        stage.commits[1].store(usize::try_from(at.get()).unwrap(), Relaxed);
        leave(stage);
    }
}

/// The ring lets go of a record without a value.
fn striker(stage: &Stage) {
    let _pinned = stage.collector.pin();
    if stage.record.strike_enrolled() {
        stage.rings.fetch_sub(1, Relaxed);
    }
}

fn enrolling_reviver(stage: &Stage) {
    let written = write_over(stage, Some(3), true);
    assert_eq!(written, !stage.record.is_dead());
}

/// A value or a dead record, and never both: what was written is not lost.
fn reviver(stage: &Stage) {
    let written = write(stage, Some(3));
    assert_eq!(written, !stage.record.is_dead());
}

pub(crate) fn free_everything(stage: &Stage) {
    stage.collector.collect();
}

/// A commit, its stamp and its prune beside a registered reader.
pub fn write_and_read(main: usize) {
    const ROLES: &[Role<Stage>] = &[writer, reader];
    play(4, main, stage, ROLES, free_everything);
}

/// The same beside a reader that is pinned and not registered.
pub fn write_and_pass_by(main: usize) {
    const ROLES: &[Role<Stage>] = &[writer, passer_by];
    play(4, main, stage, ROLES, free_everything);
}

/// Two commits to one record: they follow each other, or the second is refused.
pub fn write_and_write(main: usize) {
    const ROLES: &[Role<Stage>] = &[writer, rival];
    play(3, main, stage, ROLES, |stage| {
        let guard = stage.collector.pin();
        let now = stage.log.now(&guard);
        let value = stage.record.visible_at(now, &guard).and_then(Version::value);
        assert!(matches!(value.map(Value::read), Some(2 | 3)));
    });
}

/// A version is put on the head and taken off again under a reader.
pub fn give_up_and_read(main: usize) {
    const ROLES: &[Role<Stage>] = &[quitter, |stage| {
        assert_eq!(read(stage), (Timestamp::from_raw(1), Some(1)));
    }];
    play(4, main, stage, ROLES, free_everything);
}

/// The sweep kills a record while someone writes to it.
pub fn kill_and_write(main: usize) {
    const ROLES: &[Role<Stage>] = &[sweeper, reviver];
    play(4, main, stage_with_tombstone, ROLES, free_everything);
}

/// Two cut the same chain: every version is retired once.
pub fn prune_and_prune(main: usize) {
    const ROLES: &[Role<Stage>] = &[pruner, pruner];
    play(4, main, stage_with_history, ROLES, free_everything);
}

/// An entry leaves beside a registered reader: it sees what was there, or nothing, and that twice.
pub fn leave_and_read(main: usize) {
    const ROLES: &[Role<Stage>] = &[leaver, |stage| {
        let (snapshot, value) = read(stage);
        assert!(matches!((snapshot.get(), value), (1, Some(1)) | (2, None)), "{value:?}");
    }];
    play(4, main, stage, ROLES, free_everything);
}

/// An entry leaves while it is written: what was written after it is not lost.
pub fn leave_and_write(main: usize) {
    const ROLES: &[Role<Stage>] = &[leaver, |stage| assert!(write(stage, Some(2)))];
    play(3, main, stage, ROLES, |stage| {
        let guard = stage.collector.pin();
        let now = stage.log.now(&guard);
        let value = stage.record.visible_at(now, &guard).and_then(Version::value);
        assert!(matches!(value.map(Value::read), Some(2) | None));
    });
}

/// What another transaction wrote has left again; the early writer is refused all the same.
pub fn first_committer_behind_a_departure(main: usize) {
    const ROLES: &[Role<Stage>] = &[early_writer, rival_that_leaves];
    play(2, main, stage_with_early, ROLES, |stage| {
        let [early, rival] = [0, 1].map(|role: usize| stage.commits[role].load(Relaxed));
        assert!(early == 0 || rival == 0 || early < rival, "{early} overwrote {rival} unseen");
    });
}

/// Versions are taken out of the middle of a chain beside someone who reads there.
pub fn thin_and_read(main: usize) {
    const ROLES: &[Role<Stage>] = &[thinner, early_reader];
    play(4, main, stage_with_early_in_the_middle, ROLES, free_everything);
}

/// The same beside a commit, which cuts the chain as well.
pub fn thin_and_write(main: usize) {
    const ROLES: &[Role<Stage>] = &[thinner, |stage| assert!(write(stage, Some(4)))];
    play(4, main, stage_with_history, ROLES, free_everything);
}

/// A ring lets go of a record while it is written again, and a sweep would like to kill it.
pub fn strike_and_write(main: usize) {
    const ROLES: &[Role<Stage>] = &[striker, enrolling_reviver];
    play(4, main, stage_with_struck_tombstone, ROLES, |stage| {
        let guard = stage.collector.pin();
        let dies = stage.record.kill(
            stage.log.horizons(&guard).tracked,
            &stage.log.needed(&guard),
            &guard,
        );
        let held = !stage.record.mark_enrolled() && !stage.record.is_dead();
        assert_eq!(stage.rings.load(Relaxed), isize::from(held), "held as often as it is marked");
        assert!(!dies, "it has a value");
        assert!(held, "a value is in a ring");
    });
}
