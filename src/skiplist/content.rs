//! A content: what a segment holds at one time, leaves and the separators between them.
//!
//! ```text
//! skip | hints [ . 40 70 ] | children [ -, *leaf | 40, *leaf | 70, *leaf ]
//! ```
//!
//! 1. Only the leaf pointers change, under the segment's lock; a change in the number of leaves
//!    makes a new content, which shares the leaves and the boxed separators that stay.
//! 2. Child `i` holds the keys from separator `i` up to separator `i + 1`. The first separator is
//!    not used: the first child begins at the segment's low key.
//! 3. Separators ascend, and hints are those of the separators at `skip`.
//! 4. `skip` is at most the number of leading bytes that all keys of the segment share.
//! 5. The newest content of a segment owns its separators.
//!
//! Used by `segment` and those who work on segments.

use super::block::{Block, Front};
use super::hint::{Probe, hint};
use super::leaf::{Leaf, RawLeaf};
use super::shape::Entry;
use crate::epoch::Guard;
use crate::sync::{AtomicPtr, Ordering, UnsafeCell, load_owned};
use std::borrow::Borrow;
use std::ptr::NonNull;

/// The header of a content.
pub(super) struct Head {
    skip: UnsafeCell<usize>,
}

/// What a pointer to a content points to.
pub(super) type RawContent = Front<Head>;

/// A place for a leaf.
pub(super) struct Child<K> {
    leaf: AtomicPtr<RawLeaf>,
    separator: *mut K,
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
pub(super) struct Content<'g, E: Entry>(Block<'g, Head, u64, Child<E::Key>>);

impl<E: Entry> Clone for Content<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Entry> Copy for Content<'_, E> {}

impl<'g, E: Entry> Content<'g, E> {
    pub(super) fn build(
        len: usize,
        skip: usize,
        mut seed: impl FnMut(usize) -> Seed<E::Key>,
    ) -> Self {
        let head = Head { skip: UnsafeCell::new(skip) };
        Self(Block::build(head, len, |index| {
            let Seed { leaf, separator, hint: known } = seed(index);
            // SAFETY: a seed's separator is null or a boxed key that outlives this content.
            let key = unsafe { separator.as_ref() };
            let hint = known.unwrap_or_else(|| key.map_or(0, |key| hint(key, skip)));
            (hint, Child { leaf: AtomicPtr::new(leaf), separator })
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
        Block::<Head, u64, Child<E::Key>>::size(self.0.len())
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
        let raw = self.0.second(index).leaf.load(Ordering::Acquire);
        Self::handle(raw)
    }

    /// The leaf of a child below `len`, for the holder of the segment's lock.
    pub(super) fn leaf_owned(self, index: usize) -> Leaf<'g, E> {
        Self::handle(load_owned!(self.0.second(index).leaf))
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
        self.0.second(index).leaf.store(leaf.as_raw(), Ordering::Release);
    }

    /// The separator of a child below `len`. Only the first may have none.
    #[inline]
    pub(super) fn separator(self, index: usize) -> Option<&'g E::Key> {
        // SAFETY: invariant 5: separators are retired after the contents that name them are
        // replaced, so they live as long as this handle.
        unsafe { self.0.second(index).separator.as_ref() }
    }

    /// The box of a separator.
    pub(super) fn separator_raw(self, index: usize) -> *mut E::Key {
        self.0.second(index).separator
    }

    /// Child `index` as it is now, for a content with the given skip. For the lock's holder.
    pub(super) fn seed(self, index: usize, skip: usize) -> Seed<E::Key> {
        Seed {
            leaf: self.leaf_owned(index).as_raw(),
            separator: self.separator_raw(index),
            hint: (skip == self.skip()).then(|| *self.0.first(index)),
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
        probe.rank(others, self.skip(), or_equal, |index| *self.0.first(index + 1), key_at)
    }
}
