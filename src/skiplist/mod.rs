//! The index: an ordered map from keys to entries, as a skiplist of fat segments.
//!
//! ```text
//! express levels   head ───────────────► S2 ──────────► ...      hints beside every link
//! level 0          head ──► S1 ────────► S2 ──► S3 ───► ...      authoritative, by low key
//! segment          low | lock | content* ─► separators | leaf, leaf, ...     up to 256
//! leaf             hints | entries, a sorted run and a short tail            up to 64
//! ```
//!
//! Readers take no lock and wait for nobody. Writers lock the one segment they change; towers
//! change under one structural mutex, once per some thousand keys. What readers may hold is
//! replaced and retired, never changed in place, but for places that nobody has seen yet.
//!
//! 1. Low keys strictly ascend along level 0.
//! 2. Separators strictly ascend inside a content and lie between the segment's fences.
//! 3. Every key of a leaf lies between the leaf's fences.
//! 4. Filled places of a leaf never change; places beyond its count are not read.
//! 5. The run of a leaf is sorted by hint and key.
//! 6. At most one living entry has a given key.
//! 7. The `skip` of a leaf or content is at most what its fences share. Fences may move together
//!    under an old skip, never apart.
//! 8. A hint at level 0 is at most the hint of the next segment's low key.
//! 9. Express links lead to segments that are not retired.
//! 10. What is retired cannot be reached from the head.
//! 11. No code of the user (`Ord`, `Clone`, `Drop`) runs between the first and the last store of
//!     a change of structure; locks are released when it panics.
//! 12. An inconsistent `Ord` gives wrong answers, but every loop ends and every index is in
//!     bounds: searches are clamped, and walks go along links in one direction.
//!
//! Lock order: segments from left to right, then the structural mutex.
//! `mvcc` uses it.

mod block;
mod check;
mod content;
mod cursor;
mod express;
mod hint;
mod insert;
mod leaf;
mod prefetch;
mod run;
mod search;
mod segment;
mod sweep;
#[cfg(test)]
mod tests;

use crate::epoch::Guard;
use crate::sync::{AtomicU64, AtomicUsize, Mutex};
use content::{Content, Seed};
use leaf::Leaf;
use segment::Segment;
use std::borrow::Borrow;
use std::fmt;

/// What the index holds: something with a key that never changes.
pub(crate) trait Entry: Send + Sync + 'static {
    /// The key's type.
    type Key: Ord + Clone + Send + Sync + 'static;
    /// The key; the same one at each call.
    fn key(&self) -> &Self::Key;
    /// Whether the entry is being removed. Once true it stays true, and readers pass over it.
    fn is_dead(&self) -> bool;
}

/// The links of a segment, one for each level.
pub(crate) trait Tower<L>: Send + Sync {
    /// A tower of links made one by one.
    fn make(make: impl FnMut() -> L) -> Self;
    /// The links, level 0 first.
    fn levels(&self) -> &[L];
}

impl<L: Send + Sync, const N: usize> Tower<L> for [L; N] {
    fn make(mut make: impl FnMut() -> L) -> Self {
        std::array::from_fn(|_| make())
    }

    #[inline]
    fn levels(&self) -> &[L] {
        self
    }
}

/// How wide leaves and segments are; tests use tiny ones.
pub(crate) trait Shape: Send + Sync + 'static {
    /// Entries in a leaf, two to 64.
    const LEAF: usize;
    /// Spare places in a leaf when it is built.
    const TAIL: usize;
    /// Leaves in a segment, at least two.
    const SEGMENT: usize;
    /// The tower, at least one level high.
    type Tower<L: Send + Sync>: Tower<L>;
}

/// The shape for use.
pub(crate) enum Wide {}

impl Shape for Wide {
    const LEAF: usize = 64;
    const TAIL: usize = 8;
    const SEGMENT: usize = 256;
    type Tower<L: Send + Sync> = [L; 20];
}

/// An insertion found its key taken.
pub(crate) struct Occupied<'g, E> {
    /// The entry that was to be inserted.
    pub(crate) entry: Box<E>,
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
    head: Box<Segment<E, S>>,
    /// The highest level with a link.
    top: AtomicUsize,
    /// Guards the express links, `top`, and the death of segments.
    structural: Mutex<()>,
    /// Segments ever made after the head.
    births: AtomicU64,
}

impl<E: Entry, S: Shape> SkipList<E, S> {
    pub(crate) fn new() -> Self {
        const { assert!(S::LEAF >= 2 && S::LEAF <= run::LEAF_MAX && S::SEGMENT >= 2) };
        let leaf = Leaf::<E>::build(&[], S::TAIL.clamp(1, S::LEAF), 0);
        let seed = || Seed { leaf: leaf.as_raw(), separator: std::ptr::null_mut(), hint: Some(0) };
        let content = Content::build(1, 0, |_| seed());
        Self {
            head: Box::new(Segment::new(None, content, 0)),
            top: AtomicUsize::new(0),
            structural: Mutex::new(()),
            births: AtomicU64::new(0),
        }
    }

    /// Entries in the index, dead ones that wait for a sweep among them. Visits every segment.
    pub(crate) fn len(&self, guard: &Guard<'_>) -> usize {
        self.segments(guard).map(Segment::entries).sum()
    }

    /// The living entry of `key`.
    #[inline]
    pub(crate) fn get<'g, Q>(&'g self, key: &Q, guard: &'g Guard<'_>) -> Option<&'g E>
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.lookup(key, guard)
    }

    /// The segments from left to right.
    fn segments<'g>(&'g self, guard: &'g Guard<'_>) -> impl Iterator<Item = &'g Segment<E, S>> {
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
