//! The list itself: its head, what guards its structure, its birth and its end.
//!
//! 1. The head is never dead, never unlinked, and the only segment without a low key.
//! 2. All guards that come to one list are of one collector.
//!
//! The other files of `skiplist` add the operations.

use super::content::{Content, Seed};
use super::leaf::Leaf;
use super::run::LEAF_MAX;
use super::segment::Segment;
use super::shape::{Entry, Shape, Wide};
use crate::epoch::Guard;
use crate::slab::Boxed;
use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize, Mutex};
use std::fmt;

/// An insertion found its key taken.
pub(crate) struct Occupied<'g, E> {
    /// The entry that was to be inserted.
    pub(crate) entry: Boxed<E>,
    /// The one that is there.
    pub(crate) found: &'g E,
}

impl<E> fmt::Debug for Occupied<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Occupied").finish_non_exhaustive()
    }
}

/// An ordered map from `E::Key` to `E`.
///
/// All guards passed to one list must come from one collector.
pub(crate) struct SkipList<E: Entry, S: Shape = Wide> {
    pub(super) head: Box<Segment<E, S>>,
    /// The highest level with a link.
    pub(super) top: AtomicUsize,
    /// The last segment, or one that was the last; null if none is known. Keys that arrive in
    /// order go there without a search.
    pub(super) edge: AtomicPtr<Segment<E, S>>,
    /// Guards the express links, `top`, `edge`, and the death of segments.
    pub(super) structural: Mutex<()>,
    /// Segments ever made after the head.
    pub(super) births: AtomicU64,
}

impl<E: Entry, S: Shape> SkipList<E, S> {
    pub(crate) fn new() -> Self {
        const { assert!(S::LEAF >= 2 && S::LEAF <= LEAF_MAX && S::SEGMENT >= 2) };
        let leaf = Leaf::<E>::build(&[], S::TAIL.clamp(1, S::LEAF), 0);
        let seed = || Seed { leaf: leaf.as_raw(), separator: std::ptr::null_mut(), hint: Some(0) };
        let content = Content::build(1, 0, |_| seed());
        Self {
            head: Box::new(Segment::new(None, content, 0)),
            top: AtomicUsize::new(0),
            edge: AtomicPtr::new(std::ptr::null_mut()),
            structural: Mutex::new(()),
            births: AtomicU64::new(0),
        }
    }

    /// Entries in the index, dead ones that wait for a sweep among them. Visits every segment.
    pub(crate) fn len(&self, guard: &Guard<'_>) -> usize {
        self.segments(guard).map(Segment::entries).sum()
    }

    /// The segments from left to right.
    pub(super) fn segments<'g>(
        &'g self,
        guard: &'g Guard<'_>,
    ) -> impl Iterator<Item = &'g Segment<E, S>> {
        std::iter::successors(Some(&*self.head), |segment| segment.link(0).next(guard))
    }
}

impl<E: Entry, S: Shape> Drop for SkipList<E, S> {
    /// Frees everything at once: nobody can be inside.
    fn drop(&mut self) {
        // SAFETY: the list is borrowed mutably and goes away, so nobody uses it any more.
        unsafe { self.head.free_chain() }
    }
}

impl<E: Entry, S: Shape> fmt::Debug for SkipList<E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SkipList").finish_non_exhaustive()
    }
}
