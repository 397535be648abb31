//! The boxes of the shipped slab over the global allocator. What lies between the two are locks,
//! which nobody holds while anything else happens: there is nothing to model.

#[path = "../../src/slab/boxed.rs"]
mod boxed;
#[path = "../../src/slab/memory.rs"]
mod memory;

pub(crate) use boxed::Boxed;
pub(crate) use class::spent;
pub(crate) use memory::Memory;

/// An empty vector with room for so many.
pub(crate) fn roomy<T>(capacity: usize) -> Vec<T> {
    Vec::with_capacity(capacity)
}

mod class {
    use std::alloc::Layout;

    /// Nothing is served by a shelf here.
    pub(super) fn class_of(_: Layout) -> Option<usize> {
        None
    }

    pub(crate) const fn spent(layout: Layout) -> usize {
        crate::heap::allocated(layout.size())
    }
}

mod shelf {
    use std::ptr::NonNull;

    pub(super) fn take(_: usize) -> NonNull<u8> {
        unreachable!("no layout has a class")
    }

    /// # Safety
    /// Nothing is asked, for nobody calls it.
    pub(super) unsafe fn give(_: NonNull<u8>, _: usize) {
        unreachable!("no layout has a class")
    }
}
