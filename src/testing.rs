//! Parts of the engine on their own, for benchmarks and checkers. Not covered by semantic
//! versioning.

use crate::epoch::{Collector, Participant};
use crate::skiplist::{Entry, SkipList};
use crate::slab::Boxed;
use crate::sync::{AtomicBool, Ordering};
use std::borrow::Borrow;
use std::fmt;
use std::ops::Bound;

mod kept;

pub use kept::KeptKeys;

pub use crate::storage::{
    Access, Call, Disk, Fault, FaultDisk, File, Lock, Map, Moment, Op, Pages, Sabotage, Sabotages,
    Storage,
};

/// Bytes that the whole process has from the allocator for the engine's small things, and how many
/// of them are taken: the rest are places that were freed, or never used, on pages with others.
#[must_use]
pub fn slab_usage() -> (usize, usize) {
    crate::slab::usage()
}

struct Pair<K, V> {
    key: K,
    value: V,
    dead: AtomicBool,
}

impl<K: Ord + Clone + Send + Sync + 'static, V: Send + Sync + 'static> Entry for Pair<K, V> {
    type Key = K;

    #[inline]
    fn key(&self) -> &K {
        &self.key
    }

    #[inline]
    fn is_dead(&self) -> bool {
        // Acquire: partner of the release in `remove_if`.
        self.dead.load(Ordering::Acquire)
    }
}

/// The index without transactions: a concurrent ordered map whose values never change.
pub struct Index<K: Ord + Clone + Send + Sync + 'static, V: Send + Sync + 'static> {
    // Dropped before the collector, as it should be: nobody is inside.
    list: SkipList<Pair<K, V>>,
    collector: Collector,
}

impl<K: Ord + Clone + Send + Sync + 'static, V: Send + Sync + 'static> Default for Index<K, V> {
    fn default() -> Self {
        Self { list: SkipList::new(), collector: Collector::new() }
    }
}

impl<K: Ord + Clone + Send + Sync + 'static, V: Send + Sync + 'static> Index<K, V> {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key; false if it is there already.
    pub fn insert(&self, key: K, value: V) -> bool {
        let guard = self.collector.pin();
        let pair = Boxed::new(Pair { key, value, dead: AtomicBool::new(false) });
        self.list.insert(pair, &guard).is_ok()
    }

    /// Reads the value of a key.
    #[inline]
    pub fn get_with<Q, R>(&self, key: &Q, read: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let guard = self.collector.pin();
        self.list.get(key, &guard).map(|pair| read(&pair.value))
    }

    /// Visits entries in ascending order until `visit` says no.
    pub fn range<Q>(&self, bounds: (Bound<&Q>, Bound<&Q>), mut visit: impl FnMut(&K, &V) -> bool)
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let guard = self.collector.pin();
        self.list.range(bounds, &guard).walk(|pair| visit(&pair.key, &pair.value));
    }

    /// Visits entries in descending order until `visit` says no.
    pub fn range_back<Q>(
        &self,
        bounds: (Bound<&Q>, Bound<&Q>),
        mut visit: impl FnMut(&K, &V) -> bool,
    ) where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let guard = self.collector.pin();
        self.list.range(bounds, &guard).walk_back(|pair| visit(&pair.key, &pair.value));
    }

    /// Removes what `gone` names; says how many entries that were.
    pub fn remove_if(&self, gone: impl Fn(&K, &V) -> bool) -> usize {
        let guard = self.collector.pin();
        let is_gone = |pair: &Pair<K, V>| gone(&pair.key, &pair.value);
        // Release: partner of the acquire in `is_dead`.
        let dies = |pair: &Pair<K, V>| is_gone(pair) && !pair.dead.swap(true, Ordering::Release);
        let kill = |pair: &Pair<K, V>| dies(pair).then_some(0);
        let sweep = self.list.sweep(None, usize::MAX, is_gone, kill, &guard);
        drop(guard);
        self.collector.collect();
        sweep.removed
    }

    /// Entries in the index.
    pub fn len(&self) -> usize {
        self.list.len(&self.collector.pin())
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Panics if the structure is broken; nobody may write meanwhile.
    pub fn check(&self) {
        self.list.check(&self.collector.pin());
    }

    /// A reader that pins by a store, as a transaction does.
    #[must_use]
    pub fn reader(&self) -> Reader<'_, K, V> {
        Reader { index: self, participant: self.collector.participant() }
    }
}

impl<K, V> fmt::Debug for Index<K, V>
where
    K: Ord + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("collector", &self.collector).finish_non_exhaustive()
    }
}

/// Reads an index with one claimed slot for many reads.
pub struct Reader<'i, K: Ord + Clone + Send + Sync + 'static, V: Send + Sync + 'static> {
    index: &'i Index<K, V>,
    participant: Participant<'i>,
}

impl<K: Ord + Clone + Send + Sync + 'static, V: Send + Sync + 'static> Reader<'_, K, V> {
    /// Reads the value of a key.
    #[inline]
    pub fn get_with<Q, R>(&self, key: &Q, read: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let guard = self.participant.pin();
        self.index.list.get(key, &guard).map(|pair| read(&pair.value))
    }
}

impl<K, V> fmt::Debug for Reader<'_, K, V>
where
    K: Ord + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
