//! Memory for the many small things that an index is made of, side by side on few large pages.
//!
//! ```text
//! region   2 MiB, one huge page if the system has one │ itself │ page │ page │ ...   127 pages
//! page     16 KiB, aligned to its size                │ header │ place │ place │ ... of one size
//! shelf    pages with free places, of one size and one shard of the threads ─► page ─► page
//! ```
//!
//! A search touches a leaf, a record and a version. An allocator for everything puts them anywhere,
//! and among millions of them each costs a walk through the page tables besides the data. Here
//! they lie on pages of their own, without a word between them, and those in huge pages: a tenth
//! of the memory less, and a walk that is short. Larger records own memory elsewhere as a rule, and
//! stay with the allocator: see `class`.
//!
//! 1. A place belongs to one page, and a page with a place out to one shelf and one size.
//! 2. The header and the free places of a page are touched under its shelf's lock; but to which
//!    shelf it belongs may be read by whoever holds one of its places.
//! 3. A page is in its shelf's list exactly while it has a free place; a region likewise in the
//!    list of regions, by its free pages.
//! 4. A shelf keeps one page without a place out, and none if nothing of it is out at all. With
//!    regions it is the same. So when everything is freed, everything is given back.
//! 5. Which requests are served here depends on their layout alone; the others go to the global
//!    allocator, and so does everything under checkers that want to see each thing by itself
//!    (Miri, and whoever builds with `--cfg palisade_plain_memory`).
//!
//! Lock order: a shelf, then the regions. No code of the user runs in here but his global
//! allocator.
//! After: Bonwick, "The Slab Allocator" (1994); pages found by masking as in mimalloc.
//! Used by `epoch`, `skiplist`, `ssi`, `mvcc`, and by `evict` for its tables.

mod boxed;
mod class;
mod huge;
mod links;
mod memory;
mod page;
mod region;
mod shelf;
#[cfg(test)]
mod tests;

pub(crate) use boxed::Boxed;
pub(crate) use class::spent;
pub(crate) use huge::roomy;
pub(crate) use memory::Memory;

/// Bytes of memory that the whole process has from the allocator for places, and how many of them
/// are in places that are out.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn usage() -> (usize, usize) {
    (region::held(), shelf::out())
}
