//! Models of records and version chains, over the shipped files and the real commit log.
//!
//! Each value carries a cell that reading reads and dropping writes: a value dropped while someone
//! may still look at it, or never published properly, is a data race on that cell.

use crate::epoch::{Collector, Guard};
use crate::id::Timestamp;
use crate::mvcc::footprint::Footprint;
use crate::mvcc::record::{Record, TakeError};
use crate::mvcc::version::Version;
use crate::play::{Role, play};
use crate::skiplist::Entry as _;
use crate::ssi::{CommitLog, Kind, Rules, Seen};
use crate::sync::{UnsafeCell, thread::yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed};

/// A number, and a cell that is read with it and written when it is dropped.
struct Value {
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
    fn new(number: u64) -> Self {
        let cell = Cell { touched: UnsafeCell::new(()), drops: Count::new(0) };
        cell.touched.with_mut(|_| ());
        Self { number, cell: Arc::new(cell) }
    }

    fn read(&self) -> u64 {
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
struct Stage {
    log: CommitLog<Footprint>,
    collector: Collector,
    record: Box<Record<u8, Value>>,
}

/// A record with one committed value, 1 at timestamp 1.
fn stage() -> Stage {
    let rules = Rules { registry_slots: 3, ..Rules::default() };
    let stage = Stage {
        log: CommitLog::starting_at(Timestamp::ZERO, rules),
        collector: Collector::with_slots(3),
        record: Record::placeholder(7),
    };
    assert!(write(&stage, Some(1)));
    stage
}

/// A record that ends in a tombstone which everyone sees.
fn stage_with_tombstone() -> Stage {
    let stage = stage();
    assert!(write(&stage, None));
    let guard = stage.collector.pin();
    stage.record.prune(stage.log.horizons(&guard).any, &guard);
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
fn write(stage: &Stage, number: Option<u64>) -> bool {
    let Stage { log, collector, record } = stage;
    let guard = collector.pin();
    let registration = log.begin(Kind::Tracked, None, &guard);
    let version = Version::boxed(number.map(Value::new));
    let pending = log.prepare(&registration, None, Footprint::default(), &guard);
    log.admit(&registration);
    // SAFETY: the version is this role's until it is linked, and then protected by the guard.
    let shared = unsafe { version.as_ref() };
    shared.mark_pending(pending.status());
    loop {
        match record.take(version, registration.snapshot(), &guard) {
            Ok(_) => break,
            Err(TakeError::Busy) => yield_now(),
            Err(TakeError::Newer(_) | TakeError::Dead) => {
                drop(pending);
                log.leave(registration);
                // SAFETY: the version was never linked.
                drop(unsafe { Box::from_raw(version.as_ptr()) });
                return false;
            }
        }
    }
    let linked = log.commit(pending, &registration, &guard).expect("nothing was read");
    shared.settle(linked.timestamp());
    log.finish(linked, registration, &guard);
    // As the next commit to the record would do; this one's own registration held the horizon.
    record.prune(log.horizons(&guard).any, &guard);
    true
}

/// What a snapshot taken now sees, read twice.
fn read(stage: &Stage) -> (Timestamp, Option<u64>) {
    let Stage { log, collector, record } = stage;
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
fn quitter(stage: &Stage) {
    let Stage { log, collector, record } = stage;
    let guard = collector.pin();
    let registration = log.begin(Kind::Tracked, None, &guard);
    let version = Version::boxed(Some(Value::new(9)));
    let pending = log.prepare(&registration, None, Footprint::default(), &guard);
    log.admit(&registration);
    // SAFETY: the version is this role's until it is linked.
    unsafe { version.as_ref() }.mark_pending(pending.status());
    let taken = record.take(version, registration.snapshot(), &guard);
    pending.abort();
    match taken {
        Ok(_) => record.release(version, &guard),
        // SAFETY: the version was never linked.
        Err(_) => drop(unsafe { Box::from_raw(version.as_ptr()) }),
    }
    drop(pending);
    log.leave(registration);
}

fn sweeper(stage: &Stage) {
    let guard = stage.collector.pin();
    stage.record.kill(stage.log.horizons(&guard).any, &guard);
}

fn pruner(stage: &Stage) {
    let guard = stage.collector.pin();
    stage.record.prune(stage.log.horizons(&guard).any, &guard);
}

/// A value or a dead record, and never both: what was written is not lost.
fn reviver(stage: &Stage) {
    let written = write(stage, Some(3));
    assert_eq!(written, !stage.record.is_dead());
}

fn free_everything(stage: &Stage) {
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
    play(4, main, stage, ROLES, |stage| {
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
