//! What a bucket tells of its entries, and what may be done to those of a cache.

use std::borrow::Borrow;
use std::ops::RangeBounds;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::mvcc::departure::depart_one;
use crate::mvcc::table::Table;
use crate::mvcc::{EntryInfo, Key, Lookup, Value};
use crate::txn::{Bucket, TransactionOptions, owned_bounds, run};

impl<K: Key, V: Value> Bucket<K, V> {
    /// The table, if entries leave this bucket by themselves.
    fn cache(&self) -> Result<&Table<K, V>> {
        let table = self.engine().catalog().table::<K, V>(self.id())?;
        if table.has_keeper() { Ok(table) } else { Err(Error::NotACache { bucket: self.name() }) }
    }

    /// Lets the entry of `key` leave as if its room were needed: who has seen it in a snapshot goes
    /// on seeing it, and no transaction is refused because of it. Returns whether it was there.
    /// O(log n).
    ///
    /// # Errors
    ///
    /// [`Error::NotACache`] if the bucket was made without an eviction policy;
    /// [`Error::BucketDropped`].
    pub fn evict<Q>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let table = self.cache()?;
        let gone = self.engine().let_leave(|owner, guard| {
            Box::new(depart_one(table, table.index().get(key, guard), owner, guard))
        });
        Ok(gone.entries > 0)
    }

    /// Keeps the entry of `key` from being evicted until it is unpinned, removed or expired; its
    /// new values stay pinned. Returns whether it is there. O(log n).
    ///
    /// Pinned entries count for the limit like others.
    ///
    /// # Errors
    ///
    /// As [`evict`](Self::evict).
    pub fn pin<Q>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.set_pinned(key, true)
    }

    /// Takes back [`pin`](Self::pin). Returns whether the entry is there.
    ///
    /// # Errors
    ///
    /// As [`evict`](Self::evict).
    pub fn unpin<Q>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.set_pinned(key, false)
    }

    fn set_pinned<Q>(&self, key: &Q, pinned: bool) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let table = self.cache()?;
        let guard = self.engine().collector().pin();
        let record = table.index().get(key, &guard);
        Ok(record.is_some_and(|record| record.set_pinned(pinned, &guard)))
    }

    /// Like [`insert`](Self::insert), and the value may be read for so long from now on: afterwards
    /// the key has none, and the entry leaves when the vacuum comes by. O(log n).
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert), and [`Error::NotExpiring`] if the bucket was made without
    /// [`BucketOptions::expires`](crate::BucketOptions::expires).
    #[expect(clippy::needless_pass_by_value, reason = "as `insert`")]
    pub fn insert_for(&self, key: K, value: V, time_to_live: Duration) -> Result<Option<V>>
    where
        V: Clone,
    {
        run(self.engine(), &TransactionOptions::new(), |tx| {
            Ok(tx.insert_for(self, key.clone(), value.clone(), time_to_live)?.cloned())
        })
    }

    /// Passes on what is known of each entry in a range of keys, in order, until `visit` answers
    /// false. It looks at the entries as they are when it comes to them, and warms none.
    ///
    /// # Errors
    ///
    /// [`Error::BucketDropped`].
    pub fn inspect<Q>(
        &self,
        range: impl RangeBounds<Q>,
        mut visit: impl FnMut(&K, EntryInfo) -> bool,
    ) -> Result<()>
    where
        K: Borrow<Q>,
        Q: Lookup<K> + ?Sized,
    {
        let table = self.engine().catalog().table::<K, V>(self.id())?;
        let (mut low, high) = owned_bounds(&range);
        loop {
            let guard = self.engine().collector().pin();
            match table.inspect((low.as_ref(), high.as_ref()), &mut visit, &guard) {
                Some(last) => low = std::ops::Bound::Excluded(last),
                None => return Ok(()),
            }
        }
    }
}
