//! A table: the index of one bucket's records, and its sweep.
//!
//! 1. Records enter through `index().insert` and leave through [`Table::sweep`] alone.
//! 2. A table lives as long as its engine: dropping a bucket empties it and leaves the shell, so
//!    that a transaction may hold a plain reference to it.
//!
//! Called by transactions (through workspaces), snapshots, and the vacuum.

use crate::epoch::Guard;
use crate::id::{BucketId, Timestamp};
use crate::mvcc::codec::Stored;
use crate::mvcc::record::{Record, Stale};
use crate::mvcc::version::Version;
use crate::mvcc::{Key, Value};
use crate::skiplist::SkipList;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};

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

    pub(crate) fn id(&self) -> BucketId {
        self.id
    }

    pub(crate) fn is_dropped(&self) -> bool {
        // Acquire: pairs with the Release in `mark_dropped`.
        self.dropped.load(Ordering::Acquire)
    }

    pub(crate) fn mark_dropped(&self) {
        // Release: whoever sees the mark sees the catalog without the name.
        self.dropped.store(true, Ordering::Release);
    }

    /// Lets sweeps empty the dropped table once the horizon is at `horizon`.
    pub(crate) fn empty_from(&self, horizon: Timestamp) {
        // Release: pairs with the Acquire in `sweep`.
        self.empty_from.store(horizon.get(), Ordering::Release);
    }

    /// Prunes chains and removes records that nobody at or after `horizon` can read, looking at
    /// no more than `budget` records; goes on where the last sweep ended. Another sweep in progress
    /// makes this one do nothing.
    pub(crate) fn sweep(&self, horizon: Timestamp, budget: usize, guard: &Guard<'_>) -> Swept {
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
}
