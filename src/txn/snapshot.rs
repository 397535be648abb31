//! Read-only snapshots.
//!
//! 1. A snapshot is registered from before its moment was fixed until the last clone is dropped.
//! 2. The moment is marked in the commit log, so that a later commit that would contradict what
//!    the snapshot may have seen is refused; the snapshot itself never is, and tracks nothing.

use std::borrow::Borrow;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::id::Timestamp;
use crate::mvcc::expiry::Moments;
use crate::mvcc::range::Range;
use crate::mvcc::table::Table;
use crate::mvcc::view::ReadView;
use crate::mvcc::{Key, Lookup, Prefix, Value};
use crate::ssi::{Entry, Seen, Tag};
use crate::sync::Arc;
use crate::txn::bounds::{owned_bounds, prefix_bounds};
use crate::txn::bucket::Bucket;
use crate::txn::engine::Engine;

/// The whole database as it was at one moment.
///
/// A snapshot holds every commit that returned before it was taken. Reading from it never waits,
/// is never refused and hinders no one. It is cheap to clone and may be shared between threads,
/// with a rayon pool for instance, and keeps the database alive. While it lives, the versions it
/// can see are kept in memory.
#[derive(Clone)]
pub struct Snapshot {
    seat: Arc<Seat>,
}

struct Seat {
    engine: Arc<Engine>,
    entry: Option<Entry>,
    /// What had expired in a bucket when it was first read.
    expired: Moments,
    /// When it was taken, where snapshots grow old.
    since: Option<Instant>,
}

impl Seat {
    fn entry(&self) -> &Entry {
        self.entry.as_ref().expect("the entry is given back only at the end")
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.engine.log().leave_seen(entry);
        }
    }
}

impl Snapshot {
    /// A snapshot of now. A tagged one can be found in the statistics with its age.
    pub(crate) fn take(engine: &Arc<Engine>, tagged: bool) -> Self {
        let tag = tagged.then(|| Tag { label: None, since: Instant::now() });
        let (mut entry, seen) = {
            let guard = engine.collector().pin();
            engine.log().begin_seen(tag, &guard)
        };
        if let Seen::Unconfirmed(until) = seen {
            let confirmed = engine.confirmed_at(until);
            engine.log().settle_seen(&mut entry, confirmed);
        }
        let since = engine.snapshot_bounds().age.map(|_| Instant::now());
        let (engine, expired) = (Arc::clone(engine), Moments::default());
        let seat = Seat { engine, entry: Some(entry), expired, since };
        Self { seat: Arc::new(seat) }
    }

    /// The moment: the snapshot holds what was committed at or before it.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.seat.entry().snapshot()
    }

    pub(crate) fn view(&self) -> ReadView<'_> {
        let engine = &*self.seat.engine;
        ReadView::of_snapshot(self.seat.entry(), engine.collector(), engine)
    }

    /// The view of one bucket, whose entries expire at one moment for all readers of this snapshot.
    fn view_of<K: Key, V: Value>(&self, table: &Table<K, V>) -> ReadView<'_> {
        let Some(expiry) = table.expiry() else { return self.view() };
        let expired = self.seat.expired.of(table.id(), || expiry.at(Instant::now()));
        self.view().expiring(expired)
    }

    /// Refuses if the snapshot holds back more, or has been open longer, than the database allows.
    fn check_bounds(&self) -> Result<()> {
        let engine = &self.seat.engine;
        let bounds = engine.snapshot_bounds();
        if let (Some(since), Some(age_max)) = (self.seat.since, bounds.age) {
            let age = since.elapsed();
            if age > age_max {
                return Err(Error::SnapshotTooOld { age, age_max });
            }
        }
        if let Some(retained_max) = bounds.retained_bytes {
            let retained = engine.catalog().tables().iter().map(|it| it.bytes().retained).sum();
            // Who sees furthest back holds it all; whoever comes after may hold none of it.
            if retained > retained_max && engine.horizon_now() == self.timestamp() {
                return Err(Error::SnapshotTooLarge { retained, retained_max });
            }
        }
        Ok(())
    }

    fn table<K: Key, V: Value>(&self, bucket: &Bucket<K, V>) -> Result<&Table<K, V>> {
        self.check_bounds()?;
        if !Arc::ptr_eq(&self.seat.engine, bucket.engine()) {
            return Err(Error::ForeignBucket { bucket: bucket.name() });
        }
        self.seat.engine.catalog().table(bucket.id())
    }

    /// Says whether the bucket can be read through this snapshot.
    pub(crate) fn check_bucket<K: Key, V: Value>(&self, bucket: &Bucket<K, V>) -> Result<()> {
        self.table(bucket).map(drop)
    }

    /// Calls `read` with the value of `key`. O(log n). A value that is not in memory is read from
    /// the files and not kept.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_with<K, V, Q, R>(
        &self,
        bucket: &Bucket<K, V>,
        key: &Q,
        read: impl FnOnce(&V) -> R,
    ) -> Result<Option<R>>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Ord + ?Sized,
    {
        let table = self.table(bucket)?;
        Ok(self.view_of(table).lend(table, key, read)?)
    }

    /// The value of `key`. O(log n).
    ///
    /// A value that is not in memory is read from the files, and stays in memory at least as long
    /// as the snapshot.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignBucket`] and [`Error::BucketDropped`]; [`Error::Fetch`] if the value is not
    /// in memory and cannot be brought back; [`Error::SnapshotTooOld`] and
    /// [`Error::SnapshotTooLarge`] where [`Options`](crate::Options) bound snapshots. The same goes
    /// for every operation with a bucket. Iterators that are open go on.
    pub fn get<K, V, Q>(&self, bucket: &Bucket<K, V>, key: &Q) -> Result<Option<&V>>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Ord + ?Sized,
    {
        let table = self.table(bucket)?;
        Ok(self.view_of(table).get(table, key)?)
    }

    /// Whether `key` has a value. O(log n).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn contains_key<K, V, Q>(&self, bucket: &Bucket<K, V>, key: &Q) -> Result<bool>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Ord + ?Sized,
    {
        let table = self.table(bucket)?;
        Ok(self.view_of(table).find(table, key).is_some())
    }

    fn open_range<K: Key, V: Value>(
        &self,
        bucket: &Bucket<K, V>,
        (low, high): (Bound<K>, Bound<K>),
    ) -> Result<Range<'_, K, V>> {
        let table = self.table(bucket)?;
        Ok(Range::over_snapshot(self.view_of(table), table, low, high))
    }

    /// The entries in a range of keys, in order, from both ends. An empty or inverted range has
    /// none.
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

    /// The number of entries. Counts them: O(n).
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

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("timestamp", &self.timestamp()).finish_non_exhaustive()
    }
}
