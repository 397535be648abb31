//! Memory of freed boxes, kept by a slot for the next boxes of its owner.
//!
//! ```text
//! shelf 0: 192 bytes  ■ ■ ■      shelf 1: 24 bytes  ■ ■      shelf 2: empty ..
//!                         ▲ the last one in, which is the warmest, goes out first
//! ```
//!
//! A transaction makes about as many versions and nodes as it frees old ones. Taking the memory of
//! those takes no lock, and it is warm.
//!
//! 1. A shelf holds a few spares; what finds no room goes back where it came from.
//!
//! Used by `slot` and `guard`, and only by a slot's owner.

use crate::slab::Memory;
use std::alloc::Layout;

const SHELVES: usize = 4;
/// Spares on one shelf. None under checkers that are to see where a box ends.
const SPARES_MAX: usize = if cfg!(any(miri, palisade_plain_memory)) { 0 } else { 32 };

/// The spares of one slot: a shelf has one layout at a time.
#[derive(Debug, Default)]
pub(super) struct Spares {
    shelves: [Vec<Memory>; SHELVES],
}

impl Spares {
    fn shelf(&mut self, layout: Layout) -> &mut Vec<Memory> {
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
    pub(super) fn take(&mut self, layout: Layout) -> Option<Memory> {
        self.shelf(layout).pop_if(|spare| spare.layout() == layout)
    }

    /// Answers the spare again if there is no room for it.
    pub(super) fn put(&mut self, spare: Memory) -> Option<Memory> {
        let spares = self.shelf(spare.layout());
        let fits = spares.last().is_none_or(|last| last.layout() == spare.layout());
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
    use crate::slab::Boxed;

    fn spare<T>(content: T) -> Memory {
        Boxed::empty(Boxed::new(content))
    }

    #[test]
    fn box_is_made_of_the_memory_of_one_with_the_same_layout() {
        let mut spares = Spares::default();
        assert!(spares.put(spare([1_u64; 3])).is_none() || SPARES_MAX == 0);
        assert!(spares.take(Layout::new::<[u64; 2]>()).is_none(), "another layout");
        assert!(spares.take(Layout::new::<[u64; 11]>()).is_none(), "another one on that shelf");
        if let Some(spare) = spares.take(Layout::new::<[u64; 3]>()) {
            assert_eq!(*Boxed::fill(spare, || [7_u64, 8, 9]), [7, 8, 9]);
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
