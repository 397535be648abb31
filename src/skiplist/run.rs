//! A run: the entries of one leaf in order, on the stack, for whoever builds a new leaf.
//!
//! 1. The first `len` places are filled.
//! 2. A run holds one entry more than a leaf may, so that a full leaf and a newcomer fit.
//!
//! Used by `insert` and `sweep`.

use super::hint::{Class, class, hint};
use super::shape::Entry;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// The most entries that a leaf of any shape holds.
pub(super) const LEAF_MAX: usize = 64;

/// An entry and its hint.
pub(super) struct Item<'g, E> {
    pub(super) hint: u64,
    raw: NonNull<E>,
    life: PhantomData<&'g E>,
}

impl<E> Clone for Item<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Item<'_, E> {}

impl<'g, E: Entry> Item<'g, E> {
    /// # Safety
    /// `raw` came from a box, which is not freed during `'g`.
    #[inline]
    pub(super) unsafe fn new(hint: u64, raw: NonNull<E>) -> Self {
        Self { hint, raw, life: PhantomData }
    }

    #[inline]
    pub(super) fn raw(self) -> NonNull<E> {
        self.raw
    }

    #[inline]
    pub(super) fn entry(self) -> &'g E {
        // SAFETY: `new` was promised that the box lives during `'g`; entries are only shared.
        unsafe { self.raw.as_ref() }
    }

    #[inline]
    pub(super) fn key(self) -> &'g E::Key {
        self.entry().key()
    }

    /// The same entry with the hint that a leaf with this skip wants.
    pub(super) fn rehinted(self, skip: usize) -> Self {
        Self { hint: hint(self.key(), skip), ..self }
    }
}

/// Up to a leaf's entries and one more.
pub(super) struct Run<'g, E> {
    len: usize,
    items: [MaybeUninit<Item<'g, E>>; LEAF_MAX + 1],
}

impl<'g, E: Entry> Run<'g, E> {
    #[inline]
    pub(super) fn new() -> Self {
        Self { len: 0, items: [const { MaybeUninit::uninit() }; LEAF_MAX + 1] }
    }

    /// Holds these items, at most as many as a leaf may, instead of what it held.
    #[inline]
    pub(super) fn refill(&mut self, items: impl ExactSizeIterator<Item = Item<'g, E>>) {
        self.len = items.len().min(LEAF_MAX);
        for (place, item) in self.items.iter_mut().zip(items).take(LEAF_MAX) {
            place.write(item);
        }
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[Item<'g, E>] {
        let filled = self.items.get(..self.len).unwrap_or_default();
        // SAFETY: invariant 1; a slice of filled places has the layout of a slice of items.
        unsafe { &*(std::ptr::from_ref(filled) as *const [Item<'g, E>]) }
    }

    /// Adds an item at the end.
    #[inline]
    pub(super) fn push(&mut self, item: Item<'g, E>) {
        let place = self.items.get_mut(self.len).expect("invariant 2: a leaf and one more fit");
        place.write(item);
        self.len += 1;
    }

    /// Adds an item behind the first `at`.
    pub(super) fn insert(&mut self, at: usize, item: Item<'g, E>) {
        self.push(item);
        if let Some(moved) = self.items.get_mut(at..self.len) {
            moved.rotate_right(1);
        }
    }

    /// Puts an item in the place of an entry, if that is here.
    pub(super) fn replace(&mut self, old: &E, new: Item<'g, E>) {
        let at = self.as_slice().iter().position(|item| std::ptr::eq(item.entry(), old));
        if let Some(place) = at.and_then(|at| self.items.get_mut(at)) {
            place.write(new);
        }
    }

    /// Keeps the items that `keep` accepts, in order.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(Item<'g, E>) -> bool) {
        let mut kept = Self::new();
        for item in self.as_slice() {
            if keep(*item) {
                kept.push(*item);
            }
        }
        *self = kept;
    }
}

/// Whether an item comes before another of the same leaf.
#[inline]
pub(super) fn precedes<E: Entry>(item: Item<'_, E>, other: Item<'_, E>) -> bool {
    match class::<E::Key>() {
        Class::Exact => item.hint < other.hint,
        Class::Lead | Class::Bytes if item.hint != other.hint => item.hint < other.hint,
        Class::Lead | Class::Bytes | Class::Opaque => item.key() < other.key(),
    }
}
