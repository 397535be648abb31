//! The tables of an engine, their types forgotten.
//!
//! 1. Tables are only added. So a reference to one is good as long as the engine.
//! 2. Whoever knows the types of a bucket's handle finds the same types here.
//!
//! Called by workspaces, the vacuum, and the floors above.

use std::any::{Any, type_name};
use std::cmp::Ordering;
use std::ptr::NonNull;

use crate::codec::DecodeError;
use crate::epoch::Guard;
use crate::id::{BucketId, StoredId, Timestamp};
use crate::mvcc::account::{Bytes, Gauge};
use crate::mvcc::departure::{self, Departing, Wanted};
use crate::mvcc::expiry::Expiry;
use crate::mvcc::footprint::WriteRef;
use crate::mvcc::place::Place;
use crate::mvcc::record::Record;
use crate::mvcc::shelf::Shelf;
use crate::mvcc::stored::{self, DumpError, EachKey, EncodedRange};
use crate::mvcc::table::{Horizons, Swept, Table};
use crate::mvcc::terms::Terms;
use crate::mvcc::view::ReadView;
use crate::mvcc::waiting::Clearing;
use crate::mvcc::weigh::Weigher;
use crate::mvcc::{Key, Value};
use crate::skiplist::Entry as _;
use crate::ssi::{Needed, Status};
use crate::sync::{Arc, Mutex, OnceLock};

/// A copy of the key of a write, for a report. The caller found the write in a footprint that is
/// frozen under `_guard`, or retained by the log; `table` is the one of its bucket.
pub(crate) fn key_of(
    write: WriteRef,
    table: &dyn AnyTable,
    _guard: &Guard<'_>,
) -> Arc<dyn Any + Send + Sync> {
    assert!(table.id() == write.bucket, "a record is in the table of its bucket");
    // SAFETY: the record is in the table just checked, and live: see invariant 2 of `footprint`,
    // and for a write that is not linked, the pin under which its record was found.
    unsafe { table.key_of(write.record) }
}

/// Takes what no reader needs out of the record of a write, and the record if the write was a
/// removal; with it those of its neighbours that are listed. The log has passed the commit of the
/// write, and the guard was made before it had; the table is not dropped.
pub(crate) fn tidy(
    write: WriteRef,
    table: &dyn AnyTable,
    clearing: &mut Clearing,
    horizons: Horizons<'_>,
    guard: &Guard<'_>,
) -> usize {
    assert!(table.id() == write.bucket, "a record is in the table of its bucket");
    // SAFETY: the record is in the table just checked, and was live when the guard was made: see
    // invariant 3 of `footprint`.
    unsafe { table.tidy(write.record, clearing, horizons, guard) }
}

/// A table with its types forgotten.
pub(crate) trait AnyTable: Any + Send + Sync {
    fn id(&self) -> BucketId;
    fn key_type(&self) -> &'static str;
    fn value_type(&self) -> &'static str;
    fn is_dropped(&self) -> bool;
    fn mark_dropped(&self);
    /// Lets sweeps empty the dropped table once the horizon is at `horizon`.
    fn empty_from(&self, horizon: Timestamp);

    /// Takes out versions that no reader needs, and records that nobody can read, looking at
    /// no more than `budget` records; goes on where the last sweep ended. Another sweep of the
    /// same table in progress makes this one do nothing.
    fn sweep(&self, horizons: Horizons<'_>, budget: usize, guard: &Guard<'_>) -> Swept;

    /// Entries in the index, those that only old snapshots or nobody can see included.
    fn records(&self, guard: &Guard<'_>) -> usize;

    /// What the table takes, as counted.
    fn bytes(&self) -> Bytes;

    /// The limits that the table's bytes count for: its own, and the database's.
    fn gauges(&self) -> &[Arc<Gauge>];

    /// What is kept to choose who leaves: entries in rings, and bytes.
    fn overhead(&self) -> (usize, u64);

    /// Removes records of entries that departed, up to `limit`. Answers how many versions went
    /// with them.
    fn bury(&self, horizons: Horizons<'_>, limit: usize, guard: &Guard<'_>) -> usize;

    /// Takes out values that have left memory and that no reader needs any more, up to `limit`.
    /// Answers how many versions, and their bytes.
    fn part(&self, needed: &Needed, limit: usize, guard: &Guard<'_>) -> (usize, u64);

    /// Values that have left memory but for their readers.
    fn parted(&self) -> usize;

    /// The files that values leave memory for, if they do.
    fn shelf(&self) -> Option<&Shelf>;

    /// Bytes that an entry takes whose value is in the files only, but for what its key owns.
    fn stub_bytes(&self) -> u64;

    /// Points what is cold and has moved to where it is now: the value of one entry of a file.
    fn repoint(&self, key: &[u8], place: &Place, guard: &Guard<'_>) -> Result<(), DecodeError>;

    /// Whether entries, or their values, leave when room is needed.
    fn evicts(&self) -> bool;

    /// Chooses entries that are to leave, and puts tombstones on them, marked with `owner`.
    fn depart<'t>(
        &'t self,
        wanted: Wanted,
        owner: *const Status,
        guard: &Guard<'_>,
    ) -> Box<dyn Departing + 't>;

    /// The time to live of its entries, if they have one.
    fn expiry(&self) -> Option<&Expiry>;

    /// Checks the structure of the index and what is counted; panics with what is wrong.
    #[cfg(feature = "testing")]
    fn check(&self, guard: &Guard<'_>);

    /// Where the bucket is in the files, if it is durable.
    fn stored_id(&self) -> Option<StoredId>;

    /// Puts an entry of the files into the table, which nobody else knows yet: `None` removes.
    /// Older entries of a key come before newer ones. With a place the value stays there, which it
    /// may if the table has a shelf.
    fn load(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        at: Timestamp,
        place: Option<Place>,
        guard: &Guard<'_>,
    ) -> Result<(), DecodeError>;

    /// Passes on the entries of a range at a snapshot as bytes, in order, until `each` answers
    /// false.
    fn dump(
        &self,
        view: ReadView<'_>,
        range: EncodedRange<'_>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), DumpError>;

    /// Passes on what a snapshot has at each of some keys as bytes, `None` for nothing, until
    /// `each` answers false.
    fn dump_keys(
        &self,
        view: ReadView<'_>,
        keys: &mut dyn Iterator<Item = &[u8]>,
        each: &mut EachKey<'_>,
    ) -> Result<(), DumpError>;

    /// How two encoded keys compare.
    fn compare_keys(&self, one: &[u8], other: &[u8]) -> Result<Ordering, DecodeError>;

    /// A copy of the key of `record`.
    ///
    /// See [`Table::tidy`].
    ///
    /// # Safety
    ///
    /// `record` is a record of this table that was live when the guard was made.
    unsafe fn tidy(
        &self,
        record: NonNull<()>,
        clearing: &mut Clearing,
        horizons: Horizons<'_>,
        guard: &Guard<'_>,
    ) -> usize;

    /// See [`Table::retry`].
    fn retry(&self, horizons: Horizons<'_>, limit: usize, guard: &Guard<'_>) -> usize;

    /// # Safety
    ///
    /// `record` is a live record of this table.
    unsafe fn key_of(&self, record: NonNull<()>) -> Arc<dyn Any + Send + Sync>;
}

impl<K: Key, V: Value> AnyTable for Table<K, V> {
    fn id(&self) -> BucketId {
        self.id()
    }

    fn key_type(&self) -> &'static str {
        type_name::<K>()
    }

    fn value_type(&self) -> &'static str {
        type_name::<V>()
    }

    fn is_dropped(&self) -> bool {
        self.is_dropped()
    }

    fn mark_dropped(&self) {
        self.mark_dropped();
    }

    fn empty_from(&self, horizon: Timestamp) {
        self.empty_from(horizon);
    }

    fn sweep(&self, horizons: Horizons<'_>, budget: usize, guard: &Guard<'_>) -> Swept {
        self.sweep(horizons, budget, guard)
    }

    fn records(&self, guard: &Guard<'_>) -> usize {
        self.index().len(guard)
    }

    fn bytes(&self) -> Bytes {
        self.account().bytes()
    }

    fn gauges(&self) -> &[Arc<Gauge>] {
        self.account().gauges()
    }

    fn overhead(&self) -> (usize, u64) {
        let census = self.residence().map(|it| it.keeper.census()).unwrap_or_default();
        (census.entries + census.pinned, census.overhead as u64)
    }

    fn bury(&self, horizons: Horizons<'_>, limit: usize, guard: &Guard<'_>) -> usize {
        self.bury(horizons, limit, guard)
    }

    fn part(&self, needed: &Needed, limit: usize, guard: &Guard<'_>) -> (usize, u64) {
        self.part(needed, limit, guard)
    }

    fn parted(&self) -> usize {
        self.parted()
    }

    fn shelf(&self) -> Option<&Shelf> {
        self.shelf()
    }

    fn stub_bytes(&self) -> u64 {
        Weigher::<K, V>::stub() as u64
    }

    fn repoint(&self, key: &[u8], place: &Place, guard: &Guard<'_>) -> Result<(), DecodeError> {
        stored::repoint(self, key, place, guard)
    }

    fn evicts(&self) -> bool {
        self.residence().is_some()
    }

    fn depart<'t>(
        &'t self,
        wanted: Wanted,
        owner: *const Status,
        guard: &Guard<'_>,
    ) -> Box<dyn Departing + 't> {
        Box::new(departure::depart(self, wanted, owner, guard))
    }

    fn expiry(&self) -> Option<&Expiry> {
        self.expiry()
    }

    #[cfg(feature = "testing")]
    fn check(&self, guard: &Guard<'_>) {
        self.index().check(guard);
        assert_eq!(self.walk(guard), self.account().bytes(), "what is there, and what is counted");
    }

    fn stored_id(&self) -> Option<StoredId> {
        self.stored().map(|stored| stored.bucket)
    }

    fn load(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        at: Timestamp,
        place: Option<Place>,
        guard: &Guard<'_>,
    ) -> Result<(), DecodeError> {
        stored::load(self, key, value, at, place, guard)
    }

    fn dump(
        &self,
        view: ReadView<'_>,
        range: EncodedRange<'_>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), DumpError> {
        stored::dump(self, view, range, each)
    }

    fn dump_keys(
        &self,
        view: ReadView<'_>,
        keys: &mut dyn Iterator<Item = &[u8]>,
        each: &mut EachKey<'_>,
    ) -> Result<(), DumpError> {
        stored::dump_keys(self, view, keys, each)
    }

    fn compare_keys(&self, one: &[u8], other: &[u8]) -> Result<Ordering, DecodeError> {
        stored::compare(self, one, other)
    }

    unsafe fn tidy(
        &self,
        record: NonNull<()>,
        clearing: &mut Clearing,
        horizons: Horizons<'_>,
        guard: &Guard<'_>,
    ) -> usize {
        // SAFETY: the caller passes a record of this table, so its types are K and V, and its guard
        // keeps it.
        let record = unsafe { record.cast::<Record<K, V>>().as_ref() };
        self.tidy(record, clearing, horizons, guard)
    }

    fn retry(&self, horizons: Horizons<'_>, limit: usize, guard: &Guard<'_>) -> usize {
        self.retry(horizons, limit, guard)
    }

    unsafe fn key_of(&self, record: NonNull<()>) -> Arc<dyn Any + Send + Sync> {
        // SAFETY: the caller passes a live record of this table, so its types are K and V.
        let record = unsafe { record.cast::<Record<K, V>>().as_ref() };
        Arc::new(record.key().clone())
    }
}

const CHUNK: usize = 16;
const CHUNKS: usize = 1 << 12;

type Chunk = Box<[OnceLock<Box<dyn AnyTable>>; CHUNK]>;

/// Every table an engine ever had, by bucket id. Grows only, so that references stay good.
pub(crate) struct Tables {
    /// The id of the next table.
    next: Mutex<u32>,
    first: [OnceLock<Box<dyn AnyTable>>; CHUNK],
    more: OnceLock<Box<[OnceLock<Chunk>]>>,
    /// The limit of all tables together, if there is one.
    gauge: Option<Arc<Gauge>>,
}

impl Tables {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self {
            gauge: limit.map(|limit| Arc::new(Gauge::new(limit))),
            next: Mutex::new(0),
            first: [const { OnceLock::new() }; CHUNK],
            more: OnceLock::new(),
        }
    }

    /// The limit of all tables together, if there is one.
    pub(crate) fn gauge(&self) -> Option<&Arc<Gauge>> {
        self.gauge.as_ref()
    }

    /// Buckets ever created in one database, at most.
    pub(crate) const MAX: usize = CHUNK * (CHUNKS + 1);

    fn slot(&self, id: usize) -> Option<&OnceLock<Box<dyn AnyTable>>> {
        if let Some(slot) = self.first.get(id) {
            return Some(slot);
        }
        let id = id - CHUNK;
        let chunks = self.more.get_or_init(|| (0..CHUNKS).map(|_| OnceLock::new()).collect());
        let chunk = chunks.get(id / CHUNK)?;
        chunk.get_or_init(|| Box::new([const { OnceLock::new() }; CHUNK])).get(id % CHUNK)
    }

    /// Adds an empty table. `None` when [`Tables::MAX`] tables exist.
    pub(crate) fn add<K: Key, V: Value>(&self, terms: Terms<K, V>) -> Option<BucketId> {
        let mut next = self.next.lock();
        let id = BucketId::from_raw(*next);
        let slot = self.slot(*next as usize)?;
        *next += 1;
        let table = Table::<K, V>::new(id, terms, self.gauge.as_ref());
        assert!(slot.set(Box::new(table)).is_ok(), "an id is used once");
        Some(id)
    }

    pub(crate) fn get(&self, id: BucketId) -> &dyn AnyTable {
        let table = self.slot(id.get() as usize).and_then(OnceLock::get);
        table.expect("a bucket id is handed out after its table is in place").as_ref()
    }

    /// The table with its types, or `None` when they are others.
    pub(crate) fn typed<K: Key, V: Value>(&self, id: BucketId) -> Option<&Table<K, V>> {
        let table: &dyn Any = self.get(id);
        table.downcast_ref()
    }

    /// How many tables there are, those of dropped buckets included.
    pub(crate) fn len(&self) -> usize {
        *self.next.lock() as usize
    }

    /// The table at a place in the order of creation.
    pub(crate) fn at(&self, place: usize) -> Option<&dyn AnyTable> {
        if place >= self.len() {
            return None;
        }
        self.slot(place).and_then(OnceLock::get).map(Box::as_ref)
    }

    /// All tables, those of dropped buckets included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn AnyTable> {
        let count = *self.next.lock();
        (0..count).map(|id| self.get(BucketId::from_raw(id)))
    }
}
