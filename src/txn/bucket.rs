//! The handle of a bucket.

use std::fmt;
use std::marker::PhantomData;

use crate::id::BucketId;
use crate::mvcc::{Key, Value};
use crate::sync::Arc;
use crate::txn::engine::Engine;

/// A handle of an ordered collection of `K` to `V` in a database.
///
/// A handle is cheap to clone and may be shared between threads. It works in two ways:
///
/// * With a transaction or a snapshot: `tx.insert(&bucket, key, value)`,
///   `snapshot.get(&bucket, key)`. Any number of buckets take part in one transaction.
/// * By itself, with the methods of a `BTreeMap`: each call is a transaction of its own, which is
///   run again until it commits.
///
/// Opened by [`Database::bucket`](crate::Database::bucket). A handle keeps its database alive.
pub struct Bucket<K: Key, V: Value> {
    engine: Arc<Engine>,
    id: BucketId,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Value> Bucket<K, V> {
    /// The handle of a bucket that the engine's catalog has opened with these types.
    pub(crate) fn new(engine: Arc<Engine>, id: BucketId) -> Self {
        Self { engine, id, types: PhantomData }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(crate) fn id(&self) -> BucketId {
        self.id
    }

    /// The bucket's name now.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        self.engine.catalog().name(self.id)
    }
}

impl<K: Key, V: Value> Clone for Bucket<K, V> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.engine), self.id)
    }
}

impl<K: Key, V: Value> fmt::Debug for Bucket<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name()).finish_non_exhaustive()
    }
}
