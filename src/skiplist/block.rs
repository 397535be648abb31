//! One piece of memory that holds a header and two arrays of the same length.
//!
//! ```text
//! raw ─► len | header | A A A ... | B B B ...
//! ```
//!
//! 1. A block that was built has all its elements; its length never changes.
//! 2. A handle is a copyable pointer. Whoever makes one with [`Block::from_raw`] answers for the
//!    block living as long as the handle's lifetime says.
//! 3. The pointer is that of the whole memory, so it reaches the arrays behind the header.
//!
//! Used by `leaf` and `content`.

use crate::slab::{Memory, spent};
use std::alloc::Layout;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// The sized beginning of a block.
#[repr(C)]
pub(super) struct Front<H> {
    len: usize,
    header: H,
}

/// A handle of a block.
pub(super) struct Block<'g, H, A, B> {
    raw: NonNull<Front<H>>,
    life: PhantomData<(&'g H, &'g A, &'g B)>,
}

impl<H, A, B> Clone for Block<'_, H, A, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H, A, B> Copy for Block<'_, H, A, B> {}

impl<'g, H, A, B> Block<'g, H, A, B> {
    /// The layout for `len` elements and where the two arrays begin.
    fn layout(len: usize) -> (Layout, usize, usize) {
        const FITS: &str = "blocks are far smaller than the address space";
        let arrays = (Layout::array::<A>(len).expect(FITS), Layout::array::<B>(len).expect(FITS));
        let (layout, a) = Layout::new::<Front<H>>().extend(arrays.0).expect(FITS);
        let (layout, b) = layout.extend(arrays.1).expect(FITS);
        (layout, a, b)
    }

    /// Bytes that a block of `len` elements takes.
    pub(super) fn size(len: usize) -> usize {
        spent(Self::layout(len).0)
    }

    /// Builds a block; `element` must not panic, or the block leaks.
    pub(super) fn build(header: H, len: usize, mut element: impl FnMut(usize) -> (A, B)) -> Self {
        let (layout, a, b) = Self::layout(len);
        let raw = Memory::take(layout).into_raw();
        let front = raw.cast::<Front<H>>();
        // SAFETY: the allocation begins with room for a `Front<H>`, aligned for it.
        unsafe { front.write(Front { len, header }) };
        // SAFETY: `layout` put the first array at this offset inside the allocation.
        let first = unsafe { raw.byte_add(a) }.cast::<A>();
        // SAFETY: `layout` put the second array at this offset inside the allocation.
        let second = unsafe { raw.byte_add(b) }.cast::<B>();
        for index in 0..len {
            let (left, right) = element(index);
            // SAFETY: `index < len`, so the place is inside the first array.
            let place = unsafe { first.add(index) };
            // SAFETY: the place is ours and aligned.
            unsafe { place.write(left) };
            // SAFETY: `index < len`, so the place is inside the second array.
            let place = unsafe { second.add(index) };
            // SAFETY: the place is ours and aligned.
            unsafe { place.write(right) };
        }
        Self { raw: front, life: PhantomData }
    }

    /// # Safety
    /// `raw` came from [`Block::as_raw`] of a block of these types, and what built it happened
    /// before; the block is not freed during `'g`.
    #[inline]
    pub(super) unsafe fn from_raw(raw: NonNull<Front<H>>) -> Self {
        Self { raw, life: PhantomData }
    }

    #[inline]
    pub(super) fn as_raw(self) -> *mut Front<H> {
        self.raw.as_ptr()
    }

    /// Where the block begins; for prefetching.
    #[inline]
    pub(super) fn as_non_null(self) -> NonNull<Front<H>> {
        self.raw
    }

    /// Frees the block and drops what is in it.
    ///
    /// # Safety
    /// Nobody uses any handle of this block any more.
    pub(super) unsafe fn free(self) {
        let (layout, a, b) = Self::layout(self.len());
        let raw = self.raw.cast::<u8>();
        // SAFETY: invariant 1: the first array holds `len` elements at this offset.
        let first = unsafe { raw.byte_add(a) }.cast::<A>();
        // SAFETY: invariant 1: the second array holds `len` elements at this offset.
        let second = unsafe { raw.byte_add(b) }.cast::<B>();
        let first = NonNull::slice_from_raw_parts(first, self.len());
        let second = NonNull::slice_from_raw_parts(second, self.len());
        // SAFETY: the elements were built and, by the caller's promise, are not used any more.
        unsafe { first.drop_in_place() };
        // SAFETY: as for the first array.
        unsafe { second.drop_in_place() };
        // SAFETY: as for the arrays.
        unsafe { self.raw.drop_in_place() };
        // SAFETY: `build` took it with the layout of this length, and all in it is dropped.
        drop(unsafe { Memory::from_raw(raw, layout) });
    }

    #[inline]
    fn front(self) -> &'g Front<H> {
        // SAFETY: invariant 2: the block lives during `'g`; fronts are only shared after `build`.
        unsafe { self.raw.as_ref() }
    }

    #[inline]
    pub(super) fn len(self) -> usize {
        self.front().len
    }

    #[inline]
    pub(super) fn header(self) -> &'g H {
        &self.front().header
    }

    #[inline]
    fn firsts(self) -> NonNull<A> {
        let offset = const { size_of::<Front<H>>().next_multiple_of(align_of::<A>()) };
        // SAFETY: `layout` put the first array right behind the header, as `extend` pads it.
        unsafe { self.raw.byte_add(offset) }.cast()
    }

    #[inline]
    fn seconds(self) -> NonNull<B> {
        let first = const { size_of::<Front<H>>().next_multiple_of(align_of::<A>()) };
        let offset = (first + self.len() * size_of::<A>()).next_multiple_of(align_of::<B>());
        // SAFETY: `layout` put the second array right behind the first, as `extend` pads it.
        unsafe { self.raw.byte_add(offset) }.cast()
    }

    #[inline]
    pub(super) fn first(self, index: usize) -> &'g A {
        debug_assert!(index < self.len(), "callers stay inside the arrays");
        // SAFETY: every caller bounds `index` by this block's length.
        let place = unsafe { self.firsts().add(index) };
        // SAFETY: invariants 1 and 2.
        unsafe { place.as_ref() }
    }

    #[inline]
    pub(super) fn second(self, index: usize) -> &'g B {
        debug_assert!(index < self.len(), "callers stay inside the arrays");
        // SAFETY: every caller bounds `index` by this block's length.
        let place = unsafe { self.seconds().add(index) };
        // SAFETY: invariants 1 and 2.
        unsafe { place.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_any_alignment_come_back() {
        let block = Block::<u8, u16, u64>::build(7, 5, |index| {
            (u16::try_from(index).unwrap(), index as u64 * 10)
        });
        assert_eq!((*block.header(), block.len()), (7, 5));
        for index in 0..5 {
            assert_eq!(usize::from(*block.first(index)), index);
            assert_eq!(*block.second(index), index as u64 * 10);
        }
        // SAFETY: the only handle.
        unsafe { block.free() };
    }
}
