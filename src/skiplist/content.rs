//! A content: what a segment holds at one time, leaves and the separators between them.
//!
//! ```text
//! skip | samples [ 70 ] | children [ ., *leaf | 40, *leaf | 70, *leaf ] | separators [ - 40 70 ]
//! ```
//!
//! 1. Only the leaf pointers change, under the segment's lock; a change in the number of leaves
//!    makes a new content, which shares the leaves and the boxed separators that stay.
//! 2. Child `i` holds the keys from separator `i` up to separator `i + 1`. The first separator is
//!    not used: the first child begins at the segment's low key.
//! 3. Separators ascend, and hints are those of the separators at `skip`.
//! 4. `skip` is at most the number of leading bytes that all keys of the segment share.
//! 5. The newest content of a segment owns its separators.
//! 6. Samples are every sixteenth hint. A search reads them, which many searches share, then the
//!    few lines between two of them, and finds the leaf's address beside the hint.
//!
//! Used by `segment` and those who work on segments.

use super::block::{Block, Front};
use super::hint::{Probe, count_below, hint};
use super::leaf::{Leaf, RawLeaf};
use super::prefetch::prefetch;
use super::shape::Entry;
use crate::epoch::Guard;
use crate::sync::{AtomicPtr, Ordering, UnsafeCell, load_owned};
use std::borrow::Borrow;
use std::ptr::NonNull;

/// Children from one sample to the next.
const STEP: usize = 16;
/// Samples of a content; enough for 256 children. Behind the last one a step may be longer.
const SAMPLES: usize = 15;
/// Cache lines of the children between two samples.
const STEP_LINES: usize = (STEP * size_of::<Child>()).div_ceil(64) + 1;

/// The header of a content.
pub(super) struct Head {
    skip: UnsafeCell<usize>,
    samples: [u64; SAMPLES],
}

/// What a pointer to a content points to.
pub(super) type RawContent = Front<Head>;

/// A place for a leaf, and the hint of its separator.
pub(super) struct Child {
    hint: u64,
    leaf: AtomicPtr<RawLeaf>,
}

/// A leaf and its separator, for building a content.
pub(super) struct Seed<K> {
    pub(super) leaf: *mut RawLeaf,
    /// A boxed key; null at the first child of a new segment.
    pub(super) separator: *mut K,
    /// The hint of the separator, if it is known already for the content's skip.
    pub(super) hint: Option<u64>,
}

/// A handle of a content that lives during `'g`.
pub(super) struct Content<'g, E: Entry>(Block<'g, Head, Child, *mut E::Key>);

impl<E: Entry> Clone for Content<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Entry> Copy for Content<'_, E> {}

impl<'g, E: Entry> Content<'g, E> {
    /// `seed` gives the same for the same child each time.
    pub(super) fn build(len: usize, skip: usize, seed: impl Fn(usize) -> Seed<E::Key>) -> Self {
        let hint_of = |seed: &Seed<E::Key>| {
            // SAFETY: a seed's separator is null or a boxed key that outlives this content.
            let key = unsafe { seed.separator.as_ref() };
            seed.hint.unwrap_or_else(|| key.map_or(0, |key| hint(key, skip)))
        };
        let samples = std::array::from_fn(|at| {
            let child = (at + 1) * STEP;
            if child < len { hint_of(&seed(child)) } else { u64::MAX }
        });
        Self(Block::build(Head { skip: UnsafeCell::new(skip), samples }, len, |index| {
            let seed = seed(index);
            let child = Child { hint: hint_of(&seed), leaf: AtomicPtr::new(seed.leaf) };
            (child, seed.separator)
        }))
    }

    /// # Safety
    /// `raw` is from [`Content::as_raw`] of a content of the same entry type, its building
    /// happened before, and neither it nor what it leads to is freed during `'g`.
    #[inline]
    pub(super) unsafe fn from_raw(raw: NonNull<RawContent>) -> Self {
        // SAFETY: the caller's promise covers the block's.
        Self(unsafe { Block::from_raw(raw) })
    }

    #[inline]
    pub(super) fn as_raw(self) -> *mut RawContent {
        self.0.as_raw()
    }

    /// Frees a content, but neither its leaves nor its separators.
    ///
    /// # Safety
    /// `raw` is from [`Content::as_raw`] of a content of the same entry type, and nobody uses the
    /// content any more.
    #[expect(clippy::cast_ptr_alignment, reason = "it was a pointer to this type before")]
    pub(super) unsafe fn free_raw(raw: *mut u8) {
        let Some(raw) = NonNull::new(raw.cast::<RawContent>()) else { return };
        // SAFETY: the caller's promise.
        let block = unsafe { Self::from_raw(raw) }.0;
        // Tells a model checker that all reading must have ended.
        block.header().skip.with_mut(|_| ());
        // SAFETY: the caller's promise.
        unsafe { block.free() };
    }

    /// Bytes that the content takes.
    pub(super) fn size(self) -> usize {
        Block::<Head, Child, *mut E::Key>::size(self.0.len())
    }

    /// How many leaves there are; at least one.
    #[inline]
    pub(super) fn len(self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(super) fn skip(self) -> usize {
        // SAFETY: written before the content was published and never again.
        self.0.header().skip.with(|skip| unsafe { *skip })
    }

    /// The leaf of a child below `len`.
    #[inline]
    pub(super) fn leaf(self, index: usize, _guard: &'g Guard<'_>) -> Leaf<'g, E> {
        // Acquire: partner of the release in `replace_leaf`, and of the one that published this
        // content, whichever put the leaf here.
        let raw = self.0.first(index).leaf.load(Ordering::Acquire);
        Self::handle(raw)
    }

    /// The leaf of a child below `len`, for the holder of the segment's lock.
    pub(super) fn leaf_owned(self, index: usize) -> Leaf<'g, E> {
        Self::handle(load_owned!(self.0.first(index).leaf))
    }

    #[inline]
    fn handle(raw: *mut RawLeaf) -> Leaf<'g, E> {
        let raw = NonNull::new(raw).expect("a child always has a leaf");
        // SAFETY: contents are built with leaves and `replace_leaf` puts leaves; whoever takes one
        // out retires it, and this content's handle keeps what it leads to during `'g`.
        unsafe { Leaf::from_raw(raw) }
    }

    /// Puts a leaf in another's place. The caller holds the segment's lock and retires the old one.
    pub(super) fn replace_leaf(self, index: usize, leaf: Leaf<'_, E>) {
        // Release: partner of the acquire in `leaf`; the leaf is built.
        self.0.first(index).leaf.store(leaf.as_raw(), Ordering::Release);
    }

    /// The separator of a child below `len`. Only the first may have none.
    #[inline]
    pub(super) fn separator(self, index: usize) -> Option<&'g E::Key> {
        // SAFETY: invariant 5: separators are retired after the contents that name them are
        // replaced, so they live as long as this handle.
        unsafe { self.0.second(index).as_ref() }
    }

    /// The box of a separator.
    pub(super) fn separator_raw(self, index: usize) -> *mut E::Key {
        *self.0.second(index)
    }

    /// Child `index` as it is now, for a content with the given skip. For the lock's holder.
    pub(super) fn seed(self, index: usize, skip: usize) -> Seed<E::Key> {
        Seed {
            leaf: self.leaf_owned(index).as_raw(),
            separator: self.separator_raw(index),
            hint: (skip == self.skip()).then(|| self.0.first(index).hint),
        }
    }

    /// The last child whose separator lies before the probe, or at it if `or_equal`.
    #[inline]
    pub(super) fn child_of<Q>(self, probe: &Probe<'_, E::Key, Q>, or_equal: bool) -> usize
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        // The first child has no separator to compare with: the others are ranked.
        let key_at = |index| self.separator(index + 1).expect("only the first may have none");
        let others = self.len().saturating_sub(1);
        let hint_at = |index| self.0.first(index + 1).hint;
        let below = |bound| self.count_below(others, bound);
        probe.rank_with(others, self.skip(), or_equal, below, hint_at, key_at)
    }

    /// How many hints are below a bound, the first child's left out.
    #[inline]
    fn count_below(self, others: usize, bound: u64) -> usize {
        let samples = &self.0.header().samples;
        let sample_at = |at| samples.get(at).copied().unwrap_or(u64::MAX);
        // Only samples of real children are below any bound.
        let passed = STEP * count_below(SAMPLES, bound, sample_at);
        let start = NonNull::from(self.0.first(passed)).cast();
        (0..STEP_LINES).for_each(|line| prefetch(start, line));
        let rest = others - passed;
        let rest = if passed == STEP * SAMPLES { rest } else { rest.min(STEP) };
        passed + count_below(rest, bound, |index| self.0.first(passed + index + 1).hint)
    }

    /// Whether the samples are what invariant 6 says, for `check`.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn has_right_samples(self) -> bool {
        let children = (1..).map(|number| number * STEP);
        self.0.header().samples.iter().zip(children).all(|(sample, child)| {
            let is_real = child < self.len();
            *sample == if is_real { self.0.first(child).hint } else { u64::MAX }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skiplist::hint::shared;
    use crate::slab::Boxed;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::fmt::Debug;

    struct Only<K>(K);

    impl<K: Ord + Clone + Send + Sync + 'static> Entry for Only<K> {
        type Key = K;

        fn key(&self) -> &K {
            &self.0
        }

        fn is_dead(&self) -> bool {
            false
        }
    }

    /// Looks for keys in a content whose children begin at these keys, the first one apart.
    fn search<K: Ord + Clone + Debug + Send + Sync + 'static>(starts: &BTreeSet<K>, keys: &[K]) {
        let skip = shared(starts.first(), starts.last());
        let leaf = Leaf::<Only<K>>::build(&[], 1, 0);
        let boxes: Vec<*mut K> =
            starts.iter().map(|key| Boxed::leak(Boxed::new(key.clone())).as_ptr()).collect();
        let content = Content::<Only<K>>::build(boxes.len() + 1, skip, |at| {
            let separator = at.checked_sub(1).map_or(std::ptr::null_mut(), |at| boxes[at]);
            Seed { leaf: leaf.as_raw(), separator, hint: None }
        });
        assert!(content.has_right_samples());
        for key in starts.iter().chain(keys.iter().filter(|_| skip == 0)) {
            let probe = Probe::<K, K>::new(key);
            let before = starts.iter().filter(|start| *start < key).count();
            assert_eq!(content.child_of(&probe, false), before, "before {key:?}");
            let up_to = before + usize::from(starts.contains(key));
            assert_eq!(content.child_of(&probe, true), up_to, "up to {key:?}");
        }
        // SAFETY: nobody else has the content.
        unsafe { Content::<Only<K>>::free_raw(content.as_raw().cast()) };
        // SAFETY: the content that named the leaf is gone.
        unsafe { Leaf::<Only<K>>::free_raw(leaf.as_raw().cast()) };
        for raw in boxes {
            // SAFETY: a box gave the pointer away, and the content that named it is gone.
            drop(unsafe { Boxed::from_raw(NonNull::new(raw).unwrap()) });
        }
    }

    proptest! {
        #[test]
        fn a_child_is_found_among_any_number(
            starts in prop::collection::btree_set(0..2000_u64, 0..400),
            keys in prop::collection::vec(0..2000_u64, 20),
        ) {
            search(&starts, &keys);
        }

        #[test]
        fn a_child_is_found_where_many_hints_are_equal(
            prefix in "a{0,9}",
            starts in prop::collection::btree_set("[ab]{0,12}", 0..400),
            keys in prop::collection::vec("[ab]{0,12}", 20),
        ) {
            let starts = starts.iter().map(|start| format!("{prefix}{start}")).collect();
            search(&starts, &keys);
        }

        #[test]
        fn a_child_is_found_without_hints(
            starts in prop::collection::btree_set((0..2000_u16, any::<bool>()), 0..400),
            keys in prop::collection::vec((0..2000_u16, any::<bool>()), 20),
        ) {
            search(&starts, &keys);
        }
    }
}
