//! How a record dies: the DEAD bit on its head, after which it leaves the index.
//!
//! ```text
//! head ─► tombstone 9 ─► 7 ─► first 3      whoever may write sees 9, no reader needs 7 or 3
//! head ─► tombstone 9                      first: taken out before, and vacant by now
//! head ─► tombstone 9                      first: taken out, its drop deferred: not yet
//! ```
//!
//! 1. What a record holds when it dies goes with it; see record invariant 4 for when that may be.
//! 2. The head alone does not tell that the first version is in the chain: it is the same before
//!    and after somebody has taken versions out below it. So the chain is held (record invariant 6)
//!    while that is found out, unless the version is vacant, which it stays.
//! 3. A record is not killed before its newest version is settled, even if that has committed and
//!    the horizon is there: until then its owner follows the record, and may cut its chain.
//!
//! Called by sweeps, and by whoever tidies up after a commit.

use std::{mem, ptr};

use crate::epoch::Guard;
use crate::id::Timestamp;
use crate::mvcc::record::{DEAD, Record, TAGS, THINNING, untagged};
use crate::mvcc::thinning::Thinning;
use crate::mvcc::version::{Commit, Version};
use crate::mvcc::{Key, Value};
use crate::ssi::Needed;
use crate::sync::Ordering;

impl<K: Key, V: Value> Record<K, V> {
    /// Kills the record when its key was removed at or before `horizon`, below which nobody who may
    /// write looks, and no reader needs what was there before.
    pub(crate) fn kill(&self, horizon: Timestamp, needed: &Needed, pinned: &Guard<'_>) -> bool {
        let head = self.head();
        if head.addr() & TAGS != 0 {
            return false;
        }
        // SAFETY: as in `visible_at`.
        if let Some(newest) = unsafe { head.as_ref() } {
            let is_gone =
                newest.is_tombstone() && newest.is_visible_at(horizon) && !newest.is_pending();
            if !is_gone || Self::is_any_needed(newest, needed, pinned) {
                return false;
            }
        }
        self.bury(head, pinned)
    }

    /// Whether a reader needs a version below this one, which is decided.
    fn is_any_needed(newest: &Version<V>, needed: &Needed, _pinned: &Guard<'_>) -> bool {
        let mut newer = newest;
        // SAFETY: as in `visible_at`.
        while let Some(version) = unsafe { newer.prev().as_ref() } {
            let (Commit::At(since), Commit::At(until)) = (version.commit(), newer.commit()) else {
                return true;
            };
            if needed.between(since, until) {
                return true;
            }
            newer = version;
        }
        false
    }

    /// Kills the record whatever it holds, for a table that nobody uses any more. False if a
    /// deferred drop still points into it.
    pub(crate) fn condemn(&self, pinned: &Guard<'_>) -> bool {
        let head = self.head();
        head.addr() & (DEAD | THINNING) == 0 && self.bury(head, pinned)
    }

    /// Sets the DEAD bit, unless the head has changed, or a deferred drop points to the first
    /// version (2).
    fn bury(&self, head: *mut Version<V>, pinned: &Guard<'_>) -> bool {
        if self.first().is_vacant() {
            return self.mark(head, head.map_addr(|a| a | DEAD));
        }
        let marked = head.map_addr(|a| a | THINNING);
        if !self.is_first_in(head, pinned) || !self.mark(head, marked) {
            return false;
        }
        let chain = Thinning(&self.head);
        let dies = self.is_first_in(head, pinned) && self.mark(marked, head.map_addr(|a| a | DEAD));
        if dies {
            // There is nothing to take the mark off any more.
            mem::forget(chain);
        }
        dies
    }

    fn mark(&self, from: *mut Version<V>, to: *mut Version<V>) -> bool {
        // AcqRel: as in `take`, which finds the mark; the record's own drop frees the chain.
        self.head.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether the version in place is in the chain that begins at `head`.
    fn is_first_in(&self, head: *mut Version<V>, _pinned: &Guard<'_>) -> bool {
        let mut oldest = untagged(head);
        // SAFETY: as in `visible_at`.
        while let Some(below) = unsafe { oldest.as_ref() }.map(Version::prev)
            && !below.is_null()
        {
            oldest = below;
        }
        ptr::eq(oldest, self.first())
    }
}
