//! What a transaction can do with a bucket.
//!
//! Names and meanings are those of `BTreeMap`; each operation takes the bucket first. Costs are
//! one index search, O(log n), unless a method says otherwise, and a comparison or two among the
//! transaction's own writes.

use std::borrow::Borrow;
use std::ops::{Bound, RangeBounds};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::mvcc::range::Range;
use crate::mvcc::workspace::Intent;
use crate::mvcc::{Key, Lookup, Prefix, Value};
use crate::txn::bounds::{owned_bounds, prefix_bounds};
use crate::txn::bucket::Bucket;
use crate::txn::transaction::Transaction;

/// Longer than any program runs: a hundred years.
const LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The integer types, for [`Transaction::fetch_add`].
pub trait Integer: Copy {
    /// The sum, or `None` if it does not fit.
    fn checked_sum(self, other: Self) -> Option<Self>;
}

macro_rules! integers {
    ($($integer:ty),*) => {
        $(impl Integer for $integer {
            fn checked_sum(self, other: Self) -> Option<Self> {
                self.checked_add(other)
            }
        })*
    };
}
integers!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

/// Reading.
impl Transaction<'_> {
    fn read<K, V, Q>(&self, bucket: &Bucket<K, V>, key: &Q, intent: Intent) -> Result<Option<&V>>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Lookup<K> + ?Sized,
    {
        let workspace = self.workspace(bucket)?;
        Ok(workspace.get(&self.access(workspace), key, intent)?)
    }

    /// The value of `key`: the transaction's own, or the one in its snapshot.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignBucket`] and [`Error::BucketDropped`]; [`Error::Fetch`] if the value is not
    /// in memory and cannot be brought back; [`Error::MemoryLimit`] if there is a limit and what
    /// the transaction has read takes more than all of it. The same goes for every operation with
    /// a bucket.
    pub fn get<K, V, Q>(&self, bucket: &Bucket<K, V>, key: &Q) -> Result<Option<&V>>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Lookup<K> + ?Sized,
    {
        self.read(bucket, key, Intent::Read)
    }

    /// Whether `key` has a value.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn contains_key<K, V, Q>(&self, bucket: &Bucket<K, V>, key: &Q) -> Result<bool>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Lookup<K> + ?Sized,
    {
        let workspace = self.workspace(bucket)?;
        Ok(workspace.contains(&self.access(workspace), key))
    }

    /// Like [`get`](Self::get), and the key is as good as written: if another transaction writes
    /// it at the same time and commits first, this one is refused; also under
    /// [`Isolation::Snapshot`](crate::Isolation::Snapshot). Of two that ask for the same present
    /// key this way, the second to commit is refused, even if neither writes it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_for_update<K, V, Q>(&self, bucket: &Bucket<K, V>, key: &Q) -> Result<Option<&V>>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Lookup<K> + ?Sized,
    {
        self.read(bucket, key, Intent::Update)
    }

    /// Like [`get`](Self::get), but the read does not count: the transaction may commit although
    /// the value was overwritten meanwhile. For hints whose staleness does no harm.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn peek<K, V, Q>(&self, bucket: &Bucket<K, V>, key: &Q) -> Result<Option<&V>>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Lookup<K> + ?Sized,
    {
        self.read(bucket, key, Intent::Peek)
    }

    fn open_range<K: Key, V: Value>(
        &self,
        bucket: &Bucket<K, V>,
        (low, high): (Bound<K>, Bound<K>),
    ) -> Result<Range<'_, K, V>> {
        let workspace = self.workspace(bucket)?;
        Ok(Range::over_workspace(&self.access(workspace), workspace, low, high))
    }

    /// The entries in a range of keys, in order, from both ends. An empty or inverted range has
    /// none.
    ///
    /// The iterator is fixed when it is opened: it does not show what the transaction writes
    /// afterwards. No other transaction can commit an entry into the part that was gone through
    /// without one of the two being refused (no phantoms).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn range<K, V, Q>(
        &self,
        bucket: &Bucket<K, V>,
        range: impl RangeBounds<Q>,
    ) -> Result<Range<'_, K, V>>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Lookup<K> + ?Sized,
    {
        self.open_range(bucket, owned_bounds(&range))
    }

    /// All entries, in order.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[expect(clippy::iter_not_returning_iterator, reason = "a dropped bucket has no iterator")]
    pub fn iter<K: Key, V: Value>(&self, bucket: &Bucket<K, V>) -> Result<Range<'_, K, V>> {
        self.open_range(bucket, (Bound::Unbounded, Bound::Unbounded))
    }

    /// The entries whose keys begin with `prefix`, in order.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn prefix<K, V, Q>(&self, bucket: &Bucket<K, V>, prefix: &Q) -> Result<Range<'_, K, V>>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Lookup<K> + Prefix<Owned: Into<K>> + ?Sized,
    {
        self.open_range(bucket, prefix_bounds(prefix))
    }

    /// The entry with the least key.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn first_key_value<K, V>(&self, bucket: &Bucket<K, V>) -> Result<Option<(&K, &V)>>
    where
        K: Key,
        V: Value,
    {
        let mut entries = self.iter(bucket)?;
        let first = entries.next();
        Ok(entries.or_error(first)?)
    }

    /// The entry with the greatest key.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn last_key_value<K, V>(&self, bucket: &Bucket<K, V>) -> Result<Option<(&K, &V)>>
    where
        K: Key,
        V: Value,
    {
        let mut entries = self.iter(bucket)?;
        let last = entries.next_back();
        Ok(entries.or_error(last)?)
    }

    /// The number of entries. Counts them: O(n), and reads the whole bucket.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn len<K: Key, V: Value>(&self, bucket: &Bucket<K, V>) -> Result<usize> {
        Ok(self.iter(bucket)?.count())
    }

    /// Whether the bucket has no entry.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn is_empty<K: Key, V: Value>(&self, bucket: &Bucket<K, V>) -> Result<bool> {
        Ok(self.iter(bucket)?.next_key().is_none())
    }
}

/// Writing. Nothing of it is seen by others before the commit.
///
/// Where there is a limit, what a transaction writes counts from then on, and others give way. One
/// that has written more than the whole limit gets [`Error::MemoryLimit`] from its next write.
impl Transaction<'_> {
    /// Sets the value of `key`, and returns the one it replaces.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`Error::MemoryLimit`].
    pub fn insert<K: Key, V: Value>(
        &self,
        bucket: &Bucket<K, V>,
        key: K,
        value: V,
    ) -> Result<Option<&V>> {
        let workspace = self.writer(bucket)?;
        Ok(workspace.insert(&self.access(workspace), key, value)?)
    }

    /// Like [`insert`](Self::insert), and the value may be read for so long from now on: afterwards
    /// the key has none. Only in a bucket whose entries expire; see
    /// [`BucketOptions`](crate::BucketOptions).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`Error::NotExpiring`].
    pub fn insert_for<K: Key, V: Value>(
        &self,
        bucket: &Bucket<K, V>,
        key: K,
        value: V,
        time_to_live: Duration,
    ) -> Result<Option<&V>> {
        let workspace = self.writer(bucket)?;
        if workspace.typed_table().expiry().is_none() {
            return Err(Error::NotExpiring { bucket: bucket.name() });
        }
        let now = Instant::now();
        // What no clock will show is as good as a lifetime.
        let deadline = now.checked_add(time_to_live).or_else(|| now.checked_add(LIFETIME));
        Ok(workspace.insert_until(&self.access(workspace), key, value, deadline)?)
    }

    /// Sets the value of `key`, whatever it was. Unlike [`insert`](Self::insert) it does not read
    /// the value that it replaces, which may not be in memory.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn set<K: Key, V: Value>(&self, bucket: &Bucket<K, V>, key: K, value: V) -> Result<()> {
        let workspace = self.writer(bucket)?;
        workspace.set(&self.access(workspace), key, value);
        Ok(())
    }

    /// Removes `key`, and returns the value it had.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn remove<K, V, Q>(&self, bucket: &Bucket<K, V>, key: &Q) -> Result<Option<&V>>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Lookup<K> + ?Sized,
    {
        let workspace = self.workspace(bucket)?;
        Ok(workspace.remove(&self.access(workspace), key)?)
    }

    /// Sets the value of `key` if it has none. Returns whether it did.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn insert_if_absent<K: Key, V: Value>(
        &self,
        bucket: &Bucket<K, V>,
        key: K,
        value: V,
    ) -> Result<bool> {
        let absent = !self.contains_key::<K, V, K>(bucket, &key)?;
        if absent {
            self.insert(bucket, key, value)?;
        }
        Ok(absent)
    }

    /// Replaces the value of `key`, present or not, by what `change` makes of it; `None` removes
    /// it. Returns the new value. `change` runs once.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn update<K: Key, V: Value>(
        &self,
        bucket: &Bucket<K, V>,
        key: K,
        change: impl FnOnce(Option<&V>) -> Option<V>,
    ) -> Result<Option<&V>> {
        let before = self.get::<K, V, K>(bucket, &key)?;
        let Some(value) = change(before) else {
            self.remove::<K, V, K>(bucket, &key)?;
            return Ok(None);
        };
        let copy = key.clone();
        self.insert(bucket, key, value)?;
        self.get::<K, V, K>(bucket, &copy)
    }

    /// Changes a copy of the value of `key` in place, if it has one. Returns whether it has.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn modify<K, V, Q>(
        &self,
        bucket: &Bucket<K, V>,
        key: &Q,
        change: impl FnOnce(&mut V),
    ) -> Result<bool>
    where
        K: Key + Borrow<Q>,
        V: Value + Clone,
        Q: Lookup<K> + ?Sized,
    {
        let Some(value) = self.get(bucket, key)? else { return Ok(false) };
        let mut value = value.clone();
        change(&mut value);
        let workspace = self.writer(bucket)?;
        workspace.replace(&self.access(workspace), key, value);
        Ok(true)
    }

    /// Replaces the value of `key` by `new` if it equals `expected`. Returns whether it did.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn compare_and_swap<K, V, Q>(
        &self,
        bucket: &Bucket<K, V>,
        key: &Q,
        expected: &V,
        new: V,
    ) -> Result<bool>
    where
        K: Key + Borrow<Q>,
        V: Value + PartialEq,
        Q: Lookup<K> + ?Sized,
    {
        let equal = self.get(bucket, key)? == Some(expected);
        if equal {
            let workspace = self.writer(bucket)?;
            workspace.replace(&self.access(workspace), key, new);
        }
        Ok(equal)
    }

    /// Adds to the value of `key`, which counts from zero if it has none: `delta` is then its
    /// value. Returns the value before, if there was one.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`Error::Overflow`] if the sum does not fit the type.
    pub fn fetch_add<K: Key, V: Value + Integer>(
        &self,
        bucket: &Bucket<K, V>,
        key: K,
        delta: V,
    ) -> Result<Option<V>> {
        let before = self.get::<K, V, K>(bucket, &key)?.copied();
        let sum = match before {
            Some(before) => before.checked_sum(delta).ok_or(Error::Overflow)?,
            None => delta,
        };
        self.insert(bucket, key, sum)?;
        Ok(before)
    }

    /// Removes every entry in a range of keys and returns how many there were. O(n) in that
    /// number.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn remove_range<K, V, Q>(
        &self,
        bucket: &Bucket<K, V>,
        range: impl RangeBounds<Q>,
    ) -> Result<usize>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Lookup<K> + ?Sized,
    {
        self.remove_all(bucket, self.range(bucket, range)?)
    }

    /// Removes every entry and returns how many there were. O(n).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn clear<K: Key, V: Value>(&self, bucket: &Bucket<K, V>) -> Result<usize> {
        self.remove_all(bucket, self.iter(bucket)?)
    }

    fn remove_all<K: Key, V: Value>(
        &self,
        bucket: &Bucket<K, V>,
        mut entries: Range<'_, K, V>,
    ) -> Result<usize> {
        let workspace = self.workspace(bucket)?;
        let mut removed = 0;
        while let Some(key) = entries.next_key() {
            workspace.erase::<K>(&self.access(workspace), key);
            removed += 1;
        }
        Ok(removed)
    }

    /// Removes the entry with the least key and returns it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn pop_first<K, V>(&self, bucket: &Bucket<K, V>) -> Result<Option<(&K, &V)>>
    where
        K: Key,
        V: Value,
    {
        self.pop(bucket, self.first_key_value(bucket)?)
    }

    /// Removes the entry with the greatest key and returns it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn pop_last<K, V>(&self, bucket: &Bucket<K, V>) -> Result<Option<(&K, &V)>>
    where
        K: Key,
        V: Value,
    {
        self.pop(bucket, self.last_key_value(bucket)?)
    }

    fn pop<'t, K: Key, V: Value>(
        &'t self,
        bucket: &Bucket<K, V>,
        entry: Option<(&'t K, &'t V)>,
    ) -> Result<Option<(&'t K, &'t V)>> {
        if let Some((key, _)) = entry {
            let workspace = self.workspace(bucket)?;
            workspace.erase::<K>(&self.access(workspace), key);
        }
        Ok(entry)
    }
}
