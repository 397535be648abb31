//! Express links: the levels above 0, and the edge, which only make searches short.
//!
//! 1. They change only under the structural mutex, which is taken while segments are locked or
//!    alone, and under which no segment is locked.
//! 2. A segment that is dead is never linked, nor the edge: death is declared under the same mutex.
//! 3. All comparisons are made before the first store.
//!
//! Used by `insert` after a split and by `sweep` when it unlinks a segment.

use super::hint::Probe;
use super::list::SkipList;
use super::segment::Segment;
use super::shape::{Entry, Shape, Tower};
use crate::epoch::Guard;
use crate::sync::{MutexGuard, Ordering, load_owned};
use std::ptr::NonNull;

impl<E: Entry, S: Shape> SkipList<E, S> {
    /// How many express levels the next new segment gets: one more with probability one half.
    pub(super) fn draw_levels(&self) -> usize {
        // Relaxed: the number only has to differ from call to call.
        let birth = self.births.fetch_add(1, Ordering::Relaxed);
        let highest = self.head.height() - 1;
        (scramble(birth).trailing_ones() as usize).min(highest)
    }

    /// The last segment as of a moment ago, if it is known.
    #[inline]
    pub(super) fn edge<'g>(&'g self, _guard: &'g Guard<'_>) -> Option<&'g Segment<E, S>> {
        // Acquire: partner of the release in `link_express`; the segment is built.
        let edge = self.edge.load(Ordering::Acquire);
        // SAFETY: a segment is retired only after `leave_edge`, through the collector that the
        // guard pins, and never becomes the edge again (2).
        unsafe { edge.as_ref() }
    }

    /// Makes the edge unknown if it is `victim`, which the caller declares dead in the same breath.
    pub(super) fn leave_edge(&self, victim: &Segment<E, S>, _structural: &MutexGuard<'_, ()>) {
        if std::ptr::eq(load_owned!(self.edge), victim) {
            // Relaxed: there is nothing behind null.
            self.edge.store(std::ptr::null_mut(), Ordering::Relaxed);
        }
    }

    /// Links a segment that was linked at level 0 just now at `levels` more, unless it died, and
    /// makes it the edge if nothing follows.
    pub(super) fn link_express(
        &self,
        segment: NonNull<Segment<E, S>>,
        levels: usize,
        guard: &Guard<'_>,
    ) {
        // SAFETY: the guard was made before the segment could be unlinked and retired.
        let linked = unsafe { segment.as_ref() };
        let Some(low) = linked.low() else { return };
        let structural = self.structural.lock();
        if linked.is_dead_owned() {
            return;
        }
        let left = match levels {
            0 => Vec::new(),
            _ => self.left_of(&Probe::new(low), levels, &structural, guard),
        };
        for (level, left) in (1..=levels).zip(left) {
            linked.link(level).copy_from(left.link(level));
            left.link(level).link(segment, linked.low_hint());
        }
        linked.set_express(levels);
        if load_owned!(self.top) < levels {
            // Relaxed: whoever starts lower than the top only takes more steps.
            self.top.store(levels, Ordering::Relaxed);
        }
        if linked.link(0).next(guard).is_none() {
            // Release: partner of the acquire in `edge`.
            self.edge.store(segment.as_ptr(), Ordering::Release);
        }
    }

    /// The segments whose express links are passed on the way to a probe, level 1 first.
    fn left_of<'g>(
        &'g self,
        probe: &Probe<'_, E::Key, E::Key>,
        levels: usize,
        _structural: &MutexGuard<'_, ()>,
        guard: &'g Guard<'_>,
    ) -> Vec<&'g Segment<E, S>> {
        let mut left = Vec::with_capacity(levels);
        let mut segment = &*self.head;
        for level in (1..=levels.max(load_owned!(self.top))).rev() {
            while let Some(next) = segment.link(level).next_owned(guard)
                && next.begins_before(probe, false)
            {
                segment = next;
            }
            if level <= levels {
                left.push(segment);
            }
        }
        left.reverse();
        left
    }

    /// The express links that lead to `victim`, highest level first, each with its level.
    pub(super) fn express_to<'g>(
        &'g self,
        victim: &Segment<E, S>,
        structural: &MutexGuard<'_, ()>,
        guard: &'g Guard<'_>,
    ) -> Vec<(usize, &'g Segment<E, S>)> {
        let levels = victim.express_owned();
        let Some(low) = victim.low() else { return Vec::new() };
        let near = self.left_of(&Probe::new(low), levels, structural, guard);
        let leads_to = |level: usize, segment: &Segment<E, S>| {
            std::ptr::eq(segment.link(level).next_raw_owned(), victim)
        };
        let express = (1..=levels).zip(near).map(|(level, near)| {
            if leads_to(level, near) {
                return (level, near);
            }
            // Only an inconsistent `Ord` misses it; the links still lead there one by one.
            let mut walk = Some(&*self.head);
            while let Some(segment) = walk.filter(|segment| !leads_to(level, segment)) {
                walk = segment.link(level).next_owned(guard);
            }
            (level, walk.expect("a segment is linked at all its express levels"))
        });
        let mut express: Vec<_> = express.collect();
        express.reverse();
        express
    }
}

impl<E: Entry, S: Shape> Segment<E, S> {
    fn height(&self) -> usize {
        self.tower().levels().len()
    }
}

/// Spreads consecutive numbers over all 64 bits.
fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
