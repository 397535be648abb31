//! What a transaction read in one bucket that has no address: keys that were absent, and ranges.
//!
//! ```text
//! absent   a b c ..     sorted now and then, so that keys read again take no more room
//! locked   d ..         absent, and read in order to write
//! ranges   [e, g) ..    what each iterator went through
//! ```
//!
//! 1. `owned` is what the keys own on the heap, as it was measured; the caller measures nothing
//!    where nobody counts. A measure is the user's code and need not answer the same again, so
//!    this is a number to go by.
//!
//! Kept by workspaces, which give it to the conflict graph as intervals.

use std::ops::Bound;

use crate::mvcc::Key;
use crate::mvcc::interval::Interval;
use crate::mvcc::read_log::ReadLog;

pub(super) struct Unaddressed<K> {
    absent: Vec<K>,
    locked: Vec<K>,
    /// Two intervals at most for each iterator, from its two ends.
    ranges: Vec<Vec<Interval<K>>>,
    owned: usize,
}

impl<K> Default for Unaddressed<K> {
    fn default() -> Self {
        Self { absent: Vec::new(), locked: Vec::new(), ranges: Vec::new(), owned: 0 }
    }
}

impl<K: Key> Unaddressed<K> {
    pub(super) fn note_absent(&mut self, key: K, owned_by: impl Fn(&K) -> usize) {
        let Self { absent, owned, .. } = self;
        *owned += owned_by(&key);
        if absent.len() == absent.capacity() && absent.len() >= ReadLog::TIDY_MIN {
            absent.sort();
            absent.dedup_by(|again, key| {
                let is_again = again == key;
                if is_again {
                    *owned = owned.saturating_sub(owned_by(again));
                }
                is_again
            });
        }
        absent.push(key);
    }

    pub(super) fn note_locked(&mut self, key: K, owned_by: impl Fn(&K) -> usize) {
        self.owned += owned_by(&key);
        self.locked.push(key);
    }

    /// Answers where the range is, for [`narrow`](Self::narrow).
    pub(super) fn note_range(
        &mut self,
        whole: Interval<K>,
        owned_by: impl Fn(&K) -> usize,
    ) -> usize {
        let owned = |bound: &Bound<K>| match bound {
            Bound::Included(key) | Bound::Excluded(key) => owned_by(key),
            Bound::Unbounded => 0,
        };
        self.owned += owned(&whole.low) + owned(&whole.high);
        self.ranges.push(vec![whole]);
        self.ranges.len() - 1
    }

    /// Replaces what an iterator is known to have read by what it really read.
    pub(super) fn narrow(&mut self, slot: usize, read: Vec<Interval<K>>) {
        if let Some(range) = self.ranges.get_mut(slot) {
            *range = read;
        }
    }

    /// About what all of it takes.
    pub(super) fn bytes(&self) -> usize {
        let keys = self.absent.capacity() + self.locked.capacity();
        let range = size_of::<Vec<Interval<K>>>() + 2 * size_of::<Interval<K>>();
        keys * size_of::<K>() + self.ranges.capacity() * range + self.owned
    }

    /// What was read, and what was locked.
    pub(super) fn into_intervals(
        self,
    ) -> (impl Iterator<Item = Interval<K>>, impl Iterator<Item = Interval<K>>) {
        let absent = self.absent.into_iter().map(Interval::point);
        let read = self.ranges.into_iter().flatten().chain(absent);
        (read, self.locked.into_iter().map(Interval::point))
    }
}
