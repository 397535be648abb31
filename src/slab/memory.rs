//! Memory without content: a place, or a block of the global allocator.
//!
//! 1. Nobody else has it, and it holds nothing. Dropping it gives it back.
//!
//! Used by `boxed`, by `epoch` for what is used again, and by the blocks of `skiplist`.

use super::class::class_of;
use super::shelf;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Memory of a layout, to be filled.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: memory that holds nothing may be filled or freed by any thread.
unsafe impl Send for Memory {}

impl Memory {
    /// Memory for something of this layout.
    #[inline]
    pub(crate) fn take(layout: Layout) -> Self {
        let start = class_of(layout).map_or_else(|| allocate(not_empty(layout)), shelf::take);
        Self { start, layout }
    }

    /// What [`into_raw`](Self::into_raw) of memory with this layout gave.
    ///
    /// # Safety
    /// It was given so, and holds nothing that is still to be dropped; nobody else uses it.
    #[inline]
    pub(crate) unsafe fn from_raw(start: NonNull<u8>, layout: Layout) -> Self {
        Self { start, layout }
    }

    /// Where it begins.
    #[inline]
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Where it begins. The caller answers for its going back.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<u8> {
        let start = self.start;
        std::mem::forget(self);
        start
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }
}

/// A block of the global allocator, for a layout that has a size.
fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: `not_empty` made the layout, so the size is not zero.
    let start = unsafe { alloc(layout) };
    NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout))
}

/// The global allocator serves no request for nothing.
fn not_empty(layout: Layout) -> Layout {
    let size = layout.size().max(1);
    Layout::from_size_align(size, layout.align()).expect("a byte more than none fits")
}

impl Drop for Memory {
    #[inline]
    fn drop(&mut self) {
        match class_of(self.layout) {
            // SAFETY: `take` got it from there, as the layout says.
            Some(class) => unsafe { shelf::give(self.start, class) },
            // SAFETY: as above.
            None => unsafe { dealloc(self.start.as_ptr(), not_empty(self.layout)) },
        }
    }
}
