//! Sizes of places, and who is served.
//!
//! 1. Places of a class are as large as each other, a multiple of 8, and aligned as their size
//!    allows, up to a cache line.
//!
//! Used by `memory` and `shelf`.

use std::alloc::Layout;

/// Steps of eight bytes up to here: versions, and records of numbers. Larger records own memory
/// elsewhere as a rule, and stay with it: when values leave memory, the allocator, which gives
/// little back to the system, has room for the records of more keys.
const FINE: usize = 48;
/// Steps of a cache line from here, and up to there: the leaves.
const GAP: usize = 128;
const COARSE: usize = 1280;
const LINE: usize = 64;

pub(super) const CLASSES: usize = FINE / 8 + (COARSE - GAP) / LINE;

/// Whether everything goes to the global allocator.
const IS_PLAIN: bool = cfg!(any(miri, palisade_plain_memory));

/// The class that serves a layout, if one does.
#[inline]
pub(super) const fn class_of(layout: Layout) -> Option<usize> {
    let size = if layout.size() == 0 { 1 } else { layout.size() };
    if IS_PLAIN || size > COARSE || (size > FINE && size <= GAP) {
        return None;
    }
    let class = if size <= FINE {
        size.div_ceil(8) - 1
    } else {
        FINE / 8 + (size - GAP).div_ceil(LINE) - 1
    };
    let alignment = 1 << size_of_class(class).trailing_zeros();
    if layout.align() <= alignment && layout.align() <= LINE { Some(class) } else { None }
}

/// How large the places of a class are.
#[inline]
pub(super) const fn size_of_class(class: usize) -> usize {
    let fine = FINE / 8;
    if class < fine { (class + 1) * 8 } else { GAP + (class - fine + 1) * LINE }
}

/// Bytes that a thing of this layout takes.
#[must_use]
pub(crate) const fn spent(layout: Layout) -> usize {
    match class_of(layout) {
        Some(class) => size_of_class(class),
        None => crate::heap::allocated(layout.size()),
    }
}
