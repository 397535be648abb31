//! What of the index is asked for before it is needed: a line of a block.
//!
//! Used by `content` and `leaf`.

use std::ptr::NonNull;

use crate::epoch::prefetch::prefetch as ask;

const LINE: usize = 64;

/// Asks for the cache line `line` lines behind `start`.
#[inline]
pub(super) fn prefetch(start: NonNull<u8>, line: usize) {
    ask(start.as_ptr().wrapping_add(line * LINE));
}
