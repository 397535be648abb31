//! What a bucket is made with, and what its table asks of it: sizes, limits, time to live, and
//! what may leave by itself.
//!
//! 1. A table keeps the terms it was made with.
//!
//! Made by the database's options, kept by tables.

use std::time::Duration;

use crate::evict::EvictionPolicy;
use crate::id::Timestamp;
use crate::mvcc::codec::Stored;
use crate::mvcc::weigh::Weigher;
use crate::mvcc::{Key, Value};
use crate::sync::Arc;

/// Why an entry left a bucket without anybody removing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Departure {
    /// Its room was needed.
    Evicted,
    /// Its time to live was over.
    Expired,
    /// It was asked for, by [`Bucket::evict`](crate::Bucket::evict).
    Asked,
}

/// What is known of an entry: see [`Bucket::inspect`](crate::Bucket::inspect).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryInfo {
    /// Bytes that the entry takes: its key, its newest value, and the engine's part.
    pub bytes: usize,
    /// Older values of the key that are still in memory.
    pub retained_versions: usize,
    /// When the newest value was committed.
    pub committed: Timestamp,
    /// How warm the eviction policy holds the entry; what the numbers mean depends on the policy.
    pub heat: u8,
    /// Whether it is pinned.
    pub is_pinned: bool,
    /// Whether the newest value is in memory, and not in the files only.
    pub is_resident: bool,
}

/// Is told what leaves.
pub(crate) type Listener<K, V> = dyn Fn(&K, &V, Departure) + Send + Sync;

/// How entries of a bucket leave by themselves.
pub(crate) struct Retention<K> {
    pub(crate) policy: EvictionPolicy,
    /// Tells keys apart that have left.
    pub(crate) hash: fn(&K) -> u64,
}

/// What a bucket is made with.
pub(crate) struct Terms<K, V> {
    pub(crate) stored: Option<Stored<K, V>>,
    pub(crate) weigher: Weigher<K, V>,
    /// The most bytes that its entries may take.
    pub(crate) limit: Option<u64>,
    pub(crate) ttl: Option<Duration>,
    /// Whether entries may have a time to live, that of the bucket or their own.
    pub(crate) expires: bool,
    /// `None`: nothing leaves by itself.
    pub(crate) retention: Option<Retention<K>>,
    /// Whether nothing is to leave by itself although there is a limit.
    pub(crate) stays: bool,
    pub(crate) listener: Option<Arc<Listener<K, V>>>,
}

impl<K: Key, V: Value> Terms<K, V> {
    /// Those of a bucket that was opened without options.
    pub(crate) fn plain() -> Self {
        Self {
            stored: None,
            weigher: Weigher::known(),
            limit: None,
            ttl: None,
            expires: false,
            retention: None,
            stays: false,
            listener: None,
        }
    }

    /// Those of a durable bucket: if there is a limit, values leave memory for the files, by
    /// [`EvictionPolicy::S3Fifo`] unless another policy is set. `hash` tells keys apart.
    pub(crate) fn shelved(self, is_limited: bool, hash: fn(&K) -> u64) -> Self {
        let policy = self.retention.as_ref().map_or(EvictionPolicy::S3Fifo, |it| it.policy);
        let leaves = is_limited && !self.stays;
        Self { retention: leaves.then_some(Retention { policy, hash }), ..self }
    }

    /// The same, kept in files.
    pub(crate) fn stored(self, stored: Stored<K, V>) -> Self {
        Self { stored: Some(stored), ..self }
    }
}
