//! A bucket by itself: the methods of a `BTreeMap`, each a transaction of its own.
//!
//! A read of one key takes no snapshot and registers nowhere. A write begins, commits, and is run
//! again after a conflict until it has committed. An iteration reads one snapshot.
//!
//! Values come out as clones: the version they are in may be shared with snapshots. Wrap large
//! values in an `Arc`, read them with [`Bucket::get_with`], or read them by reference in a
//! transaction or snapshot.

#![expect(
    clippy::needless_pass_by_value,
    reason = "keys and values are taken as a `BTreeMap` takes them, and cloned for each attempt"
)]

mod cache;
mod iter;

use std::borrow::Borrow;
use std::ops::{Bound, RangeBounds};

use crate::error::{Error, Result};
use crate::mvcc::place::FetchError;
use crate::mvcc::record::Stale;
use crate::mvcc::{Key, Lookup, Prefix, Value};
use crate::ssi::Seen;
use crate::txn::{
    Bucket, Integer, Isolation, Snapshot, Transaction, TransactionOptions, owned_bounds,
    prefix_bounds, run,
};

pub use iter::Iter;

/// How often a read without a registration is tried before it takes a snapshot.
const QUICK_READS_MAX: u32 = 4;

impl<K: Key, V: Value> Bucket<K, V> {
    fn write<T>(&self, body: impl FnMut(&Transaction<'_>) -> Result<T>) -> Result<T> {
        run(self.engine(), &TransactionOptions::new(), body)
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::take(self.engine(), false)
    }

    /// Calls `read` with the newest value of `key`. O(log n); a value that is not in memory is read
    /// back from the files.
    ///
    /// `read` runs once at most, and delays the reclamation of memory while it does.
    ///
    /// # Errors
    ///
    /// [`Error::BucketDropped`](crate::Error::BucketDropped), and
    /// [`Error::Fetch`](crate::Error::Fetch) if the value is not in memory and cannot be brought
    /// back; the same goes for every operation of a bucket.
    pub fn get_with<Q, R>(&self, key: &Q, read: impl FnOnce(&V) -> R) -> Result<Option<R>>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        match self.read_newest(key, read)? {
            Ok(outcome) => Ok(outcome),
            Err(read) => {
                let snapshot = self.snapshot();
                match snapshot.get(self, key) {
                    // Read for this once, and not kept: what is lent takes no room.
                    Err(Error::Fetch(FetchError::NoRoom { .. })) => {
                        snapshot.get_with(self, key, read)
                    }
                    found => Ok(found?.map(read)),
                }
            }
        }
    }

    /// Reads without a registration; gives `read` back if that does not do.
    fn read_newest<Q, F, R>(&self, key: &Q, read: F) -> Result<std::result::Result<Option<R>, F>>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
        F: FnOnce(&V) -> R,
    {
        let engine = self.engine();
        let table = engine.catalog().table::<K, V>(self.id())?;
        for _ in 0..QUICK_READS_MAX {
            let guard = engine.collector().pin();
            let now = match engine.isolation() {
                Isolation::Serializable => match engine.log().see(&guard) {
                    Seen::At(now) => now,
                    Seen::Unconfirmed(_) => break,
                },
                Isolation::Snapshot => engine.log().visible(&guard),
            };
            match table.get_unregistered(key, now, &guard) {
                Ok(value) => return Ok(Ok(value.map(read))),
                Err(Stale::Overtaken) => {}
                Err(Stale::Cold) => break,
            }
        }
        // Writers overtook every try, and do not overtake a registered snapshot; or it takes a wait
        // for a sync, or a read from a file, which no pin should last for.
        Ok(Err(read))
    }

    /// Whether `key` has a value. O(log n).
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn contains_key<Q>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        match self.read_newest(key, |_| ())? {
            Ok(outcome) => Ok(outcome.is_some()),
            Err(_) => self.snapshot().contains_key(self, key),
        }
    }

    /// Sets the value of `key`, whatever it was, which is not read. O(log n).
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn set(&self, key: K, value: V) -> Result<()>
    where
        V: Clone,
    {
        self.write(|tx| tx.set(self, key.clone(), value.clone()))
    }

    /// Sets the value of `key` if it has none. Returns whether it did. O(log n).
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn insert_if_absent(&self, key: K, value: V) -> Result<bool>
    where
        V: Clone,
    {
        self.write(|tx| tx.insert_if_absent(self, key.clone(), value.clone()))
    }

    /// Replaces the value of `key`, present or not, by what `change` makes of it; `None` removes
    /// it. Returns the new value. `change` runs again after a conflict.
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn update(
        &self,
        key: K,
        mut change: impl FnMut(Option<&V>) -> Option<V>,
    ) -> Result<Option<V>>
    where
        V: Clone,
    {
        self.write(|tx| Ok(tx.update(self, key.clone(), &mut change)?.cloned()))
    }

    /// The number of entries. Counts them: O(n).
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn len(&self) -> Result<usize> {
        self.snapshot().len(self)
    }

    /// Whether the bucket has no entry.
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn is_empty(&self) -> Result<bool> {
        self.snapshot().is_empty(self)
    }

    /// Removes every entry at one moment, and returns how many there were. O(n).
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn clear(&self) -> Result<usize> {
        self.write(|tx| tx.clear(self))
    }

    /// Removes every entry in a range of keys at one moment, and returns how many there were.
    /// O(n) in that number.
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn remove_range<Q>(&self, range: impl RangeBounds<Q>) -> Result<usize>
    where
        K: Borrow<Q>,
        Q: Lookup<K> + ?Sized,
    {
        let bounds = (range.start_bound(), range.end_bound());
        self.write(|tx| tx.remove_range::<K, V, Q>(self, bounds))
    }

    /// Adds to the value of `key`; if it has none, `delta` becomes its value. Returns the value
    /// before. O(log n).
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with), and
    /// [`Error::Overflow`](crate::Error::Overflow) if the sum does not fit the type.
    pub fn fetch_add(&self, key: K, delta: V) -> Result<Option<V>>
    where
        V: Integer,
    {
        self.write(|tx| tx.fetch_add(self, key.clone(), delta))
    }
}

impl<K: Key, V: Value + Clone> Bucket<K, V> {
    /// The newest value of `key`. O(log n).
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn get<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.get_with(key, V::clone)
    }

    /// Sets the value of `key`, and returns the one it replaces. O(log n).
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn insert(&self, key: K, value: V) -> Result<Option<V>> {
        self.write(|tx| Ok(tx.insert(self, key.clone(), value.clone())?.cloned()))
    }

    /// Removes `key`, and returns the value it had. O(log n).
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn remove<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Lookup<K> + ?Sized,
    {
        self.write(|tx| Ok(tx.remove(self, key)?.cloned()))
    }

    /// Changes the value of `key` in place, if it has one. Returns whether it has. `change` runs
    /// again, on a fresh copy, after a conflict.
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn modify<Q>(&self, key: &Q, mut change: impl FnMut(&mut V)) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: Lookup<K> + ?Sized,
    {
        self.write(|tx| tx.modify(self, key, &mut change))
    }

    /// Replaces the value of `key` by `new` if it equals `expected`. Returns whether it did.
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn compare_and_swap<Q>(&self, key: &Q, expected: &V, new: V) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: Lookup<K> + ?Sized,
        V: PartialEq,
    {
        self.write(|tx| tx.compare_and_swap(self, key, expected, new.clone()))
    }

    /// Removes the entry with the least key and returns it.
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn pop_first(&self) -> Result<Option<(K, V)>> {
        self.write(|tx| Ok(tx.pop_first(self)?.map(|(key, value)| (key.clone(), value.clone()))))
    }

    /// Removes the entry with the greatest key and returns it.
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn pop_last(&self) -> Result<Option<(K, V)>> {
        self.write(|tx| Ok(tx.pop_last(self)?.map(|(key, value)| (key.clone(), value.clone()))))
    }

    /// The entry with the least key.
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn first_key_value(&self) -> Result<Option<(K, V)>> {
        let mut entries = self.iter()?;
        let first = entries.next();
        entries.or_error(first)
    }

    /// The entry with the greatest key.
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn last_key_value(&self) -> Result<Option<(K, V)>> {
        let mut entries = self.iter()?;
        let last = entries.next_back();
        entries.or_error(last)
    }

    /// All entries at one moment, in order.
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    #[expect(clippy::iter_not_returning_iterator, reason = "a dropped bucket has no iterator")]
    pub fn iter(&self) -> Result<Iter<K, V>> {
        Iter::open(self, (Bound::Unbounded, Bound::Unbounded))
    }

    /// The entries in a range of keys at one moment, in order, from both ends. An empty or
    /// inverted range has none.
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn range<Q>(&self, range: impl RangeBounds<Q>) -> Result<Iter<K, V>>
    where
        K: Borrow<Q>,
        Q: Lookup<K> + ?Sized,
    {
        Iter::open(self, owned_bounds(&range))
    }

    /// The entries whose keys begin with `prefix` at one moment, in order.
    ///
    /// # Errors
    ///
    /// As [`get_with`](Self::get_with).
    pub fn prefix<Q>(&self, prefix: &Q) -> Result<Iter<K, V>>
    where
        K: Borrow<Q>,
        Q: Lookup<K> + Prefix<Owned: Into<K>> + ?Sized,
    {
        Iter::open(self, prefix_bounds(prefix))
    }
}
