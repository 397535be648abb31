//! The shipped slab once more, with shelves and regions that nobody else takes from.

#[path = "../../src/slab/boxed.rs"]
mod boxed;
#[path = "../../src/slab/class.rs"]
mod class;
#[allow(dead_code, reason = "large tables are not made here")]
#[path = "../../src/slab/huge.rs"]
mod huge;
#[path = "../../src/slab/links.rs"]
mod links;
#[path = "../../src/slab/memory.rs"]
mod memory;
#[path = "../../src/slab/page.rs"]
mod page;
#[path = "../../src/slab/region.rs"]
mod region;
#[path = "../../src/slab/shelf.rs"]
mod shelf;

pub(crate) use boxed::Boxed;
pub(crate) use class::spent;
pub(crate) use memory::Memory;

/// Bytes that the slab says it has from the allocator, and how many of them are in places.
pub(crate) fn usage() -> (usize, usize) {
    (region::held(), shelf::out())
}
