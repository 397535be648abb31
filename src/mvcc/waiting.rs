//! The queues of what waits to leave a table: keys, and addresses of records.
//!
//! 1. Keys may be gone, or have been written again, and addresses be those of other records: they
//!    are hints.
//! 2. A record is kept once, however often it is written while a snapshot is open.
//! 3. No code of the user's runs under a lock: keys are cloned before, and dropped after.
//!
//! Held by tables; used by `leftovers`.

use std::collections::{BTreeMap, VecDeque};
use std::ptr;

use crate::id::Timestamp;
use crate::sync::{AtomicBool, Mutex, Ordering};

/// A departed entry: its record's address, and its key.
pub(super) type Dead<K> = (usize, K);

/// Keys of what waits.
#[derive(Debug)]
pub(super) struct Waiting<K> {
    /// Entries that departed, to be removed from the index; oldest first.
    dead: Mutex<VecDeque<Dead<K>>>,
    /// What snapshots need and others have overwritten, removed or evicted.
    kept: Mutex<Kept<K>>,
    /// Whether there are such.
    has_kept: AtomicBool,
    /// Values that are in the files, and still in memory for readers; oldest first.
    parted: Mutex<VecDeque<K>>,
}

impl<K> Default for Waiting<K> {
    fn default() -> Self {
        Self {
            dead: Mutex::default(),
            kept: Mutex::default(),
            has_kept: AtomicBool::new(false),
            parted: Mutex::default(),
        }
    }
}

impl<K> Waiting<K> {
    pub(super) fn push_dead(&self, dead: Dead<K>) {
        self.dead.lock().push_back(dead);
    }

    /// The oldest of those that departed, up to `limit`.
    pub(super) fn take_dead(&self, limit: usize) -> Vec<Dead<K>> {
        let mut dead = self.dead.lock();
        let count = dead.len().min(limit);
        dead.drain(..count).collect()
    }

    /// Puts those that were taken too early before the others.
    pub(super) fn put_back_dead(&self, early: Vec<Dead<K>>) {
        let mut dead = self.dead.lock();
        for one in early.into_iter().rev() {
            dead.push_front(one);
        }
    }

    /// Keeps a record whose key `clone` answers, unless it is kept already.
    pub(super) fn keep(&self, record: usize, clone: impl FnOnce() -> K) {
        if self.kept.lock().has(record) {
            return;
        }
        let key = clone();
        let mut kept = self.kept.lock();
        let before = kept.fresh.insert(record, key);
        // Relaxed: a hint for whoever comes later; both ways under the lock.
        self.has_kept.store(true, Ordering::Relaxed);
        drop(kept);
        drop(before);
    }

    /// The next of those that were kept, unless all were looked at since `horizon`.
    pub(super) fn next_kept(&self, horizon: Timestamp) -> Option<K> {
        // Relaxed: as in `keep`.
        if !self.has_kept.load(Ordering::Relaxed) {
            return None;
        }
        let mut kept = self.kept.lock();
        let key = kept.next(horizon);
        if key.is_none() && kept.fresh.is_empty() {
            // Relaxed: as in `keep`.
            self.has_kept.store(false, Ordering::Relaxed);
        }
        key
    }

    pub(super) fn push_parted(&self, key: K) {
        self.parted.lock().push_back(key);
    }

    /// Takes the oldest of the parted ones.
    pub(super) fn take_parted(&self) -> Option<K> {
        self.parted.lock().pop_front()
    }

    /// Puts back what was taken too early.
    pub(super) fn put_back_parted(&self, key: K) {
        self.parted.lock().push_front(key);
    }

    pub(super) fn parted(&self) -> usize {
        self.parted.lock().len()
    }
}

/// Keys by the address of their records, which tells them apart without the user's `Ord`.
#[derive(Debug)]
struct Kept<K> {
    /// Those that are being looked at again, and the horizon since which they are.
    again: BTreeMap<usize, K>,
    since: Timestamp,
    /// Those that were kept meanwhile.
    fresh: BTreeMap<usize, K>,
}

impl<K> Default for Kept<K> {
    fn default() -> Self {
        Self { again: BTreeMap::new(), since: Timestamp::ZERO, fresh: BTreeMap::new() }
    }
}

impl<K> Kept<K> {
    fn has(&self, record: usize) -> bool {
        self.fresh.contains_key(&record) || self.again.contains_key(&record)
    }

    /// The next to be looked at again. Once all were, nothing is until the horizon moves.
    fn next(&mut self, horizon: Timestamp) -> Option<K> {
        if self.again.is_empty() && horizon > self.since {
            self.since = horizon;
            std::mem::swap(&mut self.again, &mut self.fresh);
        }
        self.again.pop_first().map(|(_, key)| key)
    }
}

/// Records that may leave their leaves together, by their addresses.
#[derive(Debug)]
pub(crate) struct Clearing {
    /// Sorted.
    listed: Vec<usize>,
    /// A bit for each, by which most others are told apart without a search.
    marks: [u64; MARKS],
    cleared: Vec<usize>,
}

const MARKS: usize = 32;

impl Clearing {
    pub(crate) fn of(mut listed: Vec<usize>) -> Self {
        listed.sort_unstable();
        let mut marks = [0; MARKS];
        for record in &listed {
            let (word, bit) = Self::mark(*record);
            if let Some(word) = marks.get_mut(word) {
                *word |= bit;
            }
        }
        Self { listed, marks, cleared: Vec::new() }
    }

    /// Records are larger than the sixteen bytes that the allocator goes by.
    fn mark(record: usize) -> (usize, u64) {
        let at = record >> 5;
        (at / 64 % MARKS, 1 << (at % 64))
    }

    pub(super) fn is_listed<T>(&self, record: &T) -> bool {
        let record = ptr::from_ref(record).addr();
        let (word, bit) = Self::mark(record);
        self.marks.get(word).is_some_and(|word| word & bit != 0)
            && self.listed.binary_search(&record).is_ok()
    }

    /// Notes that a record has left.
    pub(super) fn note_cleared<T>(&mut self, record: &T) {
        self.cleared.push(ptr::from_ref(record).addr());
    }

    pub(super) fn has_cleared(&self, record: usize) -> bool {
        self.cleared.contains(&record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_records_are_looked_at_once_for_each_horizon() {
        let at = Timestamp::from_raw;
        let waiting = Waiting::default();
        assert_eq!(waiting.next_kept(at(9)), None);
        waiting.keep(32, || "a");
        waiting.keep(32, || panic!("it is kept already"));
        waiting.keep(64, || "b");
        assert_eq!((waiting.next_kept(at(9)), waiting.next_kept(at(9))), (Some("a"), Some("b")));
        assert_eq!(waiting.next_kept(at(9)), None);
        waiting.keep(32, || "a");
        assert_eq!(waiting.next_kept(at(9)), None, "nothing has changed since it was kept");
        assert_eq!(waiting.next_kept(at(10)), Some("a"));
        assert_eq!(waiting.next_kept(at(11)), None);
    }

    #[test]
    fn clearing_knows_what_is_listed() {
        let records = vec![[0_u64; 8]; 300];
        let addresses = |from: usize| {
            records.iter().skip(from).step_by(2).map(|record| ptr::from_ref(record).addr())
        };
        let mut clearing = Clearing::of(addresses(0).collect());
        for (at, record) in records.iter().enumerate() {
            assert_eq!(clearing.is_listed(record), at % 2 == 0);
        }
        clearing.note_cleared(&records[4]);
        assert!(clearing.has_cleared(ptr::from_ref(&records[4]).addr()));
        assert!(addresses(1).all(|record| !clearing.has_cleared(record)));
    }
}
