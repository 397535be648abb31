//! Models of tidying: who moves the log's floor over a commit follows the address of the record
//! that it wrote, once more, while others write the record, read it, or take it out of the index.
//!
//! Unlike in `record_models` the first version lives in its record, the record is in an index of
//! one, and its memory is a part of the model: whoever follows its address reads a cell that
//! freeing it writes.

use crate::epoch::{Collector, Guard};
use crate::id::{BucketId, Timestamp};
use crate::mvcc::footprint::{Footprint, WriteRef};
use crate::mvcc::record::{Record, TakeError};
use crate::mvcc::version::Version;
use crate::play::{Role, play};
use crate::record_models::Value;
use crate::skiplist::Entry as _;
use crate::slab::Boxed;
use crate::ssi::{CommitLog, Entry, Kind, Needed, Refusal, Registration, Rules, Seen};
use crate::sync::{AtomicBool, Ordering, UnsafeCell, thread::yield_now};
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed};

pub(crate) type Tidied = Record<u8, Value>;

/// An index of one record, which it holds for as long as it lives.
pub(crate) struct Index {
    record: NonNull<Tidied>,
    /// The model's stand-in for the leaves: whether a search finds the record.
    has_record: AtomicBool,
    life: UnsafeCell<()>,
    /// Not part of the model.
    frees: Count,
}

// SAFETY: loom checks every access to the cell, and records are shared between threads.
unsafe impl Sync for Index {}
// SAFETY: as for `Sync`.
unsafe impl Send for Index {}

impl Index {
    /// An index on the heap, of a record with a first value that is not committed yet.
    fn new(number: u64) -> Box<Self> {
        let record = Boxed::leak(Record::with_value(7, Value::new(number)));
        let (life, frees) = (UnsafeCell::new(()), Count::new(0));
        Box::new(Self { record, has_record: AtomicBool::new(true), life, frees })
    }

    /// Follows the record's address, which somebody says is good for as long as the guard is.
    pub(crate) fn follow<'g>(&self, _pinned: &'g Guard<'_>) -> &'g Tidied {
        assert_eq!(self.frees.load(Relaxed), 0, "followed after it was freed");
        self.life.with(|_| ());
        // SAFETY: the memory is given back with the index; what the guard is worth is what the
        // model is about.
        unsafe { self.record.as_ref() }
    }

    pub(crate) fn find<'g>(&self, guard: &'g Guard<'_>) -> Option<&'g Tidied> {
        // Acquire: as a search reads leaves.
        self.has_record.load(Ordering::Acquire).then(|| self.follow(guard))
    }

    /// Takes a record out that was killed.
    fn take_out(&self, guard: &Guard<'_>) {
        // Release: as leaves are published.
        self.has_record.store(false, Ordering::Release);
        let this = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the collector is dropped before the index; who killed the record takes it out.
        unsafe { guard.defer(this, Self::free, size_of::<Tidied>()) };
    }

    /// # Safety
    ///
    /// As [`Guard::defer`] promises it.
    unsafe fn free(this: *mut u8) {
        // SAFETY: the caller passes an index, which is shared.
        let this = unsafe { &*this.cast::<Self>() };
        assert_eq!(this.frees.fetch_add(1, Relaxed), 0, "freed twice");
        this.life.with_mut(|_| ());
        // SAFETY: the one time; the memory stays until the index goes.
        unsafe { ptr::drop_in_place(this.record.as_ptr()) };
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        if self.frees.load(Relaxed) == 0 {
            // SAFETY: nobody else has.
            unsafe { ptr::drop_in_place(self.record.as_ptr()) };
        }
        // SAFETY: made of a box, and emptied.
        drop(unsafe { Boxed::from_raw(self.record.cast::<MaybeUninit<Tidied>>()) });
    }
}

/// The record outlives the collector's garbage: fields are dropped in this order.
pub(crate) struct Stage {
    pub(crate) log: CommitLog<Footprint>,
    pub(crate) collector: Collector,
    pub(crate) index: Box<Index>,
    /// A snapshot that was taken before the roles began.
    early: Mutex<Option<(Entry, Timestamp)>>,
    /// A transaction that began before them.
    pub(crate) early_writer: Mutex<Option<Registration<Footprint>>>,
    /// Whether commits cut chains, which else they leave to others.
    pub(crate) prunes: bool,
    /// Not part of the model: snapshots of writers, and when they committed.
    pub(crate) written: Mutex<Vec<(Timestamp, Timestamp)>>,
    /// Not part of the model: commits that were passed.
    passed: Count,
}

/// A record with one committed value, 1 at timestamp 1. The log has passed nothing, unless it may
/// hold no more than `retained` bytes.
pub(crate) fn stage_of(retained: usize) -> Stage {
    let rules = Rules { registry_slots: 3, retained_bytes_max: retained, ..Rules::default() };
    let stage = Stage {
        log: CommitLog::starting_at(Timestamp::ZERO, rules),
        collector: Collector::with_slots(3),
        index: Index::new(1),
        early: Mutex::new(None),
        early_writer: Mutex::new(None),
        prunes: false,
        written: Mutex::new(Vec::new()),
        passed: Count::new(0),
    };
    // SAFETY: nobody else knows the record yet.
    let first = NonNull::from(unsafe { stage.index.record.as_ref() }.first());
    assert_eq!(commit(&stage, begin(&stage), first), Ok(Timestamp::from_raw(1)));
    stage
}

fn stage() -> Stage {
    stage_of(Rules::default().retained_bytes_max)
}

/// The same, and it was overwritten by 2 at 2.
fn stage_with_older() -> Stage {
    let stage = stage();
    assert!(write(&stage, Some(2)).is_ok());
    stage
}

/// The same, and a snapshot still sees the first value.
fn stage_with_early() -> Stage {
    let stage = stage();
    *stage.early.lock().unwrap() = Some(take_snapshot(&stage));
    assert!(write(&stage, Some(2)).is_ok());
    stage
}

/// The value was removed at 2.
fn stage_with_tombstone() -> Stage {
    let stage = stage();
    assert!(write(&stage, None).is_ok());
    stage
}

pub(crate) fn begin(stage: &Stage) -> Registration<Footprint> {
    stage.log.begin(Kind::Tracked, None, &stage.collector.pin())
}

fn take_snapshot(stage: &Stage) -> (Entry, Timestamp) {
    let (entry, seen) = stage.log.begin_seen(None, &stage.collector.pin());
    let Seen::At(snapshot) = seen else { unreachable!("nothing waits for a confirmation") };
    (entry, snapshot)
}

/// Why a transaction did not commit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    Record(TakeError),
    Window,
}

/// One transaction that writes the record, `None` to remove it.
pub(crate) fn write(stage: &Stage, number: Option<u64>) -> Result<Timestamp, Lost> {
    commit(stage, begin(stage), Version::boxed(number.map(Value::new)))
}

/// Commits a version, which nobody else knows, to the record if the index has it.
fn commit(
    stage: &Stage,
    registration: Registration<Footprint>,
    version: NonNull<Version<Value>>,
) -> Result<Timestamp, Lost> {
    let guard = stage.collector.pin();
    commit_to(stage, registration, version, || stage.index.find(&guard), &guard)
}

/// Commits a version, which nobody else knows, as the commit pipeline does; but it leaves all that
/// it can to others. Answers when.
pub(crate) fn commit_to<'g>(
    stage: &Stage,
    registration: Registration<Footprint>,
    version: NonNull<Version<Value>>,
    find: impl FnOnce() -> Option<&'g Tidied>,
    guard: &'g Guard<'g>,
) -> Result<Timestamp, Lost> {
    let Stage { log, index, .. } = stage;
    let write = WriteRef::new(index.record.cast(), BucketId::from_raw(0), 0).leaving();
    let mut footprint = Footprint::default();
    footprint.add_write(write);
    let pending = log.prepare(&registration, None, footprint, guard);
    log.admit(&registration);
    // SAFETY: the version is this role's until it is linked, and then protected by the guard.
    let shared = unsafe { version.as_ref() };
    shared.mark_pending(pending.status());
    let snapshot = registration.snapshot();
    let take = |record: &'g Tidied| {
        loop {
            match record.take(version, snapshot, false, |_| 0, guard) {
                Err(TakeError::Busy) => yield_now(),
                taken => return Ok((record, taken?)),
            }
        }
    };
    let (record, taken) = match find().ok_or(TakeError::Dead).and_then(take) {
        Ok(taken) => taken,
        Err(error) => {
            drop(pending);
            log.leave(registration);
            // SAFETY: the version was never linked, and all but the first are in boxes.
            drop(unsafe { Boxed::from_raw(version) });
            return Err(Lost::Record(error));
        }
    };
    let linked = match log.commit(pending, &registration, guard) {
        Ok(linked) => linked,
        Err(refused) => {
            assert_eq!(refused.refusal, Refusal::WindowLost, "nothing was read");
            record.release(version, taken, |_| 0, guard);
            drop(refused);
            log.leave(registration);
            return Err(Lost::Window);
        }
    };
    let at = linked.timestamp();
    if stage.prunes {
        record.prune(log.registry().published().any, |_| 0, guard);
    }
    shared.settle(at, 0);
    stage.written.lock().unwrap().push((snapshot, at));
    let _ = log.finish(linked, registration, guard);
    Ok(at)
}

/// Follows what the log has passed, and has `tidy` look after the record.
fn pass(stage: &Stage, tidy: impl Fn(&Tidied, &Needed, &Guard<'_>)) {
    let Stage { log, collector, index, .. } = stage;
    let guard = collector.pin();
    let passed = log.trim(&guard);
    stage.passed.fetch_add(passed.len(), Relaxed);
    let writes: Vec<WriteRef> = passed.flat_map(Footprint::writes).copied().collect();
    let needed = log.needed(&guard);
    for write in writes {
        assert!(write.leaves_something() && write.record == index.record.cast());
        tidy(index.follow(&guard), &needed, &guard);
    }
}

/// Takes out what was overwritten.
fn passer(stage: &Stage) {
    pass(stage, |record, needed, guard| {
        record.thin(needed, |_| 0, guard);
    });
}

/// Takes out what was overwritten or removed, and the record with it, as tables do.
fn tidier(stage: &Stage) {
    pass(stage, |record, needed, guard| {
        if record.is_empty(guard) {
            bury(stage, record, needed, guard);
        }
        record.thin(needed, |_| 0, guard);
    });
}

/// Takes the record out of the index if it may go.
fn bury(stage: &Stage, record: &Tidied, needed: &Needed, guard: &Guard<'_>) {
    if record.kill(stage.log.passed(), needed, guard) {
        assert!(is_whole(record, guard), "nothing deferred points into a record that dies");
        stage.index.take_out(guard);
    }
}

/// Whether the first version of a dead record is in its chain, or vacant.
fn is_whole(record: &Tidied, guard: &Guard<'_>) -> bool {
    let newest = record.visible_at(Timestamp::MAX, guard).map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the chain of a dead record does not change, and the guard keeps it.
    let older = |at: &*const Version<Value>| Some(unsafe { at.as_ref() }?.prev().cast_const());
    let is_linked =
        std::iter::successors(Some(newest), older).any(|at| ptr::eq(at, record.first()));
    is_linked || record.first().is_vacant()
}

/// Takes the record out that others have passed, and frees it.
pub(crate) fn sweeper(stage: &Stage) {
    let Stage { log, collector, index, .. } = stage;
    let guard = collector.pin();
    // Tells everybody how far back others look.
    let _ = log.horizons(&guard);
    let needed = log.needed(&guard);
    if let Some(record) = index.find(&guard) {
        bury(stage, record, &needed, &guard);
    }
    drop(guard);
    collector.collect();
}

/// Removes the key, and does what others do for it later.
fn remover(stage: &Stage) {
    let _ = write(stage, None);
    tidier(stage);
    stage.collector.collect();
}

/// The same of a key that was removed before.
pub(crate) fn undertaker(stage: &Stage) {
    tidier(stage);
    stage.collector.collect();
}

fn writer(stage: &Stage) {
    assert!(write(stage, Some(3)).is_ok(), "a record with a value does not leave");
}

/// A value or no record, and never both: what was written is not lost.
fn reviver(stage: &Stage) {
    let written = write(stage, Some(3)).is_ok();
    let guard = stage.collector.pin();
    assert_eq!(written, stage.index.find(&guard).is_some_and(|record| !record.is_dead()));
}

/// What a snapshot sees, twice; what it was lent the first time it has until it ends.
fn read(stage: &Stage, entry: Entry, snapshot: Timestamp) -> Option<u64> {
    let Stage { log, collector, index, .. } = stage;
    let look = || {
        let guard = collector.pin();
        let version = index.find(&guard)?.visible_at(snapshot, &guard)?;
        version.value().map(ptr::from_ref)
    };
    let number = |lent: Option<*const Value>| {
        // SAFETY: what the model is about.
        lent.map(|value| unsafe { &*value }.read())
    };
    let lent = look();
    let first = number(lent);
    assert_eq!((first, first), (number(look()), number(lent)), "a snapshot does not change");
    log.leave_seen(entry);
    first
}

/// A snapshot that is taken now.
fn reader(stage: &Stage) {
    let (entry, snapshot) = take_snapshot(stage);
    match (snapshot.get(), read(stage, entry, snapshot)) {
        (1, Some(1)) | (2, None) => {}
        other => panic!("{other:?}"),
    }
}

/// The snapshot that was taken before.
fn early_reader(stage: &Stage) {
    let (entry, snapshot) = stage.early.lock().unwrap().take().expect("one reads");
    assert_eq!(read(stage, entry, snapshot), Some(1));
}

pub(crate) fn free_everything(stage: &Stage) {
    stage.collector.collect();
}

/// Nobody looks back any more: what is passed leaves one version or none.
fn nothing_older_is_left(stage: &Stage) {
    passer(stage);
    let guard = stage.collector.pin();
    if let Some(record) = stage.index.find(&guard) {
        record.thin(&stage.log.needed(&guard), |_| 0, &guard);
        assert!(!record.has_older(&guard), "what nobody needs can be taken out");
    }
    drop(guard);
    free_everything(stage);
}

/// Every commit was passed once, and nothing is in the way of a sweep.
fn key_is_removed(stage: &Stage) {
    assert_eq!(stage.passed.load(Relaxed), 2, "every commit is passed once");
    free_everything(stage);
    sweeper(stage);
    assert!(stage.index.find(&stage.collector.pin()).is_none(), "a removed key leaves");
    free_everything(stage);
}

/// Who passes a removal follows the record while a sweep kills and frees it.
pub fn pass_and_kill(main: usize) {
    const ROLES: &[Role<Stage>] = &[passer, sweeper];
    play(3, main, stage_with_tombstone, ROLES, key_is_removed);
}

/// Two would pass the same commits, and take the record out: one does, each time.
pub fn pass_and_pass(main: usize) {
    const ROLES: &[Role<Stage>] = &[tidier, tidier];
    play(3, main, stage_with_tombstone, ROLES, key_is_removed);
}

/// Who passes a commit takes out what it overwrote while the record is written again.
pub fn pass_and_write(main: usize) {
    const ROLES: &[Role<Stage>] = &[passer, writer];
    play(4, main, stage_with_older, ROLES, nothing_older_is_left);
}

/// The same beside a snapshot that still sees what was overwritten.
pub fn pass_and_read(main: usize) {
    const ROLES: &[Role<Stage>] = &[passer, early_reader];
    play(4, main, stage_with_early, ROLES, nothing_older_is_left);
}

/// All three.
pub fn pass_and_write_and_read(main: usize) {
    const ROLES: &[Role<Stage>] = &[passer, writer, early_reader];
    play(1, main, stage_with_early, ROLES, nothing_older_is_left);
}

/// A record dies with its older version in the chain while somebody writes to it.
pub fn kill_and_write(main: usize) {
    const ROLES: &[Role<Stage>] = &[undertaker, reviver];
    play(2, main, stage_with_tombstone, ROLES, free_everything);
}

/// The same while a snapshot is taken that sees the older version, or does not.
pub fn kill_and_read(main: usize) {
    const ROLES: &[Role<Stage>] = &[remover, reader];
    play(2, main, stage, ROLES, free_everything);
}

/// The same beside a snapshot that was taken before, and sees an even older one.
pub fn kill_and_read_early(main: usize) {
    const ROLES: &[Role<Stage>] = &[remover, early_reader];
    play(2, main, stage_with_early, ROLES, free_everything);
}
