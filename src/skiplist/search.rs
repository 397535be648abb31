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

use super::hint::Probe;
use super::list::SkipList;
use super::prefetch::prefetch_object;
use super::segment::Segment;
use super::shape::{Entry, Shape};
use crate::epoch::Guard;
use crate::sync::Ordering;
use std::borrow::Borrow;

/// Where a key is, or would be.
pub(super) enum Place<'g, E: Entry, S: Shape> {
    /// The entry with this key, which may be dying.
    Entry(&'g E),
    /// The segment that an entry with this key belongs into, or one to its left.
    Segment(&'g Segment<E, S>),
}

impl<E: Entry, S: Shape> SkipList<E, S> {
    /// The living entry of `key`.
    #[inline]
    pub(crate) fn get<'g, Q>(&'g self, key: &Q, guard: &'g Guard<'_>) -> Option<&'g E>
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        match self.locate(&Probe::new(key), guard) {
            Place::Entry(entry) if !entry.is_dead() => Some(entry),
            Place::Entry(_) | Place::Segment(_) => None,
        }
    }

    /// Looks for a key without a lock.
    #[inline]
    pub(super) fn locate<'g, Q>(
        &'g self,
        probe: &Probe<'_, E::Key, Q>,
        guard: &'g Guard<'_>,
    ) -> Place<'g, E, S>
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut segment = self.descend(probe, true, guard);
        loop {
            let content = segment.content(guard);
            let leaf = content.leaf(content.child_of(probe, true), guard);
            leaf.prefetch_whole();
            if let Some(item) = leaf.find(leaf.state(), probe) {
                prefetch_object(item.raw());
                return Place::Entry(item.entry());
            }
            if let Some(right) = segment.right_for(probe, true, guard) {
                segment = right;
            } else if segment.is_dead() {
                segment = self.descend(probe, true, guard);
            } else {
                return Place::Segment(segment);
            }
        }
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
