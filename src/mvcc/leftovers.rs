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

/// Keys of what waits.
#[derive(Debug)]
pub(super) struct Leftovers<K> {
    /// Entries that departed, to be removed from the index.
    dead: Mutex<VecDeque<K>>,
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

impl<K: Key, V: Value> Table<K, V> {
    /// Takes what no reader needs out of a record that was written, and the record itself if its
    /// key was removed: then also its neighbours of which the addresses are in `batch`, which is
    /// sorted. Runs the user's `Ord` and `Clone`. Answers how many versions went.
    pub(super) fn tidy(
        &self,
        record: &Record<K, V>,
        batch: &[usize],
        horizons: Horizons<'_>,
        guard: &Guard<'_>,
    ) -> usize {
        let mut versions = 0;
        if record.is_empty(guard) {
            versions += self.clear(record, batch, horizons, guard);
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
                versions += self.tidy(record, &[], horizons, guard);
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

    /// Removes an empty record from the index, and those that are listed from the same leaf.
    fn clear(
        &self,
        record: &Record<K, V>,
        batch: &[usize],
        horizons: Horizons<'_>,
        guard: &Guard<'_>,
    ) -> usize {
        let is_it = |other: &Record<K, V>| ptr::eq(other, record);
        let may = |other: &Record<K, V>| {
            is_it(other) || batch.binary_search(&ptr::from_ref(other).addr()).is_ok()
        };
        self.clear_leaf(record.key(), horizons, is_it, may, guard)
    }

    /// Removes records from the leaf of one key that nobody needs: if `visit` finds one, those that
    /// `may` go. Answers how many versions went with them, but for the newest of each.
    fn clear_leaf(
        &self,
        key: &K,
        Horizons { passed, departed, needed, .. }: Horizons<'_>,
        visit: impl Fn(&Record<K, V>) -> bool,
        may: impl Fn(&Record<K, V>) -> bool,
        guard: &Guard<'_>,
    ) -> usize {
        let (mut delta, mut versions) = (Delta::default(), 0);
        let kill = |record: &Record<K, V>| {
            let horizon = if record.has_departed(guard) { departed } else { passed };
            let dies = may(record) && record.kill(horizon, needed, guard);
            if dies {
                let (weight, older) = self.weigh_dying(record, guard);
                delta += weight;
                versions += older;
            }
            dies
        };
        self.index().sweep(Some(key.clone()), 1, visit, kill, guard);
        self.account().add(delta);
        versions
    }

    /// Notes that an entry departed, for [`bury`](Self::bury).
    pub(crate) fn note_dead(&self, key: &K) {
        let key = key.clone();
        self.leftovers.dead.lock().push_back(key);
    }

    /// Removes records of entries that departed, up to `limit`. Answers how many versions went
    /// with them.
    pub(crate) fn bury(&self, horizons: Horizons<'_>, limit: usize, guard: &Guard<'_>) -> usize {
        let mut versions = 0;
        for _ in 0..limit {
            let Some(key) = self.leftovers.dead.lock().pop_front() else { break };
            // One leaf, and all in it that may go.
            let may = |record: &Record<K, V>| record.has_departed(guard);
            versions += self.clear_leaf(&key, horizons, may, may, guard);
            let found = self.index().get::<K>(&key, guard);
            let Some(left) = found.filter(|it| it.has_departed(guard)) else { continue };
            if !left.is_newest_at(horizons.departed, guard) {
                // Those behind it are younger.
                self.leftovers.dead.lock().push_front(key);
                break;
            }
            self.keep(left);
        }
        versions
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
