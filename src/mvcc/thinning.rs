//! Taking versions out of the middle of a chain, where a snapshot needs older ones and not these.
//!
//! ```text
//! head ─► 9 ─► 8 ─► 7 ─► 3        snapshots at 3 and from 9 on
//! head ─► 9 ───────────► 3        8 and 7 go
//! ```
//!
//! 1. One at a time, and nobody else cuts the chain meanwhile: see record invariant 6.
//! 2. Readers who are at a version that is taken out go on behind it.
//!
//! Called by commits that meet a long chain, by sweeps, and by departures.

use std::ptr::NonNull;

use crate::epoch::Guard;
use crate::id::Timestamp;
use crate::mvcc::record::{DEAD, Pruned, Record, THINNING, untagged};
use crate::mvcc::version::{Commit, Version};
use crate::mvcc::{Key, Value};
use crate::ssi::Needed;
use crate::sync::{AtomicPtr, Ordering};

impl<K: Key, V: Value> Record<K, V> {
    /// Takes out every version that no reader needs, wherever it is in the chain, and measures it.
    /// Does nothing while somebody else is at work on the record.
    pub(crate) fn thin(
        &self,
        needed: &Needed,
        weigh: impl Fn(&Version<V>) -> usize,
        guard: &Guard<'_>,
    ) -> Pruned {
        let mut pruned = Pruned::default();
        let head = self.head();
        // SAFETY: as in `visible_at`.
        let Some(newest) = (unsafe { untagged(head).as_ref() }) else { return pruned };
        if head.addr() & DEAD != 0 || newest.prev().is_null() {
            return pruned;
        }
        pruned.kept = Some(Timestamp::ZERO);
        if head.addr() & THINNING != 0 {
            return pruned;
        }
        let marked = head.map_addr(|a| a | THINNING);
        // AcqRel: as in `take`.
        let marks = self.head.compare_exchange(head, marked, Ordering::AcqRel, Ordering::Acquire);
        if marks.is_err() {
            return pruned;
        }
        let thinning = Thinning(&self.head);
        let mut is_settled = true;
        self.each_version(|version| is_settled &= !version.is_pending(), guard);
        let mut newer = newest;
        if is_settled {
            pruned.kept = None;
        }
        // SAFETY: as in `visible_at`; what this takes out stays under the guard, too.
        while let Some(version) = unsafe { newer.prev().as_ref() }.filter(|_| is_settled) {
            let (Commit::At(since), Commit::At(until)) = (version.commit(), newer.commit()) else {
                break;
            };
            if needed.between(since, until) {
                pruned.kept = Some(until);
                newer = version;
                continue;
            }
            let Some(gone) = NonNull::new(newer.prev()) else { break };
            newer.pass_over(version);
            let bytes = weigh(version);
            pruned.bytes += bytes;
            pruned.versions += 1;
            Self::retire(gone, bytes, guard);
        }
        drop(thinning);
        pruned
    }
}

/// The mark THINNING, until dropped.
pub(super) struct Thinning<'r, V>(pub(super) &'r AtomicPtr<Version<V>>);

impl<V> Drop for Thinning<'_, V> {
    fn drop(&mut self) {
        // Nobody takes the head while the mark is there, but a ring may change its own (5).
        let mut head = self.0.load(Ordering::Acquire);
        loop {
            let after = head.map_addr(|a| a & !THINNING);
            // AcqRel: as in `take`.
            match self.0.compare_exchange(head, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}
