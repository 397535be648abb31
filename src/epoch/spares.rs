//! Memory of freed boxes, kept by a slot for the next boxes of its owner.
//!
//! ```text
//! shelf 0: 192 bytes  ■ ■ ■      shelf 1: 24 bytes  ■ ■      shelf 2: empty ..
//!                         ▲ the last one in, which is the warmest, goes out first
//! ```
//!
//! A transaction makes about as many versions and nodes as it frees old ones. Taking the memory of
//! those is cheaper than the allocator's way, which touches memory that is cold.
//!
//! 1. A spare came from the global allocator with the layout that it names, holds nothing, and is
//!    reachable from its shelf only. So a box made of it is like any other.
//! 2. A shelf holds a few spares; what finds no room goes back to the allocator.
//!
//! Used by `slot` and `guard`, and only by a slot's owner.

use std::alloc::{Layout, dealloc};
use std::mem::{self, MaybeUninit};
use std::ptr::NonNull;

const SHELVES: usize = 4;
/// Spares on one shelf. None under Miri, which is to see where a box ends.
const SPARES_MAX: usize = if cfg!(miri) { 0 } else { 32 };

/// The memory of a box whose content is gone. Dropping it gives the memory back.
#[derive(Debug)]
pub(super) struct Spare {
    memory: NonNull<u8>,
    layout: Layout,
}

// SAFETY: memory that holds nothing may be freed or filled by any thread.
unsafe impl Send for Spare {}

impl Spare {
    /// Drops what the box holds and keeps its memory. Runs user code.
    ///
    /// # Safety
    /// `object` came from a box of a `T`, which nobody else frees and nobody can reach.
    pub(super) unsafe fn empty<T>(object: *mut T) -> Option<Self> {
        // SAFETY: promised by the caller. As a box of nothing in particular it frees the memory,
        // also when the content's destructor panics.
        let mut memory = unsafe { Box::<MaybeUninit<T>>::from_raw(object.cast()) };
        // SAFETY: the caller gives up a `T` that is alive.
        unsafe { memory.assume_init_drop() };
        let layout = Layout::new::<T>();
        let memory = NonNull::from(Box::leak(memory)).cast();
        (layout.size() > 0).then_some(Self { memory, layout })
    }

    /// A box, leaked, of this memory, which has the layout of a `T`.
    pub(super) fn fill<T>(self, content: T) -> NonNull<T> {
        assert!(self.layout == Layout::new::<T>(), "a spare serves its own layout");
        let memory = self.memory.cast::<T>();
        mem::forget(self);
        // SAFETY: the memory has the layout of a `T` and is nobody else's (1).
        unsafe { memory.write(content) };
        memory
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // SAFETY: the memory came from the global allocator with this layout (1).
        unsafe { dealloc(self.memory.as_ptr(), self.layout) }
    }
}

/// The spares of one slot: a shelf has one layout at a time.
#[derive(Debug, Default)]
pub(super) struct Spares {
    shelves: [Vec<Spare>; SHELVES],
}

impl Spares {
    fn shelf(&mut self, layout: Layout) -> &mut Vec<Spare> {
        let [first, second, third, fourth] = &mut self.shelves;
        // Versions and nodes of the usual sizes get shelves of their own.
        match layout.size() / 16 % SHELVES {
            0 => first,
            1 => second,
            2 => third,
            _ => fourth,
        }
    }

    #[inline]
    pub(super) fn take(&mut self, layout: Layout) -> Option<Spare> {
        self.shelf(layout).pop_if(|spare| spare.layout == layout)
    }

    /// Answers the spare again if there is no room for it.
    pub(super) fn put(&mut self, spare: Spare) -> Option<Spare> {
        let spares = self.shelf(spare.layout);
        let fits = spares.last().is_none_or(|last| last.layout == spare.layout);
        if spares.len() >= SPARES_MAX || !fits {
            return Some(spare);
        }
        spares.push(spare);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spare<T>(content: T) -> Spare {
        // SAFETY: the box was made just now and nobody else has it.
        unsafe { Spare::empty(Box::into_raw(Box::new(content))) }.expect("it has a size")
    }

    #[test]
    fn box_is_made_of_the_memory_of_one_with_the_same_layout() {
        let mut spares = Spares::default();
        assert!(spares.put(spare([1_u64; 3])).is_none() || cfg!(miri));
        assert!(spares.take(Layout::new::<[u64; 2]>()).is_none(), "another layout");
        assert!(spares.take(Layout::new::<[u64; 11]>()).is_none(), "another one on that shelf");
        if let Some(spare) = spares.take(Layout::new::<[u64; 3]>()) {
            let made = spare.fill([7_u64, 8, 9]);
            // SAFETY: the box was made just now and nobody else has it.
            assert_eq!(*unsafe { Box::from_raw(made.as_ptr()) }, [7, 8, 9]);
        }
        assert!(spares.take(Layout::new::<[u64; 3]>()).is_none(), "there was one");
    }

    #[test]
    fn full_shelf_refuses_and_keeps_to_one_layout() {
        let mut spares = Spares::default();
        let refused = (0..100).filter(|_| spares.put(spare(0_u64)).is_some()).count();
        assert_eq!(refused, 100 - SPARES_MAX);
        let other = spares.put(spare([0_u64; 8]));
        assert!(other.is_some(), "the shelf of both is taken");
    }
}
