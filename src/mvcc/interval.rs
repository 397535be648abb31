//! What a transaction read without finding a record: ranges it scanned, keys it found absent.
//!
//! ```text
//! get("m"), absent      [m, m]
//! range("a".."f")       [a, f)
//! range("c".."k")       [c, k)      frozen:  [a, k)  [m, m]
//! ```
//!
//! 1. An interval set is sorted by lower bound and its members are disjoint, if `Ord` is sound.
//! 2. With an unsound `Ord` the answers are wrong, but every search ends and nothing is indexed
//!    out of bounds.
//!
//! Called by workspaces, which collect intervals, and by footprints, which test them.

use std::cmp::Ordering;
use std::marker::PhantomData;
use std::ops::Bound;
use std::ptr::NonNull;

use crate::mvcc::record::Record;
use crate::mvcc::{Key, Value};
use crate::skiplist::Entry;

/// A contiguous set of keys, with bounds as in `std::ops::RangeBounds`.
#[derive(Clone, Debug)]
pub(crate) struct Interval<K> {
    pub(crate) low: Bound<K>,
    pub(crate) high: Bound<K>,
}

impl<K: Key> Interval<K> {
    pub(crate) fn point(key: K) -> Self {
        Self { low: Bound::Included(key.clone()), high: Bound::Included(key) }
    }

    fn starts_at_or_before(&self, key: &K) -> bool {
        match &self.low {
            Bound::Unbounded => true,
            Bound::Included(low) => low <= key,
            Bound::Excluded(low) => low < key,
        }
    }

    fn ends_at_or_after(&self, key: &K) -> bool {
        match &self.high {
            Bound::Unbounded => true,
            Bound::Included(high) => key <= high,
            Bound::Excluded(high) => key < high,
        }
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.starts_at_or_before(key) && self.ends_at_or_after(key)
    }
}

fn compare_lows<K: Ord>(a: &Bound<K>, b: &Bound<K>) -> Ordering {
    match (a, b) {
        (Bound::Unbounded, Bound::Unbounded) => Ordering::Equal,
        (Bound::Unbounded, _) => Ordering::Less,
        (_, Bound::Unbounded) => Ordering::Greater,
        (Bound::Included(a), Bound::Included(b)) | (Bound::Excluded(a), Bound::Excluded(b)) => {
            a.cmp(b)
        }
        (Bound::Included(a), Bound::Excluded(b)) => a.cmp(b).then(Ordering::Less),
        (Bound::Excluded(a), Bound::Included(b)) => a.cmp(b).then(Ordering::Greater),
    }
}

fn compare_highs<K: Ord>(a: &Bound<K>, b: &Bound<K>) -> Ordering {
    match (a, b) {
        (Bound::Unbounded, Bound::Unbounded) => Ordering::Equal,
        (Bound::Unbounded, _) => Ordering::Greater,
        (_, Bound::Unbounded) => Ordering::Less,
        (Bound::Included(a), Bound::Included(b)) | (Bound::Excluded(a), Bound::Excluded(b)) => {
            a.cmp(b)
        }
        (Bound::Included(a), Bound::Excluded(b)) => a.cmp(b).then(Ordering::Greater),
        (Bound::Excluded(a), Bound::Included(b)) => a.cmp(b).then(Ordering::Less),
    }
}

/// Whether an interval that ends at `high` and one that starts at `low` share a key.
fn overlap<K: Ord>(high: &Bound<K>, low: &Bound<K>) -> bool {
    match (high, low) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Included(high), Bound::Included(low)) => low <= high,
        (
            Bound::Included(high) | Bound::Excluded(high),
            Bound::Included(low) | Bound::Excluded(low),
        ) => low < high,
    }
}

/// Sorted, disjoint intervals.
#[derive(Debug)]
pub(crate) struct IntervalSet<K> {
    sorted: Vec<Interval<K>>,
}

impl<K: Key> IntervalSet<K> {
    /// Sorts and merges. O(n log n) comparisons.
    pub(crate) fn new(mut intervals: Vec<Interval<K>>) -> Self {
        // An inverted interval holds no key, and would hide its neighbours from the search.
        intervals.retain(|interval| overlap(&interval.high, &interval.low));
        intervals.sort_by(|a, b| compare_lows(&a.low, &b.low));
        let mut sorted: Vec<Interval<K>> = Vec::with_capacity(intervals.len());
        for interval in intervals {
            match sorted.last_mut() {
                Some(last) if overlap(&last.high, &interval.low) => {
                    if compare_highs(&last.high, &interval.high) == Ordering::Less {
                        last.high = interval.high;
                    }
                }
                _ => sorted.push(interval),
            }
        }
        Self { sorted }
    }

    /// O(log n) comparisons.
    pub(crate) fn contains(&self, key: &K) -> bool {
        let after = self.sorted.partition_point(|interval| interval.starts_at_or_before(key));
        after.checked_sub(1).and_then(|at| self.sorted.get(at)).is_some_and(|i| i.contains(key))
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }
}

/// The intervals a transaction read in one bucket, with the bucket's types forgotten.
pub(crate) trait AnyIntervals: Send + Sync + 'static {
    /// Whether the key of `record` lies in one of the intervals.
    ///
    /// # Safety
    ///
    /// `record` is a live record of the bucket that the intervals were read in.
    unsafe fn contains_key_of(&self, record: NonNull<()>) -> bool;

    fn len(&self) -> usize;
}

/// An interval set that still knows what the records of its bucket look like.
pub(crate) struct BucketIntervals<K, V> {
    set: IntervalSet<K>,
    record: PhantomData<fn() -> Record<K, V>>,
}

impl<K: Key, V: Value> BucketIntervals<K, V> {
    /// `None` if there are no intervals.
    pub(crate) fn boxed(
        intervals: impl Iterator<Item = Interval<K>>,
    ) -> Option<Box<dyn AnyIntervals>> {
        let intervals: Vec<_> = intervals.collect();
        if intervals.is_empty() {
            return None;
        }
        Some(Box::new(Self { set: IntervalSet::new(intervals), record: PhantomData }))
    }
}

impl<K: Key, V: Value> AnyIntervals for BucketIntervals<K, V> {
    unsafe fn contains_key_of(&self, record: NonNull<()>) -> bool {
        // SAFETY: the caller passes a live record of this bucket, so its types are K and V.
        let record = unsafe { record.cast::<Record<K, V>>().as_ref() };
        self.set.contains(record.key())
    }

    fn len(&self) -> usize {
        self.set.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bound() -> impl Strategy<Value = Bound<u8>> {
        prop_oneof![
            Just(Bound::Unbounded),
            (0_u8..12).prop_map(Bound::Included),
            (0_u8..12).prop_map(Bound::Excluded),
        ]
    }

    proptest! {
        /// Merging changes no answer.
        #[test]
        fn a_set_contains_what_one_of_its_intervals_contains(
            bounds in prop::collection::vec((bound(), bound()), 0..8),
        ) {
            let intervals: Vec<_> = bounds
                .into_iter()
                .map(|(low, high)| Interval { low, high })
                .collect();
            let set = IntervalSet::new(intervals.clone());
            for key in 0_u8..14 {
                prop_assert_eq!(set.contains(&key), intervals.iter().any(|i| i.contains(&key)));
            }
        }
    }
}
