//! What an entry takes in memory.
//!
//! ```text
//! record   { key | head | first version }   + what the key owns     + its part of the index
//! version  { stamp | before | value }       + what the value owns   a box of its own, or a place
//!                                                                   in its record
//! ```
//!
//! 1. What is in memory never changes its size: keys and values do not change, and one function
//!    measures them when they come and when they go. A measure that is given must keep to that.
//! 2. A measure that panics counts as nothing; nobody else notices.
//!
//! Called by write sets, sweeps, and loading.

use std::alloc::Layout;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::heap::{heap_size_of_known, is_known};
use crate::mvcc::record::Record;
use crate::mvcc::version::Version;
use crate::mvcc::{Key, Value};
use crate::slab::spent;
use crate::sync::Arc;

/// A key's part of the index, about: a hint and a pointer in a leaf that is three quarters full,
/// and the leaf's part of what is above it.
const INDEX_BYTES: usize = 22;

/// How the bytes that something owns on the heap are found.
pub(crate) enum Measure<T> {
    /// The type is one that is known, or owns nothing.
    Known,
    Given(Arc<dyn Fn(&T) -> usize + Send + Sync>),
}

impl<T: 'static> Measure<T> {
    fn is_exact(&self) -> bool {
        matches!(self, Self::Given(_)) || is_known::<T>()
    }

    /// Bytes that the thing owns on the heap.
    pub(crate) fn of(&self, thing: &T) -> usize {
        match self {
            Self::Known => heap_size_of_known(thing).unwrap_or(0),
            Self::Given(measure) => {
                catch_unwind(AssertUnwindSafe(|| measure(thing))).unwrap_or_default()
            }
        }
    }
}

/// How the memory of a bucket's entries is measured.
pub(crate) struct Weigher<K, V> {
    pub(crate) key: Measure<K>,
    pub(crate) value: Measure<V>,
}

impl<K: Key, V: Value> Weigher<K, V> {
    /// Counts what is known of the types.
    pub(crate) fn known() -> Self {
        Self { key: Measure::Known, value: Measure::Known }
    }

    /// Whether everything that keys and values own is counted.
    pub(crate) fn is_exact(&self) -> bool {
        self.key.is_exact() && self.value.is_exact()
    }

    /// Bytes of a record, its versions excluded.
    pub(crate) fn record(&self, key: &K) -> usize {
        spent(Layout::new::<Record<K, V>>()) + INDEX_BYTES + self.key.of(key)
    }

    /// Bytes of a version in a box of its own with this value; `None` is a tombstone.
    pub(crate) fn boxed(&self, value: Option<&V>) -> usize {
        spent(Layout::new::<Version<V>>()) + self.owned(value)
    }

    /// Bytes of a version wherever it lives.
    pub(crate) fn version(&self, version: &Version<V>) -> usize {
        let value = version.value();
        match () {
            () if version.is_embedded() => self.owned(value),
            () if version.is_cold() => Self::cold(),
            () => self.boxed(value),
        }
    }

    /// Bytes of a version whose value is in the files only.
    pub(crate) fn cold() -> usize {
        spent(Version::<V>::COLD_LAYOUT)
    }

    /// Bytes of an entry whose value is in the files only, but for what its key owns.
    pub(crate) fn stub() -> usize {
        spent(Layout::new::<Record<K, V>>()) + INDEX_BYTES + Self::cold()
    }

    fn owned(&self, value: Option<&V>) -> usize {
        value.map_or(0, |value| self.value.of(value))
    }
}

impl<K, V> std::fmt::Debug for Weigher<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is_known = |known| if known { "known" } else { "given" };
        f.debug_struct("Weigher")
            .field("key", &is_known(matches!(self.key, Measure::Known)))
            .field("value", &is_known(matches!(self.value, Measure::Known)))
            .finish()
    }
}
