//! Finding the segment of a key, and the entry in it.
//!
//! ```text
//! top level    head ──────────► x        hint > key: down without touching x
//! ...            │               dead, or low > key: down
//! level 0        └──► x ──► x            low <= key: right
//! ```
//!
//! 1. A reader looks at the content first, then at the next segment, then at `dead`. A split puts
//!    keys on the right before it takes them from the left, and a segment dies only when empty;
//!    so whoever finds nothing, nobody to the right and no death, may say "absent".
//! 2. Every step goes right or down. Only a segment's death sends a reader back to the head, and
//!    it does not enter a dead segment again.
//!
//! Used by `get`, `insert`, `cursor` and `sweep`.

use super::content::Content;
use super::hint::Probe;
use super::leaf::{Leaf, State};
use super::list::SkipList;
use super::segment::Segment;
use super::shape::{Entry, Shape};
use crate::epoch::Guard;
use crate::epoch::prefetch::prefetch_object;
use crate::sync::Ordering;
use std::borrow::Borrow;

/// Where a key was looked for in vain.
pub(super) struct Absent<'g, E: Entry, S: Shape> {
    /// The segment that an entry with this key belongs into, or one to its left.
    pub(super) segment: &'g Segment<E, S>,
    pub(super) content: Content<'g, E>,
    pub(super) child: usize,
    pub(super) leaf: Leaf<'g, E>,
    pub(super) state: State,
    /// How many of the leaf's run lie before the key.
    pub(super) rank: usize,
}

impl<E: Entry, S: Shape> SkipList<E, S> {
    /// The living entry of `key`.
    #[inline]
    pub(crate) fn get<'g, Q>(&'g self, key: &Q, guard: &'g Guard<'_>) -> Option<&'g E>
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let found = self.locate(&Probe::new(key), drop, guard).ok();
        found.filter(|entry| !entry.is_dead())
    }

    /// Looks for a key without a lock. The entry with this key may be dying.
    ///
    /// On its own: spread out in a large caller, a read takes a tenth longer.
    #[inline(never)]
    pub(super) fn locate<'g, Q, T>(
        &'g self,
        probe: &Probe<'_, E::Key, Q>,
        absent: impl FnOnce(Absent<'g, E, S>) -> T,
        guard: &'g Guard<'_>,
    ) -> Result<&'g E, T>
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut segment = self.descend(probe, true, guard);
        loop {
            let content = segment.content(guard);
            let child = content.child_of(probe, true);
            let leaf = content.leaf(child, guard);
            leaf.prefetch_whole();
            let state = leaf.state();
            let rank = match leaf.find(state, probe) {
                Ok(item) => {
                    prefetch_object(item.raw().as_ptr());
                    return Ok(item.entry());
                }
                Err(rank) => rank,
            };
            if let Some(right) = segment.right_for(probe, true, guard) {
                segment = right;
            } else if segment.is_dead() {
                segment = self.descend(probe, true, guard);
            } else {
                return Err(absent(Absent { segment, content, child, leaf, state, rank }));
            }
        }
    }

    /// Where a key belongs that lies behind all others, if a glance at the edge tells.
    #[inline]
    pub(super) fn beyond_all<'g>(
        &'g self,
        probe: &Probe<'_, E::Key, E::Key>,
        guard: &'g Guard<'_>,
    ) -> Option<Absent<'g, E, S>> {
        let segment = self.edge(guard).filter(|edge| edge.begins_before(probe, false))?;
        let content = segment.content(guard);
        if segment.link(0).next(guard).is_some() {
            return None;
        }
        let child = content.len() - 1;
        let leaf = content.leaf(child, guard);
        let state = leaf.state();
        let last = leaf.last_of_run(state)?;
        let rank = state.sorted;
        let is_beyond = probe.is_after(last.key(), false);
        is_beyond.then_some(Absent { segment, content, child, leaf, state, rank })
    }

    /// The last segment that begins before the probe, or at it if `or_equal`, or one to its left.
    #[inline]
    pub(super) fn descend<'g, Q>(
        &'g self,
        probe: &Probe<'_, E::Key, Q>,
        or_equal: bool,
        guard: &'g Guard<'_>,
    ) -> &'g Segment<E, S>
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut segment = &*self.head;
        // Relaxed: a lower top only means more steps; links are loaded with acquire.
        let mut level = self.top.load(Ordering::Relaxed);
        loop {
            if !segment.is_filtered(level, probe)
                && let Some(next) = segment.link(level).next(guard)
                && !next.is_dead()
                && next.begins_before(probe, or_equal)
            {
                segment = next;
            } else if level == 0 {
                return segment;
            } else {
                level -= 1;
            }
        }
    }
}
