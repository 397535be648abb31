//! One transaction's side of one bucket: what it wrote, what it read that has no address.
//!
//! ```text
//! get     own write?  ──yes──► its value
//!            │no
//!         visible record? ──yes──► its value        address into the read log
//!            │no
//!         absent                                    key into `absent`
//! range   own writes merged with the index          interval into `ranges`
//! ```
//!
//! 1. What is read before a write of the same key needs no entry in the read log: the write
//!    itself conflicts with every later version (first committer wins). When a write is undone or
//!    cancelled, the read is logged after all.
//! 2. References handed out live as long as the borrow of the workspace: own values by write-set
//!    invariant 1, others by the registration that the read view borrows.
//!
//! Called by transactions; a workspace belongs to one thread at a time. What is written key by key
//! is in [`writing`](super::writing).

use std::any::TypeId;
use std::borrow::Borrow;
use std::cell::{RefCell, RefMut};
use std::ops::Bound;
use std::ptr::NonNull;
use std::time::Instant;

use crate::codec::EncodeError;
use crate::epoch::Guard;
use crate::id::{BucketId, Timestamp};
use crate::mvcc::account::{Delta, signed};
use crate::mvcc::charge::{Charge, Excess, fits};
use crate::mvcc::expiry::Expired;
use crate::mvcc::footprint::{Footprint, WriteRef};
use crate::mvcc::interval::{BucketIntervals, Interval};
use crate::mvcc::ops::Ops;
use crate::mvcc::place::FetchError;
use crate::mvcc::read_log::{Access, ReadLog, Recent};
use crate::mvcc::record::TakeError;
use crate::mvcc::table::Table;
use crate::mvcc::tables::AnyTable;
use crate::mvcc::unaddressed::Unaddressed;
use crate::mvcc::version::Version;
use crate::mvcc::view::{Found, Item, Met};
use crate::mvcc::write_set::{Needs, Settled, Undone, WriteSet};
use crate::mvcc::{Key, Lookup, Value};
use crate::ssi::{Needed, Status};

/// How a read counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Not at all.
    Peek,
    Read,
    /// As a read, and as a write to everyone else who reads with this intent.
    Update,
}

/// Turns a pointer to an own value into a reference.
pub(super) fn lend<'t, K: Key, V: Value>(
    _holder: &'t Workspace<'_, K, V>,
    value: NonNull<V>,
) -> &'t V {
    // SAFETY: own values stay where they are while the workspace that holds them lives (2).
    unsafe { value.as_ref() }
}

/// What one transaction did in one bucket.
pub(crate) struct Workspace<'db, K: Key, V: Value> {
    table: &'db Table<K, V>,
    pub(super) writes: RefCell<WriteSet<K, V>>,
    recent: Recent<K, V>,
    expired: Option<Expired>,
    /// Boxed, since most transactions have none.
    unaddressed: RefCell<Option<Box<Unaddressed<K>>>>,
    /// What was read, as far as it was counted: boxed, since most buckets have no limit.
    read: RefCell<Option<Box<Read>>>,
    /// Why an iterator ended before its end.
    failure: RefCell<Option<Box<FetchError>>>,
}

/// What is not counted: a transaction that reads so little is never refused for it, however small
/// a limit is.
const FEW_BYTES: usize = 8 << 10;

/// What was read, in bytes that were counted for limits.
#[derive(Default)]
struct Read {
    /// Of the log of all buckets, what grew while this one was read.
    addresses: u64,
    charge: Charge,
}

impl<'db, K: Key, V: Value> Workspace<'db, K, V> {
    #[inline]
    pub(crate) fn new(table: &'db Table<K, V>) -> Self {
        let expired = table.expired();
        Self {
            table,
            writes: RefCell::new(WriteSet::new()),
            recent: Recent::new(),
            unaddressed: RefCell::new(None),
            read: RefCell::new(None),
            failure: RefCell::new(None),
            expired,
        }
    }

    /// What had expired when the bucket was first touched, if its entries do.
    pub(crate) fn expired(&self) -> Option<&Expired> {
        self.expired.as_ref()
    }

    pub(crate) fn get<'t, Q>(
        &'t self,
        access: &Access<'t>,
        key: &Q,
        intent: Intent,
    ) -> Result<Option<&'t V>, FetchError>
    where
        K: Borrow<Q>,
        Q: Lookup<K> + ?Sized,
    {
        if intent == Intent::Update {
            // Also when there is an own write, which may be rolled back.
            if let Some(met) = access.view.find(self.table, key) {
                ReadLog::push(&access.log.locks, met.record);
            } else {
                let key = key.to_key();
                self.unaddressed().note_locked(key, |key| self.owned_by(key));
            }
        }
        if let Some(own) = self.writes.borrow().get(key) {
            return Ok(own.map(|value| lend(self, value)));
        }
        let is_tracked = access.tracked && intent != Intent::Peek;
        let note = |record, found: &Found<'t, V>| {
            self.recent.note(record, found);
            if is_tracked {
                ReadLog::push(&access.log.reads, record);
            }
            found.value
        };
        let met = access.view.find(self.table, key);
        let record = match &met {
            Some(Met { record, found: Some(found) }) => return Ok(Some(note(record, found))),
            Some(Met { record, found: None }) => Some(record),
            None => None,
        };
        if let Some(record) = record
            && let Some(found) = access.view.fetch(self.table, record)?
        {
            return Ok(Some(note(record, &found)));
        }
        if is_tracked {
            self.note_absent(key.to_key());
        }
        Ok(None)
    }

    /// Whether there is a value, wherever it is. Counts as a read.
    pub(crate) fn contains<Q>(&self, access: &Access<'_>, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Lookup<K> + ?Sized,
    {
        if let Some(own) = self.writes.borrow().get(key) {
            return own.is_some();
        }
        let met = access.view.find(self.table, key);
        if let Some(Met { record, found: Some(found) }) = &met {
            self.recent.note(record, found);
        }
        if access.tracked {
            match &met {
                Some(met) => ReadLog::push(&access.log.reads, met.record),
                None => self.note_absent(key.to_key()),
            }
        }
        met.is_some()
    }

    /// Finds what is about to be written over.
    pub(super) fn find<'t, Q>(&'t self, access: &Access<'t>, key: &Q) -> Option<Met<'t, K, V>>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.recent.find(access, key).or_else(|| access.view.find(self.table, key))
    }

    /// The value of what was found, read back if it is not in memory.
    pub(super) fn value_of<'t, Q>(
        &'t self,
        access: &Access<'t>,
        key: &Q,
        met: &Met<'t, K, V>,
    ) -> Result<Option<&'t V>, FetchError>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        match &met.found {
            Some(found) => Ok(Some(found.value)),
            None => access.view.get(self.table, key),
        }
    }

    /// Writes over what the snapshot sees; there is no earlier write of the key.
    pub(super) fn put(
        &self,
        access: &Access<'_>,
        met: &Met<'_, K, V>,
        value: Option<V>,
        deadline: Option<Instant>,
    ) {
        if let Some(found) = &met.found {
            found.version.prefetch_older();
        }
        let make = || match (value, deadline) {
            (Some(value), Some(deadline)) => Version::timed(value, deadline),
            (value, _) => access.view.new_box(|| Version::unstamped(value)),
        };
        self.writes.borrow_mut().put_shared(NonNull::from(met.record), make);
    }

    fn unaddressed(&self) -> RefMut<'_, Unaddressed<K>> {
        RefMut::map(self.unaddressed.borrow_mut(), |reads| &mut **reads.get_or_insert_default())
    }

    pub(super) fn note_absent(&self, key: K) {
        self.unaddressed().note_absent(key, |key| self.owned_by(key));
    }

    /// Bytes that a key owns, if anybody counts.
    fn owned_by(&self, key: &K) -> usize {
        if self.is_limited() { self.table.weigher().key.of(key) } else { 0 }
    }

    /// Notes that an iterator could not read a value, so that nothing is committed that may rest on
    /// its end.
    pub(crate) fn fail(&self, error: FetchError) {
        self.failure.borrow_mut().get_or_insert_with(|| Box::new(error));
    }

    /// Notes that an iterator was opened on a range. Answers where, for [`narrow`](Self::narrow).
    pub(crate) fn note_range(&self, whole: Interval<K>) -> usize {
        self.unaddressed().note_range(whole, |key| self.owned_by(key))
    }

    pub(crate) fn typed_table(&self) -> &'db Table<K, V> {
        self.table
    }

    /// Replaces what an iterator is known to have read by what it really read.
    pub(crate) fn narrow(&self, slot: usize, read: Vec<Interval<K>>) {
        self.unaddressed().narrow(slot, read);
    }

    /// Own writes before `time` in the range, for an iterator. Answers whether that was all.
    pub(crate) fn scan_own<'t>(
        &'t self,
        bounds: (Bound<&K>, Bound<&K>),
        time: usize,
        backward: bool,
        limit: usize,
        out: &mut Vec<(&'t K, Item<'t, V>)>,
    ) -> bool {
        self.writes.borrow_mut().scan(bounds, time, backward, limit, |(key, value)| {
            // SAFETY: the key lives in a record that outlives the write set (its invariant 3).
            let key = unsafe { key.as_ref() };
            out.push((key, value.map_or(Item::Removed, |value| Item::Value(lend(self, value)))));
        })
    }

    /// Counts private writes, if the table has a limit. The error is a limit that has no room for
    /// them even if nothing else were there, and their bytes.
    pub(crate) fn count_private(&self) -> Result<(), Excess<'db>> {
        let gauges = self.table.account().gauges();
        if gauges.is_empty() {
            return Ok(());
        }
        fits(self.writes.borrow_mut().count_private(self.table), gauges)
    }

    /// The same for what the transaction has read, here or elsewhere, and nobody has counted yet.
    pub(crate) fn count_reads(&self, log: &ReadLog) -> Result<(), Excess<'db>> {
        let gauges = self.table.account().gauges();
        if gauges.is_empty() {
            return Ok(());
        }
        let here = self.unaddressed.borrow().as_ref().map_or(0, |reads| reads.bytes());
        let mut read = self.read.borrow_mut();
        if here <= FEW_BYTES && read.is_none() && !log.has_grown_by(FEW_BYTES) {
            return Ok(());
        }
        let read = read.get_or_insert_default();
        read.addresses += log.take_growth() as u64;
        let bytes = read.addresses + here as u64;
        read.charge.cover(bytes, gauges);
        fits(bytes, gauges)
    }

    /// The time of the next write.
    pub(crate) fn now(&self) -> usize {
        self.writes.borrow().now()
    }
}

/// A workspace with its types forgotten: what a commit, a rollback and a savepoint need.
pub(crate) trait AnyWorkspace<'db>: Send {
    fn bucket(&self) -> BucketId;
    fn table(&self) -> &'db dyn AnyTable;
    fn types(&self) -> (TypeId, TypeId);

    /// The time of the next write, to roll back to.
    fn mark(&self) -> usize;
    fn undo_to(&self, mark: usize, log: &ReadLog, tracked: bool);

    /// Adds what will be written to the operations of the commit, if the bucket is durable. Runs
    /// the user's `Encode`.
    fn encode(&self, ops: &mut Ops) -> Result<(), EncodeError>;
    /// Whether an iterator ended before its end.
    fn has_failed(&self) -> bool;
    /// Why, if one did.
    fn failure(&self) -> Option<FetchError>;
    /// Whether the bytes of the bucket count for a limit.
    fn is_limited(&self) -> bool;
    /// What the commit will ask of the memory. What was counted of private writes is given back.
    fn needs(&self) -> Needs;
    /// Finds or makes a record for each key to be written, and adds them to the footprint, with
    /// what was read and locked without an address. Runs the user's `Ord`. False if it writes to a
    /// table that was dropped.
    fn freeze(&mut self, guard: &Guard<'_>, footprint: &mut Footprint) -> bool;
    /// Puts the version of a write on top of its record. Answers whether somebody is to tidy up
    /// after it.
    fn take(
        &mut self,
        index: usize,
        owner: *const Status,
        snapshot: Timestamp,
        guard: &Guard<'_>,
    ) -> Result<bool, TakeError>;
    /// Looks for a record again, after a sweep removed the one that was found.
    fn place_again(&mut self, index: usize, guard: &Guard<'_>) -> NonNull<()>;
    /// Takes every version off that was put on a head.
    fn release(&mut self, guard: &Guard<'_>);
    /// Stamps every version that was put on a head and prunes below it.
    fn settle(&mut self, commit: Timestamp, horizon: Timestamp, guard: &Guard<'_>) -> Settled;
    /// Takes versions that no reader needs out of the records that were written, after the commit
    /// has ended. Answers how many.
    fn thin(&self, needed: &Needed, guard: &Guard<'_>) -> usize;
}

impl<'db> dyn AnyWorkspace<'db> + 'db {
    /// The workspace with its types, if they are these.
    pub(crate) fn typed<K: Key, V: Value>(&self) -> Option<&Workspace<'db, K, V>> {
        if self.types() != (TypeId::of::<K>(), TypeId::of::<V>()) {
            return None;
        }
        let workspace: *const () = std::ptr::from_ref(self).cast();
        // SAFETY: `Workspace` is the only implementor, and the types are the ones asked for.
        Some(unsafe { &*workspace.cast::<Workspace<'db, K, V>>() })
    }
}

impl<'db, K: Key, V: Value> AnyWorkspace<'db> for Workspace<'db, K, V> {
    fn bucket(&self) -> BucketId {
        self.table.id()
    }

    fn table(&self) -> &'db dyn AnyTable {
        self.table
    }

    fn types(&self) -> (TypeId, TypeId) {
        (TypeId::of::<K>(), TypeId::of::<V>())
    }

    fn mark(&self) -> usize {
        self.now()
    }

    fn undo_to(&self, mark: usize, log: &ReadLog, tracked: bool) {
        let undone = self.writes.borrow_mut().undo_to(mark);
        for write in undone.into_iter().filter(|_| tracked) {
            match write {
                Undone::Record(record) => {
                    // SAFETY: the snapshot sees the record of a shared write.
                    ReadLog::push(&log.reads, unsafe { record.as_ref() });
                }
                Undone::Absent(key) => self.note_absent(key),
            }
        }
    }

    fn encode(&self, ops: &mut Ops) -> Result<(), EncodeError> {
        let Some(stored) = self.table.stored() else { return Ok(()) };
        self.writes.borrow().standing().try_for_each(|(key, value)| stored.encode(key, value, ops))
    }

    fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    fn is_limited(&self) -> bool {
        !self.table.account().gauges().is_empty()
    }

    fn failure(&self) -> Option<FetchError> {
        self.failure.borrow().as_deref().cloned()
    }

    fn needs(&self) -> Needs {
        let mut writes = self.writes.borrow_mut();
        writes.release_private();
        writes.needs(self.table)
    }

    fn freeze(&mut self, guard: &Guard<'_>, footprint: &mut Footprint) -> bool {
        let bucket = self.table.id();
        let writes = self.writes.get_mut();
        if !writes.is_empty() {
            let before = footprint.writes().len();
            writes.place_all(self.table, guard, |at, record| {
                footprint.add_write(WriteRef::new(record, bucket, at));
            });
            if footprint.writes().len() > before && self.table.is_dropped() {
                return false;
            }
        }
        if let Some(reads) = self.unaddressed.get_mut().take() {
            let (read, locked) = reads.into_intervals();
            let read = BucketIntervals::<K, V>::boxed(read);
            footprint.add_intervals(bucket, read, BucketIntervals::<K, V>::boxed(locked));
        }
        true
    }

    fn take(
        &mut self,
        index: usize,
        owner: *const Status,
        snapshot: Timestamp,
        guard: &Guard<'_>,
    ) -> Result<bool, TakeError> {
        self.writes.get_mut().take(index, owner, snapshot, self.table, guard)
    }

    fn place_again(&mut self, index: usize, guard: &Guard<'_>) -> NonNull<()> {
        let placed = self.writes.get_mut().place_again(index, self.table, guard);
        placed.expect("a write that had a record gets one")
    }

    fn release(&mut self, guard: &Guard<'_>) {
        self.writes.get_mut().release(self.table, guard);
    }

    fn settle(&mut self, commit: Timestamp, horizon: Timestamp, guard: &Guard<'_>) -> Settled {
        let writes = self.writes.get_mut();
        if writes.is_empty() {
            return Settled::default();
        }
        let settled = writes.settle(commit, horizon, self.table, guard);
        self.table.account().add(settled.delta);
        settled
    }

    fn thin(&self, needed: &Needed, guard: &Guard<'_>) -> usize {
        let pruned = self.writes.borrow().thin(needed, self.table, guard);
        self.table.account().add(Delta { retained: -signed(pruned.bytes), ..Delta::default() });
        pruned.versions
    }
}
