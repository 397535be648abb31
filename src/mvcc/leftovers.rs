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
//! 1. What waits is told of by hints: see [`waiting`](super::waiting).
//! 2. Only records that hold nothing leave the index (see [`Record::kill`]).
//!
//! Called by commits that have ended, by what makes room, and by vacuums.

use std::ptr;

use crate::epoch::Guard;
use crate::epoch::prefetch::prefetch_object;
use crate::mvcc::account::{Delta, signed};
use crate::mvcc::record::Record;
use crate::mvcc::table::{Horizons, Table};
use crate::mvcc::waiting::{Clearing, Dead};
use crate::mvcc::{Key, Value};
use crate::skiplist::Entry as _;
use crate::ssi::Needed;

/// Records of departed entries that are removed together where they are neighbours.
const BURIED_TOGETHER: usize = 128;
/// So many of them are brought near at once: what memory takes to answer is waited for together.
const NEAR: usize = 16;

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
    fn keep(&self, record: &Record<K, V>) {
        self.waiting().keep(ptr::from_ref(record).addr(), || record.key().clone());
    }

    /// Looks again at up to `limit` records that were kept, if the horizon has moved since.
    pub(crate) fn retry(&self, horizons: Horizons<'_>, limit: usize, guard: &Guard<'_>) -> usize {
        let mut versions = 0;
        for _ in 0..limit {
            let Some(key) = self.waiting().next_kept(horizons.any) else { break };
            let Some(record) = self.index().get::<K>(&key, guard) else { continue };
            let mut clearing = Clearing::of(vec![ptr::from_ref(record).addr()]);
            versions += self.tidy(record, &mut clearing, horizons, guard);
        }
        versions
    }

    /// Removes the listed records in the leaf of `key` from the index that are empty and that
    /// nobody needs: a leaf that loses one is written anew. No other record of the leaf is looked
    /// at. Answers how many versions went with them, but for the newest of each.
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
                return None;
            }
            let horizon = if record.has_departed(guard) { departed } else { passed };
            record.kill(horizon, needed, guard).then(|| {
                let (weight, older) = self.weigh_dying(record, guard);
                delta += weight;
                versions += older;
                clearing.note_cleared(record);
                weight.gone()
            })
        };
        self.index().clear(key, kill, guard);
        self.account().add(delta);
        versions
    }

    /// Notes that an entry departed, for [`bury`](Self::bury).
    pub(super) fn note_dead(&self, record: &Record<K, V>) {
        self.waiting().push_dead((ptr::from_ref(record).addr(), record.key().clone()));
    }

    /// Removes records of entries that departed, up to `limit`. Answers how many versions went
    /// with them.
    pub(crate) fn bury(&self, horizons: Horizons<'_>, limit: usize, guard: &Guard<'_>) -> usize {
        let mut versions = 0;
        for _ in 0..limit.div_ceil(BURIED_TOGETHER) {
            let batch = self.waiting().take_dead(limit.min(BURIED_TOGETHER));
            if batch.is_empty() {
                break;
            }
            let (buried, early) = self.bury_batch(batch, horizons, guard);
            versions += buried;
            if !early.is_empty() {
                // Those behind them are younger.
                self.waiting().put_back_dead(early);
                break;
            }
        }
        versions
    }

    /// The same for some of them. Answers also which it is too early for.
    fn bury_batch(
        &self,
        batch: Vec<Dead<K>>,
        horizons: Horizons<'_>,
        guard: &Guard<'_>,
    ) -> (usize, Vec<Dead<K>>) {
        let mut clearing = Clearing::of(batch.iter().map(|dead| dead.0).collect());
        let (mut versions, mut early) = (0, Vec::new());
        let mut batch = batch.into_iter();
        while batch.len() > 0 {
            for (address, key) in batch.as_slice().iter().take(NEAR) {
                prefetch_object(ptr::without_provenance::<Record<K, V>>(*address));
                self.index().prefetch_leaf(key, guard);
            }
            for (address, key) in batch.by_ref().take(NEAR) {
                if !clearing.has_cleared(address) {
                    versions += self.clear(&key, &mut clearing, horizons, guard);
                }
                if clearing.has_cleared(address) {
                    continue;
                }
                let found = self.index().get::<K>(&key, guard);
                // Unless it has been written again.
                let left = found.filter(|record| record.has_departed(guard));
                let Some(left) = left else { continue };
                if left.has_older(guard) && left.is_newest_at(horizons.departed, guard) {
                    // For a snapshot, which may last.
                    self.keep(left);
                } else {
                    // Readers of a moment ago are still there, or have not let go of the value.
                    early.push((address, key));
                }
            }
        }
        (versions, early)
    }

    /// Notes that a value has left memory but for its readers, for
    /// [`part`](Self::part).
    pub(crate) fn note_parted(&self, key: &K) {
        self.waiting().push_parted(key.clone());
    }

    /// Values that have left memory but for their readers.
    pub(crate) fn parted(&self) -> usize {
        self.waiting().parted()
    }

    /// Takes out values that have left memory and that no reader needs any more, up to `limit`.
    /// Answers how many versions, and their bytes.
    pub(crate) fn part(&self, needed: &Needed, limit: usize, guard: &Guard<'_>) -> (usize, u64) {
        let (mut versions, mut bytes) = (0, 0);
        for _ in 0..limit {
            let Some(key) = self.waiting().take_parted() else { break };
            let Some(record) = self.index().get::<K>(&key, guard) else { continue };
            let pruned = record.thin(needed, |version| self.weigher().version(version), guard);
            versions += pruned.versions;
            bytes += pruned.bytes;
            if pruned.versions == 0 && record.has_older(guard) {
                // Those behind it are younger.
                self.waiting().put_back_parted(key);
                break;
            }
        }
        self.account().add(Delta { retained: -signed(bytes), ..Delta::default() });
        (versions, bytes as u64)
    }
}
