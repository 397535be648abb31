//! A table: the index of one bucket's records, and its sweep.
//!
//! 1. Records enter through `index().insert` and leave through [`Table::sweep`] alone.
//! 2. A table lives as long as its engine: dropping a bucket empties it and leaves the shell, so
//!    that a transaction may hold a plain reference to it.
//!
//! Called by transactions (through workspaces), snapshots, and the vacuum.

use std::any::{Any, type_name};
use std::cmp::Ordering as Order;
use std::ptr::NonNull;

use crate::codec::DecodeError;
use crate::epoch::Guard;
use crate::id::{BucketId, StoredId, Timestamp};
use crate::mvcc::record::{Record, Stale};
use crate::mvcc::stored::{DumpError, EncodedRange, Stored};
use crate::mvcc::version::Version;
use crate::mvcc::view::ReadView;
use crate::mvcc::{Key, Value};
use crate::skiplist::{Entry, SkipList};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, OnceLock, Ordering};

/// The records of one bucket.
pub(crate) struct Table<K: Key, V: Value> {
    id: BucketId,
    index: SkipList<Record<K, V>>,
    stored: Option<Stored<K, V>>,
    dropped: AtomicBool,
    /// From this horizon on the table may be emptied; zero while it is in use.
    empty_from: AtomicU64,
    /// Where the next sweep goes on. Held for the length of a sweep: one at a time.
    sweep: Mutex<Option<K>>,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Records looked at.
    pub(crate) visited: usize,
    /// Versions cut off.
    pub(crate) versions: usize,
    /// Records removed.
    pub(crate) records: usize,
    /// Whether the sweep reached the end of the table; the next one starts over.
    pub(crate) wrapped: bool,
}

impl<K: Key, V: Value> Table<K, V> {
    pub(crate) fn new(id: BucketId, stored: Option<Stored<K, V>>) -> Self {
        Self {
            id,
            index: SkipList::new(),
            stored,
            dropped: AtomicBool::new(false),
            empty_from: AtomicU64::new(0),
            sweep: Mutex::new(None),
        }
    }

    pub(crate) fn index(&self) -> &SkipList<Record<K, V>> {
        &self.index
    }

    /// Where the bucket is in the files, if it is durable.
    pub(crate) fn stored(&self) -> Option<&Stored<K, V>> {
        self.stored.as_ref()
    }

    fn expect_stored(&self) -> &Stored<K, V> {
        self.stored.as_ref().expect("only the tables of durable buckets are asked for bytes")
    }

    /// Reads the newest value at `snapshot` without a registration.
    pub(crate) fn get_unregistered<'g, Q>(
        &'g self,
        key: &Q,
        snapshot: Timestamp,
        guard: &'g Guard<'_>,
    ) -> Result<Option<&'g V>, Stale>
    where
        K: std::borrow::Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let Some(record) = self.index.get(key, guard) else { return Ok(None) };
        Ok(record.visible_unregistered(snapshot, guard)?.and_then(Version::value))
    }
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

    /// Prunes chains and removes records that nobody at or after `horizon` can read, looking at
    /// no more than `budget` records; goes on where the last sweep ended. Another sweep of the
    /// same table in progress makes this one do nothing.
    fn sweep(&self, horizon: Timestamp, budget: usize, guard: &Guard<'_>) -> Swept;

    /// Entries in the index, those that only old snapshots or nobody can see included.
    fn records(&self, guard: &Guard<'_>) -> usize;

    /// Checks the structure of the index; panics with what is wrong.
    #[cfg(feature = "testing")]
    fn check(&self, guard: &Guard<'_>);

    /// Where the bucket is in the files, if it is durable.
    fn stored_id(&self) -> Option<StoredId>;

    /// Puts an entry of the files into the table, which nobody else knows yet: `None` removes.
    /// Older entries of a key come before newer ones.
    fn load(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        at: Timestamp,
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

    /// How two encoded keys compare.
    fn compare_keys(&self, one: &[u8], other: &[u8]) -> Result<Order, DecodeError>;

    /// A copy of the key of `record`.
    ///
    /// # Safety
    ///
    /// `record` is a live record of this table.
    unsafe fn key_of(&self, record: NonNull<()>) -> Arc<dyn Any + Send + Sync>;
}

impl<K: Key, V: Value> AnyTable for Table<K, V> {
    fn id(&self) -> BucketId {
        self.id
    }

    fn key_type(&self) -> &'static str {
        type_name::<K>()
    }

    fn value_type(&self) -> &'static str {
        type_name::<V>()
    }

    fn is_dropped(&self) -> bool {
        // Acquire: pairs with the Release in `mark_dropped`.
        self.dropped.load(Ordering::Acquire)
    }

    fn mark_dropped(&self) {
        // Release: whoever sees the mark sees the catalog without the name.
        self.dropped.store(true, Ordering::Release);
    }

    fn empty_from(&self, horizon: Timestamp) {
        // Release: pairs with the Acquire in `sweep`.
        self.empty_from.store(horizon.get(), Ordering::Release);
    }

    fn sweep(&self, horizon: Timestamp, budget: usize, guard: &Guard<'_>) -> Swept {
        let mut swept = Swept::default();
        let Some(mut position) = self.sweep.try_lock() else { return swept };
        // Acquire: pairs with the Release in `empty_from`.
        let empty_from = self.empty_from.load(Ordering::Acquire);
        let unused = empty_from != 0 && horizon.get() >= empty_from;
        let visit = |record: &Record<K, V>| {
            if unused {
                return true;
            }
            swept.versions += record.prune(horizon, guard).versions;
            record.is_empty(guard)
        };
        let kill = |record: &Record<K, V>| {
            if unused { record.condemn(guard) } else { record.kill(horizon, guard) }
        };
        let done = self.index.sweep(position.take(), budget, visit, kill, guard);
        swept.visited = done.visited;
        swept.records = done.removed;
        swept.wrapped = done.resume.is_none();
        *position = done.resume;
        swept
    }

    fn records(&self, guard: &Guard<'_>) -> usize {
        self.index.len(guard)
    }

    #[cfg(feature = "testing")]
    fn check(&self, guard: &Guard<'_>) {
        self.index.check(guard);
    }

    fn stored_id(&self) -> Option<StoredId> {
        self.stored.as_ref().map(|stored| stored.bucket)
    }

    fn load(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        at: Timestamp,
        guard: &Guard<'_>,
    ) -> Result<(), DecodeError> {
        self.expect_stored().load(self, key, value, at, guard)
    }

    fn dump(
        &self,
        view: ReadView<'_>,
        range: EncodedRange<'_>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), DumpError> {
        self.expect_stored().dump(self, view, range, each)
    }

    fn compare_keys(&self, one: &[u8], other: &[u8]) -> Result<Order, DecodeError> {
        self.expect_stored().compare(one, other)
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
}

impl Tables {
    pub(crate) fn new() -> Self {
        Self {
            next: Mutex::new(0),
            first: [const { OnceLock::new() }; CHUNK],
            more: OnceLock::new(),
        }
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
    pub(crate) fn add<K: Key, V: Value>(&self, stored: Option<Stored<K, V>>) -> Option<BucketId> {
        let mut next = self.next.lock();
        let id = BucketId::from_raw(*next);
        let slot = self.slot(*next as usize)?;
        *next += 1;
        assert!(slot.set(Box::new(Table::<K, V>::new(id, stored))).is_ok(), "an id is used once");
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
