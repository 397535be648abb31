//! What waits for its turn to leave a table, one record at a time.
//!
//! ```text
//! a commit that the log has passed ─► tidy     the versions that it overwrote
//!                                     clear    the records whose keys it removed
//! an entry that left by itself     ─► bury     its record, when nobody is compared by it
//!         what a snapshot needs    ─► keep ─► retry, when the snapshot has gone
//! a value that is in the files     ─► part     its version in memory, when no reader needs it
//! ```
//!
//! A sweep finds all of these, too, by looking everywhere; this is for what is known.
//!
//! 1. Keys in the queues may be gone, or have been written again: they are hints.
//! 2. Only records that hold nothing leave the index (see [`Record::kill`]).
//! 3. A record is kept once, however often it is written while a snapshot is open.
//! 4. No code of the user's runs under a lock.
//!
//! Called by commits that have ended, by what makes room, and by vacuums.

use std::collections::{BTreeMap, VecDeque};
use std::ptr;

use crate::epoch::Guard;
use crate::id::Timestamp;
use crate::mvcc::account::{Delta, signed};
use crate::mvcc::record::Record;
use crate::mvcc::table::{Horizons, Table};
use crate::mvcc::{Key, Value};
use crate::skiplist::Entry as _;
use crate::ssi::Needed;
use crate::sync::{AtomicBool, Mutex, Ordering};

/// Records of departed entries that are removed together where they are neighbours.
const BURIED_TOGETHER: usize = 128;

/// Keys of what waits.
#[derive(Debug)]
pub(super) struct Leftovers<K> {
    /// Entries that departed, to be removed from the index, with the addresses of their records.
    dead: Mutex<VecDeque<(usize, K)>>,
    /// What snapshots need and others have overwritten, removed or evicted.
    kept: Mutex<Kept<K>>,
    /// Whether there are such.
    has_kept: AtomicBool,
    /// Values that are in the files, and still in memory for readers; oldest first.
    parted: Mutex<VecDeque<K>>,
}

impl<K> Default for Leftovers<K> {
    fn default() -> Self {
        Self {
            dead: Mutex::default(),
            kept: Mutex::default(),
            has_kept: AtomicBool::new(false),
            parted: Mutex::default(),
        }
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

    fn is_listed<T>(&self, record: &T) -> bool {
        let record = ptr::from_ref(record).addr();
        let (word, bit) = Self::mark(record);
        self.marks.get(word).is_some_and(|word| word & bit != 0)
            && self.listed.binary_search(&record).is_ok()
    }

    fn has_cleared(&self, record: usize) -> bool {
        self.cleared.contains(&record)
    }
}

impl<K: Key, V: Value> Table<K, V> {
    /// Takes what no reader needs out of a record that was written, and the record itself if its
    /// key was removed, with its neighbours that are listed. Runs the user's `Ord` and `Clone`.
    /// Answers how many versions went.
    pub(super) fn tidy(
        &self,
        record: &Record<K, V>,
        clearing: &mut Clearing,
        horizons: Horizons<'_>,
        guard: &Guard<'_>,
    ) -> usize {
        let mut versions = 0;
        if record.is_empty(guard) && !record.is_dead() {
            versions += self.clear(record.key(), clearing, horizons, guard);
        }
        if record.is_dead() {
            return versions;
        }
        let thinned = record.thin(horizons.needed, |it| self.weigher().version(it), guard);
        if thinned.versions > 0 {
            self.account().add(Delta { retained: -signed(thinned.bytes), ..Delta::default() });
        }
        let is_kept = thinned.kept.is_some_and(|until| until <= horizons.passed);
        // What is newer has another commit to tidy up after it.
        let is_left = record.is_empty(guard) && record.is_newest_at(horizons.passed, guard);
        if is_kept || is_left && !record.has_departed(guard) {
            self.keep(record);
        }
        versions + thinned.versions
    }

    /// Notes a record that cannot go yet, for [`retry`](Self::retry).
    pub(super) fn keep(&self, record: &Record<K, V>) {
        let address = ptr::from_ref(record).addr();
        if self.leftovers.kept.lock().has(address) {
            return;
        }
        let key = record.key().clone();
        let mut kept = self.leftovers.kept.lock();
        let before = kept.fresh.insert(address, key);
        // Relaxed: a hint, for whoever comes later.
        self.leftovers.has_kept.store(true, Ordering::Relaxed);
        drop(kept);
        drop(before);
    }

    /// Looks again at up to `left` records that were kept, if the horizon has moved since.
    pub(crate) fn retry(
        &self,
        horizons: Horizons<'_>,
        mut left: usize,
        guard: &Guard<'_>,
    ) -> usize {
        let mut versions = 0;
        // Relaxed: as in `keep`.
        while left > 0 && self.leftovers.has_kept.load(Ordering::Relaxed) {
            left -= 1;
            let Some(key) = self.next_kept(horizons.any) else { break };
            if let Some(record) = self.index().get::<K>(&key, guard) {
                let mut clearing = Clearing::of(vec![ptr::from_ref(record).addr()]);
                versions += self.tidy(record, &mut clearing, horizons, guard);
            }
        }
        versions
    }

    fn next_kept(&self, horizon: Timestamp) -> Option<K> {
        let mut kept = self.leftovers.kept.lock();
        let key = kept.next(horizon);
        if key.is_none() && kept.fresh.is_empty() {
            // Relaxed: as in `keep`; both under the lock.
            self.leftovers.has_kept.store(false, Ordering::Relaxed);
        }
        key
    }

    /// Removes the listed records in the leaf of `key` from the index that are empty and that nobody
    /// needs: a leaf that loses one is written anew. No other record of the leaf is looked at.
    /// Answers how many versions went with them, but for the newest of each.
    fn clear(
        &self,
        key: &K,
        clearing: &mut Clearing,
        Horizons { passed, departed, needed, .. }: Horizons<'_>,
        guard: &Guard<'_>,
    ) -> usize {
        let (mut delta, mut versions) = (Delta::default(), 0);
        let kill = |record: &Record<K, V>| {
            if !clearing.is_listed(record) {
                return false;
            }
            let horizon = if record.has_departed(guard) { departed } else { passed };
            let dies = record.kill(horizon, needed, guard);
            if dies {
                let (weight, older) = self.weigh_dying(record, guard);
                delta += weight;
                versions += older;
                clearing.cleared.push(ptr::from_ref(record).addr());
            }
            dies
        };
        self.index().clear(key, kill, guard);
        self.account().add(delta);
        versions
    }

    /// Notes that an entry departed, for [`bury`](Self::bury).
    pub(super) fn note_dead(&self, record: &Record<K, V>) {
        let dead = (ptr::from_ref(record).addr(), record.key().clone());
        self.leftovers.dead.lock().push_back(dead);
    }

    /// Removes records of entries that departed, up to `limit`. Answers how many versions went
    /// with them.
    pub(crate) fn bury(&self, horizons: Horizons<'_>, limit: usize, guard: &Guard<'_>) -> usize {
        let mut versions = 0;
        for _ in 0..limit.div_ceil(BURIED_TOGETHER) {
            let batch: Vec<_> = {
                let mut dead = self.leftovers.dead.lock();
                let count = dead.len().min(limit).min(BURIED_TOGETHER);
                dead.drain(..count).collect()
            };
            if batch.is_empty() {
                break;
            }
            let (buried, mut early) = self.bury_batch(batch, horizons, guard);
            versions += buried;
            if !early.is_empty() {
                // Those behind them are younger.
                let mut dead = self.leftovers.dead.lock();
                early.append(&mut dead);
                *dead = early;
                break;
            }
        }
        versions
    }

    /// The same for some of them. Answers also which it is too early for.
    fn bury_batch(
        &self,
        batch: Vec<(usize, K)>,
        horizons: Horizons<'_>,
        guard: &Guard<'_>,
    ) -> (usize, VecDeque<(usize, K)>) {
        let mut clearing = Clearing::of(batch.iter().map(|dead| dead.0).collect());
        let (mut versions, mut early) = (0, VecDeque::new());
        for (address, key) in batch {
            if clearing.has_cleared(address) {
                continue;
            }
            versions += self.clear(&key, &mut clearing, horizons, guard);
            if clearing.has_cleared(address) {
                continue;
            }
            // Written again, or looked at by somebody.
            let found = self.index().get::<K>(&key, guard);
            match found.filter(|record| record.has_departed(guard)) {
                None => {}
                Some(left) if left.is_newest_at(horizons.departed, guard) => self.keep(left),
                Some(_) => early.push_back((address, key)),
            }
        }
        (versions, early)
    }

    /// Notes that a value has left memory but for its readers, for
    /// [`part`](Self::part).
    pub(crate) fn note_parted(&self, key: &K) {
        let key = key.clone();
        self.leftovers.parted.lock().push_back(key);
    }

    /// Values that have left memory but for their readers.
    pub(crate) fn parted(&self) -> usize {
        self.leftovers.parted.lock().len()
    }

    /// Takes out values that have left memory and that no reader needs any more, up to `limit`.
    /// Answers how many versions, and their bytes.
    pub(crate) fn part(&self, needed: &Needed, limit: usize, guard: &Guard<'_>) -> (usize, u64) {
        let (mut versions, mut bytes) = (0, 0);
        for _ in 0..limit {
            let Some(key) = self.leftovers.parted.lock().pop_front() else { break };
            let Some(record) = self.index().get::<K>(&key, guard) else { continue };
            let pruned = record.thin(needed, |version| self.weigher().version(version), guard);
            versions += pruned.versions;
            bytes += pruned.bytes;
            if pruned.versions == 0 && record.has_older(guard) {
                // Those behind it are younger.
                self.leftovers.parted.lock().push_front(key);
                break;
            }
        }
        self.account().add(Delta { retained: -signed(bytes), ..Delta::default() });
        (versions, bytes as u64)
    }
}
