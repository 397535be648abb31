//! Keys in place: a sorted map over keys that live inside records.
//!
//! 1. A [`KeyRef`] is used only while the record that it was taken from lives; the write set that
//!    holds it sees to that.
//!
//! Called by write sets.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Bound;
use std::ptr::NonNull;

use crate::mvcc::record::Record;
use crate::mvcc::{Key, Value};
use crate::skiplist::Entry;

/// A key inside a record, as the key of a map.
pub(crate) struct KeyRef<K>(NonNull<K>);

impl<K: Key> KeyRef<K> {
    pub(crate) fn of<V: Value>(record: &Record<K, V>) -> Self {
        Self(NonNull::from(record.key()))
    }

    pub(crate) fn get(&self) -> &K {
        // SAFETY: the record that holds the key outlives the handle (1).
        unsafe { self.0.as_ref() }
    }
}

impl<K> Clone for KeyRef<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for KeyRef<K> {}

impl<K: Key> PartialEq for KeyRef<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K: Key> Eq for KeyRef<K> {}

impl<K: Key> PartialOrd for KeyRef<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Key> Ord for KeyRef<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.get().cmp(other.get())
    }
}

/// A borrowed key to look a [`KeyRef`] up with. (`Borrow<Q>` itself would clash with the blanket
/// `Borrow<T> for T`.)
#[derive(PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct ByKey<Q: ?Sized>(Q);

impl<Q: ?Sized> ByKey<Q> {
    pub(crate) fn new(key: &Q) -> &Self {
        // SAFETY: the wrapper is transparent, so both references have one layout.
        unsafe { &*(std::ptr::from_ref(key) as *const Self) }
    }
}

impl<K: Key + Borrow<Q>, Q: Ord + ?Sized> Borrow<ByKey<Q>> for KeyRef<K> {
    fn borrow(&self) -> &ByKey<Q> {
        ByKey::new(self.get().borrow())
    }
}

/// Whether a range of a sorted map would panic on these bounds.
pub(crate) fn is_inverted<K: Ord>(low: Bound<&K>, high: Bound<&K>) -> bool {
    match (low, high) {
        (Bound::Excluded(low), Bound::Excluded(high)) => low >= high,
        (
            Bound::Included(low) | Bound::Excluded(low),
            Bound::Included(high) | Bound::Excluded(high),
        ) => low > high,
        _ => false,
    }
}
