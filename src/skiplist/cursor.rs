//! Cursors: the living entries of a range in order, from both ends.
//!
//! ```text
//! front ─► leaf, in order ─► next child of the same content ─► next segment's content ...
//!                                     ... previous child, or the segment that ends here ◄─ back
//! ```
//!
//! 1. Everything that was in the index when the cursor was made, and is not removed meanwhile, is
//!    met exactly once. What is inserted meanwhile may be met or not.
//! 2. Keys strictly ascend at the front and strictly descend at the back, and the two ends never
//!    cross: whatever one end gave out limits the other.
//! 3. A content that was read stays good enough: what moved out of it later is still in it, and
//!    what came later need not be met. At a segment's end the next segment is read after the
//!    content, so nothing that a split had taken out of the content is missed.
//! 4. The bounds become entries when the cursor is made: the first and the last one in range.
//!    What lies beyond them and comes later is not met, which 1 allows.
//!
//! Used by `mvcc`.

use super::content::Content;
use super::hint::{Probe, partition};
use super::insert::fences;
use super::leaf::Leaf;
use super::list::SkipList;
use super::order::Order;
use super::run::Item;
use super::segment::Segment;
use super::shape::{Entry, Shape, Wide};
use crate::epoch::Guard;
use crate::epoch::prefetch::prefetch_object;
use crate::sync::Ordering;
use std::borrow::Borrow;
use std::fmt;
use std::ops::{Bound, Range};

/// Where an end of the cursor is.
struct Place<'g, E: Entry, S: Shape> {
    segment: &'g Segment<E, S>,
    content: Content<'g, E>,
    child: usize,
}

impl<E: Entry, S: Shape> Clone for Place<'_, E, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Entry, S: Shape> Copy for Place<'_, E, S> {}

/// One end: the leaf it is in, as it was at one moment, and what of it is left.
pub(super) struct End<'g, E: Entry, S: Shape> {
    /// Nothing before the first leaf was read.
    place: Option<Place<'g, E, S>>,
    pub(super) leaf: Option<Leaf<'g, E>>,
    /// The order of the leaf's places; of none without a leaf.
    pub(super) order: Order,
    /// Front: the next item. Back: one beyond the next item.
    pub(super) at: usize,
    /// Whether the whole leaf is known to lie within the other end's limit.
    pub(super) is_clear: bool,
}

impl<'g, E: Entry, S: Shape> End<'g, E, S> {
    fn new() -> Self {
        Self { place: None, leaf: None, order: Order::new(), at: 0, is_clear: false }
    }

    /// Reads a leaf.
    #[inline]
    fn read(&mut self, leaf: Leaf<'g, E>) {
        leaf.read_order(leaf.state(), &mut self.order);
        self.leaf = Some(leaf);
    }

    /// The item with so many before it.
    #[inline]
    pub(super) fn item(&self, at: usize) -> Option<Item<'g, E>> {
        // The order was made from the leaf, below a count that was loaded.
        Some(self.leaf?.item(self.order.get(at)?))
    }

    /// The next leaf of the content, or the previous one. It has been asked for already.
    #[inline]
    pub(super) fn neighbor(&self, is_next: bool, guard: &'g Guard<'_>) -> Option<Leaf<'g, E>> {
        let Place { content, child, .. } = self.place?;
        let child = if is_next { child + 1 } else { child.wrapping_sub(1) };
        (child < content.len()).then(|| content.leaf(child, guard))
    }

    fn last(&self) -> Option<Item<'g, E>> {
        self.item(self.order.len().checked_sub(1)?)
    }

    /// Asks for entries.
    #[inline]
    fn prefetch(&self, range: Range<usize>) {
        range.for_each(|at| self.prefetch_one(at));
    }

    /// Asks for an entry that will be given out soon.
    #[inline]
    pub(super) fn prefetch_one(&self, at: usize) {
        if let Some(item) = self.item(at) {
            prefetch_object(item.raw().as_ptr());
        }
    }
}

/// How far an end may go.
pub(super) struct Limit<'g, E> {
    pub(super) entry: &'g E,
    pub(super) is_included: bool,
}

/// The living entries of a range.
pub(crate) struct Cursor<'g, E: Entry, S: Shape = Wide> {
    list: &'g SkipList<E, S>,
    pub(super) guard: &'g Guard<'g>,
    pub(super) front: End<'g, E, S>,
    pub(super) back: End<'g, E, S>,
    /// What the back must not pass.
    pub(super) low: Option<Limit<'g, E>>,
    /// What the front must not pass.
    pub(super) high: Option<Limit<'g, E>>,
    pub(super) is_done: bool,
    /// Segments that the back has entered, so that an inconsistent `Ord` cannot make it circle.
    crossings: u64,
}

impl<E: Entry, S: Shape> SkipList<E, S> {
    /// The living entries between two bounds. Bounds that exclude each other give nothing.
    pub(crate) fn range<'g, Q>(
        &'g self,
        bounds: (Bound<&Q>, Bound<&Q>),
        guard: &'g Guard<'_>,
    ) -> Cursor<'g, E, S>
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut cursor = Cursor {
            list: self,
            guard,
            front: End::new(),
            back: End::new(),
            low: None,
            high: None,
            is_done: false,
            crossings: 0,
        };
        match bounds.0 {
            Bound::Unbounded => {}
            Bound::Included(key) => cursor.seek_front(&Probe::new(key), false),
            Bound::Excluded(key) => cursor.seek_front(&Probe::new(key), true),
        }
        match bounds.1 {
            Bound::Unbounded => {}
            Bound::Included(key) => cursor.seek_back(&Probe::new(key), true),
            Bound::Excluded(key) => cursor.seek_back(&Probe::new(key), false),
        }
        if let (Some(low), Some(high)) = (&cursor.low, &cursor.high) {
            cursor.is_done |= low.entry.key() > high.entry.key();
        }
        cursor.front.is_clear = cursor.high.is_none();
        cursor.back.is_clear = cursor.low.is_none();
        cursor
    }
}

impl<'g, E: Entry, S: Shape> Cursor<'g, E, S> {
    /// Puts the front at the first entry that does not lie before the probe (or at it, if
    /// `or_equal`).
    fn seek_front<Q>(&mut self, probe: &Probe<'_, E::Key, Q>, or_equal: bool)
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (segment, content) = self.enter(probe, true);
        let child = content.child_of(probe, true);
        self.front.place = Some(Place { segment, content, child });
        self.read_front();
        self.front.at = rank(&self.front, probe, or_equal);
        while self.front.at == self.front.order.len() {
            if !self.advance() {
                return;
            }
            self.front.at = rank(&self.front, probe, or_equal);
        }
        self.prefetch_front();
        let first = self.front.item(self.front.at).map(Item::entry);
        self.low = first.map(|entry| Limit { entry, is_included: true });
    }

    /// Puts the back behind the last entry that lies before the probe (or at it, if `or_equal`).
    fn seek_back<Q>(&mut self, probe: &Probe<'_, E::Key, Q>, or_equal: bool)
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        if self.is_done {
            return;
        }
        let (segment, content) = self.enter(probe, or_equal);
        let child = content.child_of(probe, or_equal);
        self.back.place = Some(Place { segment, content, child });
        self.read_back();
        self.back.at = rank(&self.back, probe, or_equal);
        while self.back.at == 0 {
            if !self.retreat() {
                return;
            }
        }
        self.prefetch_back();
        let last = self.back.item(self.back.at - 1).map(Item::entry);
        self.high = last.map(|entry| Limit { entry, is_included: true });
    }

    /// The segment of the probe, or the last one that begins before it, and its content.
    fn enter<Q>(
        &self,
        probe: &Probe<'_, E::Key, Q>,
        or_equal: bool,
    ) -> (&'g Segment<E, S>, Content<'g, E>)
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut segment = self.list.descend(probe, or_equal, self.guard);
        loop {
            let content = segment.content(self.guard);
            if let Some(right) = segment.right_for(probe, or_equal, self.guard) {
                segment = right;
            } else if segment.is_dead() {
                segment = self.list.descend(probe, or_equal, self.guard);
            } else {
                return (segment, content);
            }
        }
    }

    /// Reads the leaf at the front's place.
    fn read_front(&mut self) {
        let Some(Place { content, child, .. }) = self.front.place else { return };
        let leaf = content.leaf(child, self.guard);
        leaf.prefetch_whole();
        self.front.read(leaf);
        self.front.at = 0;
    }

    /// Asks for the next entries of the front, and then for the leaf behind.
    fn prefetch_front(&self) {
        self.front.prefetch(self.front.at..self.front.at + AHEAD);
        if let Some(leaf) = self.front.neighbor(true, self.guard) {
            leaf.prefetch_whole();
        }
    }

    /// Reads the leaf at the back's place.
    fn read_back(&mut self) {
        let Some(Place { content, child, .. }) = self.back.place else { return };
        let leaf = content.leaf(child, self.guard);
        leaf.prefetch_whole();
        self.back.read(leaf);
        self.back.at = self.back.order.len();
    }

    /// Asks for the next entries of the back, and then for the leaf before.
    fn prefetch_back(&self) {
        self.back.prefetch(self.back.at.saturating_sub(AHEAD)..self.back.at);
        if let Some(leaf) = self.back.neighbor(false, self.guard) {
            leaf.prefetch_whole();
        }
    }

    /// Moves the front to the next leaf. At the end of the list the cursor is done.
    pub(super) fn advance(&mut self) -> bool {
        let guard = self.guard;
        let last = self.front.last().map(Item::key);
        if let Some(place) = &mut self.front.place {
            // All keys of the leaf that was read lie below the ones behind it, whatever is split
            // meanwhile; an empty leaf is known by where it begins.
            let low = fences(place.segment, place.content, place.child, None).0;
            let last = last.or(low);
            if place.child + 1 < place.content.len() {
                place.child += 1;
            } else {
                let mut next = Segment::alive(place.segment.link(0).next(guard), guard);
                // A segment that was split off behind our back holds what we gave out already.
                while let (Some(segment), Some(last)) = (next, last)
                    && segment.low().is_some_and(|low| low <= last)
                {
                    next = Segment::alive(segment.link(0).next(guard), guard);
                }
                let Some(segment) = next else {
                    self.is_done = true;
                    return false;
                };
                *place = Place { segment, content: segment.content(guard), child: 0 };
            }
        } else {
            let segment = &*self.list.head;
            self.front.place = Some(Place { segment, content: segment.content(guard), child: 0 });
        }
        self.read_front();
        self.prefetch_front();
        self.front.is_clear = match (&self.high, self.front.last()) {
            (Some(high), Some(last)) => last.key() < high.entry.key(),
            _ => true,
        };
        true
    }

    /// Moves the back to the previous leaf. At the start of the list the cursor is done.
    pub(super) fn retreat(&mut self) -> bool {
        let crossed = match &mut self.back.place {
            Some(place) if place.child > 0 => {
                place.child -= 1;
                None
            }
            Some(place) => {
                let low = place.segment.low();
                // Relaxed: under a consistent order the back enters each segment at most once.
                let is_circling = self.crossings > self.list.births.load(Ordering::Relaxed);
                let Some(low) = low.filter(|_| !is_circling) else {
                    self.is_done = true;
                    return false;
                };
                self.crossings += 1;
                let probe = Probe::<E::Key, E::Key>::new(low);
                let (segment, content) = self.enter(&probe, false);
                let child = content.child_of(&probe, false);
                self.back.place = Some(Place { segment, content, child });
                Some(low)
            }
            None => {
                let (segment, content) = self.enter_last();
                let child = content.len() - 1;
                self.back.place = Some(Place { segment, content, child });
                None
            }
        };
        self.read_back();
        if let Some(low) = crossed {
            // The segment may reach further by now than it did.
            while let Some(last) = self.back.at.checked_sub(1)
                && self.back.item(last).is_some_and(|item| item.key() >= low)
            {
                self.back.at = last;
            }
        }
        self.prefetch_back();
        self.back.is_clear = match (&self.low, self.back.item(0)) {
            (Some(low), Some(first)) => first.key() > low.entry.key(),
            _ => true,
        };
        true
    }

    /// The last segment and its content.
    fn enter_last(&self) -> (&'g Segment<E, S>, Content<'g, E>) {
        let (list, guard) = (self.list, self.guard);
        loop {
            let mut segment = &*list.head;
            // Relaxed: a lower top only means more steps.
            for level in (0..=list.top.load(Ordering::Relaxed)).rev() {
                while let Some(next) = segment.link(level).next(guard).filter(|it| !it.is_dead()) {
                    segment = next;
                }
            }
            loop {
                let content = segment.content(guard);
                match Segment::alive(segment.link(0).next(guard), guard) {
                    Some(next) => segment = next,
                    None if segment.is_dead() => break,
                    None => return (segment, content),
                }
            }
        }
    }

    pub(super) fn is_beyond_high(&self, entry: &E) -> bool {
        self.high.as_ref().is_some_and(|high| {
            let order = entry.key().cmp(high.entry.key());
            order.is_gt() || (order.is_eq() && !high.is_included)
        })
    }

    pub(super) fn is_beyond_low(&self, entry: &E) -> bool {
        self.low.as_ref().is_some_and(|low| {
            let order = entry.key().cmp(low.entry.key());
            order.is_lt() || (order.is_eq() && !low.is_included)
        })
    }
}

/// How many items of an end's leaf lie before the probe, or at it too if `or_equal`.
fn rank<E: Entry, S: Shape, Q>(
    end: &End<'_, E, S>,
    probe: &Probe<'_, E::Key, Q>,
    or_equal: bool,
) -> usize
where
    E::Key: Borrow<Q>,
    Q: Ord + ?Sized,
{
    let len = end.order.len();
    let item_at = |at: usize| end.item(at).expect("ranks stay below the length");
    let (hint_at, key_at) = (|at| item_at(at).hint, |at| item_at(at).key());
    let skip = end.leaf.map_or(0, Leaf::skip);
    let at = probe.rank(len, skip, or_equal, hint_at, key_at);
    // The leaf may be too old for its hints to hold for this probe: then keys decide.
    let is_right = probe.is_exact()
        || ((at == 0 || probe.is_after(key_at(at - 1), or_equal))
            && (at == len || !probe.is_after(key_at(at), or_equal)));
    if is_right { at } else { partition(0, len, |at| probe.is_after(key_at(at), or_equal)) }
}

/// How many entries ahead of the one given out are asked for.
pub(super) const AHEAD: usize = 16;

impl<E: Entry, S: Shape> fmt::Debug for Cursor<'_, E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").field("is_done", &self.is_done).finish_non_exhaustive()
    }
}
