//! Iteration over a bucket by itself.
//!
//! 1. The iterator owns a snapshot, and reads it in batches; what it yields it has cloned.
//! 2. The two ends share one range, which shrinks from both sides and never grows.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Bound;

use crate::error::Result;
use crate::mvcc::place::FetchError;
use crate::mvcc::{Key, Value};
use crate::txn::{Bucket, Snapshot};

/// Entries cloned ahead, at first and at most.
const BATCH_MIN: usize = 4;
const BATCH_MAX: usize = 128;

/// A double-ended iterator over clones of a bucket's entries at one moment, in key order.
pub struct Iter<K: Key, V: Value + Clone> {
    bucket: Bucket<K, V>,
    snapshot: Snapshot,
    /// What has not been fetched from either side.
    low: Bound<K>,
    high: Bound<K>,
    front: VecDeque<(K, V)>,
    /// In key order, like the front.
    back: VecDeque<(K, V)>,
    batch: usize,
    exhausted: bool,
    error: Option<FetchError>,
}

impl<K: Key, V: Value + Clone> Iter<K, V> {
    pub(super) fn open(bucket: &Bucket<K, V>, (low, high): (Bound<K>, Bound<K>)) -> Result<Self> {
        let snapshot = Snapshot::take(bucket.engine(), true);
        snapshot.check_bucket(bucket)?;
        Ok(Self {
            bucket: bucket.clone(),
            snapshot,
            low,
            high,
            front: VecDeque::new(),
            back: VecDeque::new(),
            batch: BATCH_MIN,
            exhausted: false,
            error: None,
        })
    }

    /// Why the iteration ends before its end, if it does: a value that is not in memory could not
    /// be read back. Only in a bucket that is durable and has a memory limit.
    #[must_use]
    pub fn error(&self) -> Option<&FetchError> {
        self.error.as_ref()
    }

    /// `outcome`, unless a value could not be read.
    pub(super) fn or_error<T>(&self, outcome: T) -> Result<T> {
        self.error.clone().map_or(Ok(outcome), |error| Err(error.into()))
    }

    fn fetch(&mut self, backward: bool) {
        let bounds = (self.low.as_ref(), self.high.as_ref());
        let Ok(mut range) = self.snapshot.range::<K, V, K>(&self.bucket, bounds) else {
            // Dropped under way: the bucket has no entries any more.
            self.exhausted = true;
            return;
        };
        let mut fetched = Vec::with_capacity(self.batch);
        while fetched.len() < self.batch {
            match range.lend_next(backward, |key, value| (key.clone(), value.clone())) {
                Ok(Some(entry)) => fetched.push(entry),
                Ok(None) => break,
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            }
        }
        self.exhausted = fetched.len() < self.batch;
        self.batch = (self.batch * 2).min(BATCH_MAX);
        if let Some((last, _)) = fetched.last() {
            let bound = Bound::Excluded(last.clone());
            *(if backward { &mut self.high } else { &mut self.low }) = bound;
        }
        if backward {
            self.back.extend(fetched.into_iter().rev());
        } else {
            self.front.extend(fetched);
        }
    }
}

impl<K: Key, V: Value + Clone> Iterator for Iter<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        if self.front.is_empty() && !self.exhausted {
            self.fetch(false);
        }
        self.front.pop_front().or_else(|| self.back.pop_front())
    }
}

impl<K: Key, V: Value + Clone> DoubleEndedIterator for Iter<K, V> {
    fn next_back(&mut self) -> Option<(K, V)> {
        if self.back.is_empty() && !self.exhausted {
            self.fetch(true);
        }
        self.back.pop_back().or_else(|| self.front.pop_back())
    }
}

impl<K: Key, V: Value + Clone> FusedIterator for Iter<K, V> {}

impl<K: Key, V: Value + Clone> fmt::Debug for Iter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}
