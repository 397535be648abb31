//! What a bucket may be told when it is made.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::evict::EvictionPolicy;
use crate::heap::HeapSize;
use crate::mvcc::terms::{Departure, Listener, Retention, Terms};
use crate::mvcc::weigh::{Measure, Weigher};
use crate::mvcc::{Key, Value};
use crate::sync::Arc;

/// How to make a bucket: how much memory its entries may take, and which of them leave by
/// themselves.
///
/// ```
/// use std::time::Duration;
/// use palisade::{BucketOptions, Database, EvictionPolicy};
///
/// # fn main() -> palisade::Result<()> {
/// let db = Database::in_memory();
/// let options = BucketOptions::new()
///     .memory_limit(1 << 20)
///     .evict(EvictionPolicy::S3Fifo)
///     .time_to_live(Duration::from_secs(60));
/// let pages = db.volatile_bucket_with::<String, Vec<u8>>("pages", options)?;
/// pages.insert("/".into(), b"hello".to_vec())?;
/// assert!(pages.get("/")?.is_some());
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct BucketOptions<K, V> {
    key: Option<Measure<K>>,
    value: Option<Measure<V>>,
    limit: Option<u64>,
    ttl: Option<Duration>,
    expires: bool,
    retention: Option<Retention<K>>,
    listener: Option<Arc<Listener<K, V>>>,
}

impl<K: Key, V: Value> BucketOptions<K, V> {
    /// The defaults: no limit, and nothing leaves by itself.
    pub fn new() -> Self {
        Self {
            key: None,
            value: None,
            limit: None,
            ttl: None,
            expires: false,
            retention: None,
            listener: None,
        }
    }

    /// The most bytes that the bucket's entries may take: keys, values, all versions, and what
    /// the engine needs for them.
    ///
    /// A commit that would exceed it first frees what nobody can read any more, then evicts if the
    /// bucket is a cache, or lets values leave memory if it is durable, and is refused with
    /// [`Error::MemoryLimit`](crate::Error::MemoryLimit) if that is not enough. What only removes
    /// entries is never refused.
    ///
    /// Values of a durable bucket that have left stay in memory for snapshots and transactions
    /// that began before. If nothing else can make room, the commit waits for these to end: half a
    /// second at most, and only once for one that does not.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.limit = Some(bytes);
        self
    }

    /// By which policy entries leave when room is needed.
    ///
    /// This makes a volatile bucket a cache; see [`EvictionPolicy`] for what that means to readers.
    /// In a durable bucket keys stay and nothing is lost: values leave memory and are read back
    /// from the files, by [`EvictionPolicy::S3Fifo`] unless set, and with
    /// [`EvictionPolicy::Manual`] not at all.
    pub fn evict(mut self, policy: EvictionPolicy) -> Self
    where
        K: Hash,
    {
        self.retention = Some(Retention { policy, hash: hash_of::<K> });
        self
    }

    /// Entries cannot be read any more, and leave, when they were written so long ago.
    ///
    /// A transaction or a snapshot asks for the time once for each bucket: what it could read once
    /// stays readable to it. An entry may go up to a thousandth of the time early, and not late.
    pub fn time_to_live(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self.expires = true;
        self
    }

    /// Entries may be given a time to live of their own, with
    /// [`Bucket::insert_for`](crate::Bucket::insert_for); others stay.
    pub fn expires(mut self) -> Self {
        self.expires = true;
        self
    }

    /// How many bytes a key owns on the heap. Not needed for types that own nothing, strings and
    /// byte vectors. It is called while a commit is under way: it must always give the same
    /// answer for the same key, and must not use the database.
    pub fn measure_keys(mut self, measure: impl Fn(&K) -> usize + Send + Sync + 'static) -> Self {
        self.key = Some(Measure::Given(Arc::new(measure)));
        self
    }

    /// How many bytes a value owns on the heap; as [`measure_keys`](Self::measure_keys).
    pub fn measure_values(mut self, measure: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        self.value = Some(Measure::Given(Arc::new(measure)));
        self
    }

    /// Measures keys and values by what their types say of themselves.
    pub fn measured(self) -> Self
    where
        K: HeapSize,
        V: HeapSize,
    {
        self.measure_keys(K::heap_size).measure_values(V::heap_size)
    }

    /// Is told of each entry that leaves by itself, after it has left, by the thread that made
    /// it leave: in a commit that needed room, or a vacuum.
    pub fn on_departure(
        mut self,
        listener: impl Fn(&K, &V, Departure) + Send + Sync + 'static,
    ) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Whether entries expire, which only those of volatile buckets do.
    pub(super) fn expires_entries(&self) -> bool {
        self.expires
    }

    /// The terms of a bucket of this name, whose entries must be measured if it or the database
    /// has a limit.
    pub(super) fn terms(self, name: &str, is_limited: bool) -> Result<Terms<K, V>> {
        let Self { key, value, limit, ttl, expires, retention, listener } = self;
        let weigher =
            Weigher { key: key.unwrap_or(Measure::Known), value: value.unwrap_or(Measure::Known) };
        if (is_limited || limit.is_some()) && !weigher.is_exact() {
            return Err(Error::Unmeasured { bucket: name.into() });
        }
        let stays = retention.as_ref().is_some_and(|it| it.policy == EvictionPolicy::Manual);
        let retention = retention.filter(|_| !stays);
        Ok(Terms { stored: None, weigher, limit, ttl, expires, retention, stays, listener })
    }
}

impl<K: Key, V: Value> Default for BucketOptions<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> fmt::Debug for BucketOptions<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketOptions")
            .field("memory_limit", &self.limit)
            .field("time_to_live", &self.ttl)
            .field("evict", &self.retention.as_ref().map(|it| it.policy))
            .finish_non_exhaustive()
    }
}

/// A hash that is the same for a key as long as the process lives.
fn hash_of<K: Hash>(key: &K) -> u64 {
    std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default().hash_one(key)
}
