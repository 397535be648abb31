//! What of the index is asked for before it is needed: a line of a block, the ends of an object.
//!
//! Used by `content`, `cursor`, `leaf`, `search` and `walk`.

use std::ptr::NonNull;

use crate::epoch::prefetch::prefetch as ask;

const LINE: usize = 64;

/// Asks for the cache line `line` lines behind `start`.
#[inline]
pub(super) fn prefetch(start: NonNull<u8>, line: usize) {
    ask(start.as_ptr().wrapping_add(line * LINE));
}

/// Asks for the first and the last line of an object, which may lie across two.
#[inline]
pub(super) fn prefetch_object<T>(object: NonNull<T>) {
    let start = object.cast::<u8>().as_ptr();
    ask(start);
    if size_of::<T>() > SMALL {
        ask(start.wrapping_add(size_of::<T>() - 1));
    }
}

/// Objects up to this size lie within one line, as allocators place them.
const SMALL: usize = 16;
